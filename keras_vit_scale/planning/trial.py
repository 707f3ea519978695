"""Steps of training that are really run, in a process of their own, which may die for memory."""

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_vit_scale.children import child_environment
from keras_vit_scale.losses import SigmoidCrossEntropy
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.models.vit import ViT
from keras_vit_scale.planning.state import named_optimizer

#: What a process says that ended because there was no memory.
_NO_MEMORY = re.compile(
    r"out of memory|RESOURCE_?EXHAUSTED|bad_alloc|MemoryError|not enough memory|can't allocate|"
    r"Cannot allocate memory|Resource temporarily unavailable|can't start new thread",
    re.IGNORECASE,
)

#: Signals by which it ends: SIGKILL of the kernel, SIGABRT and SIGSEGV of allocations that failed.
_KILLED = (-9, -6, -11)


@dataclass(frozen=True)
class Trial:
    """Whether a step fitted, and how long it took.

    Args:
        fits: Whether it ran.
        seconds: Of a step, the median after the first; `None` if it did not run.
    """

    fits: bool
    seconds: float | None


def run_trial(
    config: ViTConfig,
    batch_size: int,
    *,
    steps: int = 3,
    memory: int | None = None,
    **options: Any,
) -> Trial:
    """Trains for a few steps in another process, on this machine's device.

    Args:
        config, batch_size: As in `estimate`.
        steps: Steps after the first, which compiles.
        memory: Bytes beyond which it does not fit; for a processor, on Linux. A GPU or TPU is
            taken as large as it is.
        **options: Of `ViT`, and `optimizer`, a name as in `estimate`; what JSON can hold.

    Raises:
        RuntimeError: If it failed for another reason than memory, with what it said.
    """
    described = {
        "config": asdict(config),
        "batch_size": batch_size,
        "steps": steps,
        "memory": memory,
        "options": options,
    }
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main()", json.dumps(described)],
        capture_output=True,
        text=True,
        check=False,
        # Compiling takes memory, and what is read instead does not: the limit must mean the same.
        env=child_environment() | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    if done.returncode == 0:
        return Trial(True, json.loads(done.stdout.splitlines()[-1])["seconds"])
    if done.returncode in _KILLED or _NO_MEMORY.search(done.stderr):
        return Trial(False, None)
    said = done.stderr.strip().splitlines()
    raise RuntimeError(f"A trial of {described} failed: {said[-1] if said else done.returncode}")


def main() -> None:
    """What the other process does: the trial that its argument describes."""
    described = json.loads(sys.argv[1])
    options = described["options"]
    optimizer = options.pop("optimizer", None)
    config = ViTConfig(**described["config"])
    if described["memory"] is not None:
        # What the backend takes for itself, and to compile, is no part of the step: a step of next
        # to no model has it taken before (on JAX 0.4 GB, which stay).
        least = ViTConfig(width=4, depth=1, mlp_dim=1, heads=1, patch_size=config.patch_size)
        training_step(least, 1, named_optimizer(optimizer), **options)()
        _limit(described["memory"])
    step = training_step(config, described["batch_size"], named_optimizer(optimizer), **options)
    seconds = []
    for _ in range(described["steps"] + 1):
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    print(json.dumps({"seconds": statistics.median(seconds[1:])}))


def training_step(
    config: ViTConfig, batch_size: int, optimizer: keras.optimizers.Optimizer, **options: Any
) -> Callable[[], Any]:
    """A step of training on images of nothing, as a function.

    It gives the loss as a number, and so has waited for the device.

    Args:
        config, batch_size: As in `estimate`.
        optimizer: Which trains the model from now on.
        **options: Of `ViT`.
    """
    model = ViT(config, **options)
    model.compile(optimizer, SigmoidCrossEntropy())
    images = np.zeros((batch_size, *model.input_shape[1:]), "float32")
    labels = np.zeros(batch_size, "int32")
    return lambda: model.train_on_batch(images, labels)


def _limit(memory: int) -> None:
    """Lets this process have so many bytes more than it has now."""
    import resource

    with open("/proc/self/status", encoding="utf-8") as file:
        (held,) = re.findall(r"VmData:\s+(\d+) kB", file.read())
    resource.setrlimit(resource.RLIMIT_DATA, (int(held) * 1024 + memory,) * 2)
