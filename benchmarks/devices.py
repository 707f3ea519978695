"""What the benchmarks ask of a framework: its device, when that is done, and what it can do.

The three frameworks answer the same four questions, so that a contestant of any of them is
measured in the same way. Each is imported only when it is asked for.
"""

import time
from importlib import import_module
from pathlib import Path

import numpy as np


class Jax:
    def __init__(self):
        self.jax = import_module("jax")
        self.device = self.jax.devices()[0]

    def name(self):
        return cpu_name() if self.device.platform == "cpu" else self.device.device_kind

    def wait(self, value):
        # All that one compiled step returns is ready together.
        self.jax.block_until_ready(value)

    def peak_memory(self):
        statistics = self.device.memory_stats() or {}
        return statistics.get("peak_bytes_in_use")

    def product(self, matrix, dtype):
        x = self.jax.numpy.asarray(matrix, dtype)
        multiply = self.jax.jit(self.jax.numpy.matmul)
        return lambda: multiply(x, x)


class TensorFlow:
    def __init__(self):
        self.tf = import_module("tensorflow")
        self.gpus = self.tf.config.list_physical_devices("GPU")

    def name(self):
        if not self.gpus:
            return cpu_name()
        return self.tf.config.experimental.get_device_details(self.gpus[0])["device_name"]

    def wait(self, value):
        self.tf.test.experimental.sync_devices()
        np.asarray(value)

    def peak_memory(self):
        if not self.gpus:
            return None
        return self.tf.config.experimental.get_memory_info("GPU:0")["peak"]

    def product(self, matrix, dtype):
        x = self.tf.cast(matrix, dtype)
        return lambda: self.tf.matmul(x, x)


class Torch:
    def __init__(self):
        self.torch = import_module("torch")
        self.device = "cuda" if self.torch.cuda.is_available() else "cpu"

    def name(self):
        return cpu_name() if self.device == "cpu" else self.torch.cuda.get_device_name()

    def wait(self, value):
        # The loss is ready before the update that follows it.
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def peak_memory(self):
        return self.torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def product(self, matrix, dtype):
        x = self.torch.from_numpy(matrix).to(self.device, getattr(self.torch, dtype))
        return lambda: x @ x


FRAMEWORKS = {"jax": Jax, "tensorflow": TensorFlow, "torch": Torch}


def cpu_name() -> str:
    """Model and cores that this process may use, where Linux tells."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {cores} cores"


def host_memory() -> dict[str, int]:
    """Bytes of memory of this process, now (`VmRSS`) and at most (`VmHWM`); empty beside Linux.

    Not `getrusage`: its high-water mark is inherited from the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    pairs = (line.split(":") for line in status.read_text(encoding="utf-8").splitlines())
    return {k: int(v.split()[0]) * 1024 for k, v in pairs if k in ("VmRSS", "VmHWM")}


def product_rate(framework, size: int, dtype: str, products: int = 5, trials: int = 3) -> float:
    """FLOP/s of a product of two `size` x `size` matrices, the best of a few trials."""
    matrix = np.random.default_rng(0).standard_normal((size, size), dtype="float32")
    multiply = framework.product(matrix, dtype)
    framework.wait(multiply())
    seconds = []
    for _ in range(trials):
        start = time.perf_counter()
        for _ in range(products):
            result = multiply()
        framework.wait(result)
        seconds.append(time.perf_counter() - start)
    return products * 2 * size**3 / min(seconds)
