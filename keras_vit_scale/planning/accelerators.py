"""What an accelerator can do: FLOP/s and memory at best, and the part of it training reaches."""

import difflib
import re
from dataclasses import dataclass

import keras

from keras_vit_scale.checks import check_numbers, check_one_of, check_positive

_T, _GIB = 1e12, 2**30

#: Names of the floating-point types that a peak can be asked for.
DTYPES = ("float16", "bfloat16", "float32")

#: Part of an accelerator's peak that training is taken to reach (model FLOPs utilization, MFU).
#: Published for large transformers: 21 to 46 % (Chowdhery et al., arXiv 2204.02311, table 3), and
#: 55 % for ViT-22B (Dehghani et al., arXiv 2302.05442). Your own is what `Throughput` shows.
TYPICAL_MFU = 0.4


@dataclass(frozen=True)
class Accelerator:
    """Published peaks of one accelerator, without structured sparsity; or a row of your own.

    Matrix products with float16 or bfloat16 factors are summed in float32, as
    frameworks do. `float32` is what the maker publishes for full float32, so TF32
    is not in it: where a framework uses TF32 (JAX on NVIDIA does, unless told
    otherwise), float32 matrix products can be faster than this.

    Args:
        name: Such as "H100 SXM". TPUs v2 and v3 come per chip and per core, which
            is the device that frameworks see and the paper counts; from v4 on the
            device is the chip.
        float16: FLOP/s, or `None` where the hardware has no such products.
        bfloat16: FLOP/s, or `None` likewise.
        float32: FLOP/s, or `None` where the maker publishes none, as for TPUs.
        memory: Bytes, the nominal size; the runtime keeps some of it.
        reported_as: Regular expression for the whole name by which a driver
            reports the device; by default none does.
        mfu: Part of the peak that training typically reaches: an assumption, for
            TPU v3 the one that the paper's published cost implies.

    Raises:
        ValueError: If a number is not positive, or `mfu` not in (0, 1].

    Example:

    >>> from keras_vit_scale.planning import Accelerator
    >>> Accelerator("mine", None, 200e12, 50e12, memory=48 * 2**30, mfu=0.3).peak("bfloat16")
    200000000000000.0
    """

    name: str
    float16: float | None
    bfloat16: float | None
    float32: float | None
    memory: int
    reported_as: str = "(?!)"
    mfu: float = TYPICAL_MFU

    def __post_init__(self):
        peaks = {dtype: getattr(self, dtype) for dtype in DTYPES}
        check_positive(**{dtype: peak for dtype, peak in peaks.items() if peak is not None})
        check_positive(memory=self.memory)
        check_numbers("in (0, 1]", lambda value: 0 < value <= 1, mfu=self.mfu)

    def peak(self, dtype: str) -> float | None:
        """FLOP/s of matrix products with factors of a type, `None` if there is no such number.

        Raises:
            ValueError: If the type is none of `DTYPES`.

        Example:

        >>> from keras_vit_scale.planning import accelerator
        >>> accelerator("A100-80GB").peak("bfloat16")
        312000000000000.0
        """
        check_one_of(DTYPES, dtype=dtype)
        return getattr(self, dtype)


def _tpu(name, bfloat16, memory, reported_as, **options):
    return Accelerator(name, None, bfloat16 * _T, None, memory * _GIB, reported_as, **options)


def _gpu(name, float16, bfloat16, float32, memory, reported_as):
    bfloat16 = bfloat16 and bfloat16 * _T
    return Accelerator(name, float16 * _T, bfloat16, float32 * _T, memory * _GIB, reported_as)


