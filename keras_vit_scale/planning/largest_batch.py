"""The largest batch with which a training step fits a device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_vit_scale.checks import check_one_of, check_positive_integers
from keras_vit_scale.distribution.cuts import Cuts
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.models.presets import preset
from keras_vit_scale.planning.accelerators import Accelerator
from keras_vit_scale.planning.estimate import Estimator, memory_to_fill
from keras_vit_scale.planning.exact import needed
from keras_vit_scale.planning.trial import run_trial

#: How it is found whether a step fits: by a model of the memory, by the compiler, by running it.
METHODS = ("estimate", "compile", "run")

#: Images beyond which nobody asks.
MOST = 2**20


@dataclass(frozen=True)
class LargestBatch:
    """What `max_batch` found.

    Args:
        batch_size: Images of a step, on all devices together.
        needed: Bytes of one device's memory with it; `None` where it was run.
        memory: Bytes that there are, `None` for all that the device has.
        trials: Whether a step fitted, by its batch, in the order in which they were tried.
    """

    batch_size: int
    needed: int | None
    memory: int | None
    trials: dict[int, bool]


def max_batch(
    config: str | ViTConfig,
    device: str | Accelerator | None = None,
    *,
    memory: float | None = None,
    method: str = "estimate",
    multiple: int = 1,
    distribution: Cuts | None = None,
    **options: Any,
) -> LargestBatch:
    """The largest batch with which a training step fits a device.

    Args:
        config: A preset's name or a `ViTConfig`.
        device: As in `estimate`.
        memory: Bytes that a device has for it; by default 96 % of the device's.
        method: "estimate", in milliseconds; "compile", which asks the compiler for each of
            about ten batches, on JAX; or "run", which runs a few steps on the device that is
            here, each batch in a process of its own.
        multiple: What the batch is to be a multiple of, beside the devices that it is cut over.
        distribution: As in `estimate`; not with "run".
        **options: `num_classes`, `image_size`, `pooling`, `positions`, `optimizer`, `dtype` and
            `remat`, as in `estimate`. With "run" the optimizer is a name.

    Raises:
        ValueError: If the memory is unknown, or holds not even the smallest batch; or an
            option is bad.

    Example:

    >>> from keras_vit_scale.planning import max_batch
    >>> found = max_batch("B/16", "RTX 4090", dtype="mixed_bfloat16", remat="full", multiple=8)
    >>> found.batch_size % 8, found.needed < 0.96 * 24 * 2**30
    (0, True)
    """
    check_one_of(METHODS, method=method)
    check_positive_integers(multiple=multiple)
    config = preset(config) if isinstance(config, str) else config
    estimator = Estimator(device=device, distribution=distribution, **options)
    if method == "run" and distribution is not None:
        raise ValueError(
            "A batch is run on one device, without a distribution. "
            f"Received: method='run', distribution={distribution!r}"
        )
    rows = 1 if distribution is None else distribution.data
    found_device = estimator.device
    have = memory_to_fill(found_device, memory, method)

    def bytes_needed(batch: int) -> int:
        if method == "estimate":
            return estimator(config, batch).needed
        settings = {**options, "optimizer": estimator.optimizer}
        return needed(config, batch, found_device, distribution, **settings)

    def fits(batch: int) -> bool:
        if method == "run":
            limit = None if memory is None else have
            return run_trial(config, batch, memory=limit, steps=1, **options).fits
        sizes[batch] = bytes_needed(batch)
        return have is None or sizes[batch] <= have

    sizes: dict[int, int] = {}
    step = multiple * rows
    # The compiler and the device are asked near what is expected; the estimate from 1 on.
    start = 1
    if method != "estimate" and have is not None:
        there = have
        expected = largest(lambda n: estimator(config, n * step).needed <= there, 1)
        start = max((n for n, fit in expected.items() if fit), default=1)
    found = {n * step: fit for n, fit in largest(lambda n: fits(n * step), start).items()}
    best = max((batch for batch, fit in found.items() if fit), default=0)
    if not best:
        said = f"{sizes[step] / 2**30:.2f} GiB" if step in sizes else "more than there is"
        raise ValueError(
            f"The memory must hold a step of at least {step} images, which needs {said}. Received: "
            f"memory of {'the device' if have is None else f'{have / 2**30:.2f} GiB'}. Less is "
            "needed with remat='full', dtype='mixed_bfloat16', Adafactor, a smaller model, or "
            "weights that are cut over devices"
        )
    return LargestBatch(best, sizes.get(best), have, found)


def largest(fits: Callable[[int], bool], start: int) -> dict[int, bool]:
    """What was tried to find the largest number that fits, where each smaller one does too.

    It doubles or halves from `start` until one fits and one does not, then halves between them.

    Example:

    >>> from keras_vit_scale.planning.largest_batch import largest
    >>> largest(lambda n: n <= 5, start=2)
    {2: True, 4: True, 8: False, 6: False, 5: True}
    """
    tried: dict[int, bool] = {}

    def ask(number: int) -> bool:
        if number not in tried:
            tried[number] = fits(number)
        return tried[number]

    low = start
    while low and not ask(low):
        low //= 2
    high = min((number for number, fit in tried.items() if not fit), default=2 * low)
    while all(tried.values()):
        if high > MOST:
            return tried
        low, high = (high, 2 * high) if ask(high) else (low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(middle) else (low, middle)
    return tried