# A device that shares its silicon with another's (MIG) is reported by a longer name, and matches
# none of these.
_TABLE = [
    # Jouppi et al., "A Domain-Specific Supercomputer for Training Deep Neural Networks",
    # Communications of the ACM 63(7), 2020, table 3: 46 TFLOP/s and 16 GiB a chip of two cores.
    _tpu("TPU v2 core", 23, 8, r"TPU v2"),
    _tpu("TPU v2", 46, 16, r"TPU v2 chip"),
    # Google Cloud, "TPU v3": 123 TFLOP/s and 32 GiB a chip of two cores.
    # Its part of the peak: 34 TFLOP/s a core (see `compute.py`).
    _tpu("TPU v3 core", 61.5, 16, r"TPU v3", mfu=0.55),
    _tpu("TPU v3", 123, 32, r"TPU v3 chip", mfu=0.55),
    # Google Cloud, "TPU v4".
    _tpu("TPU v4", 275, 32, r"TPU v4"),
    # Google Cloud, "TPU v5e".
    _tpu("TPU v5e", 197, 16, r"TPU v5 ?(e|lite)"),
    # Google Cloud, "TPU v5p".
    _tpu("TPU v5p", 459, 95, r"TPU v5p?"),
    # Google Cloud, "TPU v6e".
    _tpu("TPU v6e", 918, 32, r"TPU v6 ?(e|lite)"),
    # NVIDIA, "V100 Tensor Core GPU" data sheet, SXM2. No bfloat16 products before Ampere.
    _gpu("V100-16GB", 125, None, 15.7, 16, r"Tesla V100-SXM2-16GB"),
    _gpu("V100-32GB", 125, None, 15.7, 32, r"Tesla V100-SXM[23]-32GB"),
    # NVIDIA, "T4 Tensor Core GPU" data sheet.
    _gpu("T4", 65, None, 8.1, 16, r"(NVIDIA |Tesla )?T4"),
    # NVIDIA, "A10G" data sheet, published by AWS for its G5 instances.
    _gpu("A10G", 70, 70, 35, 24, r"NVIDIA A10G"),
    # NVIDIA, "L4 Tensor Core GPU" data sheet: half of the numbers with sparsity.
    _gpu("L4", 121, 121, 30.3, 24, r"NVIDIA L4"),
    # NVIDIA, "A100 Tensor Core GPU" data sheet; SXM and PCIe alike.
    _gpu("A100-40GB", 312, 312, 19.5, 40, r"(NVIDIA )?A100-(SXM4|PCIE)-40GB"),
    _gpu("A100-80GB", 312, 312, 19.5, 80, r"NVIDIA A100(-SXM4-80GB| 80GB PCIe)"),
    # NVIDIA, "H100 Tensor Core GPU Architecture" white paper and data sheet.
    _gpu("H100 SXM", 989.4, 989.4, 66.9, 80, r"NVIDIA H100 80GB HBM3"),
    _gpu("H100 PCIe", 756, 756, 51.2, 80, r"NVIDIA H100 PCIe"),
    # NVIDIA, "H200 Tensor Core GPU" data sheet, SXM: the silicon of the H100 SXM.
    _gpu("H200", 989.4, 989.4, 66.9, 141, r"NVIDIA H200"),
    # NVIDIA, "Blackwell Architecture" data sheet, HGX B200, one GPU of eight: half of the
    # numbers with sparsity.
    _gpu("B200", 2250, 2250, 75, 180, r"NVIDIA B200"),
    # NVIDIA, "Ampere GA102 GPU Architecture" white paper: products summed in float32.
    _gpu("RTX 3090", 71, 71, 35.6, 24, r"NVIDIA GeForce RTX 3090"),
    # NVIDIA, "Ada GPU Architecture" white paper: products summed in float32.
    _gpu("RTX 4090", 165.2, 165.2, 82.6, 24, r"NVIDIA GeForce RTX 4090"),
    # NVIDIA, "RTX Blackwell GPU Architecture" white paper: products summed in float32.
    _gpu("RTX 5090", 209.5, 209.5, 104.8, 32, r"NVIDIA GeForce RTX 5090"),
]

#: Accelerators by name.
ACCELERATORS = {a.name: a for a in _TABLE}


def accelerator(name: str) -> Accelerator:
    """The accelerator of a name in `ACCELERATORS`.

    Raises:
        ValueError: If there is none, naming those that come near.

    Example:

    >>> from keras_vit_scale.planning import accelerator
    >>> accelerator("TPU v3 core").memory // 2**30
    16
    """
    if name not in ACCELERATORS:
        by_folded = {n.casefold(): n for n in ACCELERATORS}
        close = difflib.get_close_matches(str(name).casefold(), by_folded, n=3, cutoff=0.4)
        near = [by_folded[n] for n in close] or sorted(ACCELERATORS)
        raise ValueError(
            f"`name` must be the name of an accelerator. Received: name={name!r}. "
            f"Did you mean one of {near}?"
        )
    return ACCELERATORS[name]


def recognised(reported: str) -> Accelerator | None:
    """The accelerator that a driver reports by this name, or `None`.

    Example:

    >>> from keras_vit_scale.planning import recognised
    >>> recognised("NVIDIA H100 80GB HBM3").name
    'H100 SXM'
    >>> recognised("NVIDIA H100 80GB HBM3 MIG 1g.10gb") is None
    True
    """
    return next((a for a in _TABLE if re.fullmatch(a.reported_as, reported)), None)


def this_accelerator() -> Accelerator | None:
    """The first accelerator that the running backend sees; `None` on a CPU or an unknown one."""
    reported = _reported_name()
    return None if reported is None else recognised(reported)


def _reported_name() -> str | None:
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        device = jax.local_devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return (
            tf.config.experimental.get_device_details(gpus[0]).get("device_name") if gpus else None
        )
    return None
