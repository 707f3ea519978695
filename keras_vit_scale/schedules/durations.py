"""Durations as users write them, such as "90 epochs", made steps once, at the boundary."""

import difflib
import math
import re
from fractions import Fraction

from keras_vit_scale.checks import is_whole

# What a duration in this unit is made steps with.
NEEDED = {
    "steps": (),
    "images": ("batch_size",),
    "epochs": ("images", "batch_size"),
    "%": ("total_steps",),
}
MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}

# A number such as 500, 2.5, 1.2e9 or 16,000,000, perhaps a multiple, and a unit. Two digits of
# exponent are enough, and keep the exact arithmetic below small.
DURATION = re.compile(
    r"\s*(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)"
    r"\s*(?P<multiple>[kMB]?)\s*(?P<unit>%|[a-zA-Z]+)\s*"
)


def steps(
    duration: int | str,
    *,
    batch_size: int | None = None,
    images: int | None = None,
    total_steps: int | None = None,
) -> int:
    """A duration in steps, updates of the weights, to the nearest step (halves up).

    A positive duration is one step at least.

    Args:
        duration: Whole steps; or a number and a unit:

            "500 steps"         as it is
            "1.2e9 images"      images seen; needs `batch_size`
            "2.5 epochs"        passes over the data; needs `images` and `batch_size`
            "10%"               of the run, at most 100; needs `total_steps`

            Thousands may be set apart, "16,000,000 images", or multiples written
            "k", "M" and "B" (a thousand million): "3B images".
        batch_size: Images in a step.
        images: Images in the data set.
        total_steps: Steps of the whole run.

    Raises:
        TypeError: If `duration` is neither a whole number nor a string.
        ValueError: If it cannot be read, is negative or over 100 %, an argument
            that its unit needs is missing, or one that is given is not a positive
            whole number.

    Example:

    >>> from keras_vit_scale.schedules import steps
    >>> steps("90 epochs", images=1_281_167, batch_size=4096)
    28151
    >>> steps("3B images", batch_size=4096), steps("10 %", total_steps=20_000)
    (732422, 2000)
    """
    given = {"batch_size": batch_size, "images": images, "total_steps": total_steps}
    for name, value in given.items():
        if value is not None and not (is_whole(value) and value > 0):
            raise ValueError(
                f"`{name}` must be a positive whole number. Received: {name}={value!r}"
            )
    if is_whole(duration):
        if duration < 0:
            raise ValueError(f"A duration must not be negative. Received: {duration}")
        return int(duration)
    if not isinstance(duration, str):
        raise TypeError(
            "A duration must be a whole number of steps or a string such as '90 epochs'. "
            f"Received: {duration!r}"
        )
    amount, unit = parse(duration)
    known = {name: int(value) for name, value in given.items() if value is not None}
    missing = [name for name in NEEDED[unit] if name not in known]
    if missing:
        raise ValueError(
            f"To make steps of {duration!r}, {' and '.join(f'`{m}`' for m in missing)} must be "
            f"given too. Received: {', '.join(f'{n}={v}' for n, v in given.items())}"
        )
    if unit == "images":
        amount /= known["batch_size"]
    elif unit == "epochs":
        amount *= Fraction(known["images"], known["batch_size"])
    elif unit == "%":
        amount *= Fraction(known["total_steps"], 100)
    return max(math.floor(amount + Fraction(1, 2)), 1 if amount > 0 else 0)


def parse(duration: str) -> tuple[Fraction, str]:
    """The exact amount and the unit, a key of `NEEDED`, that a string such as "2.5 epochs" says.

    Raises:
        ValueError: If it says none, or more than 100 %.
    """
    match = DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(
            "A duration must be a finite number that is not negative, and a unit, such as "
            f"'500 steps' or '1.2e9 images'. Received: {duration!r}"
        )
    written = match["unit"]
    unit = next((u for u in NEEDED if written in (u, u.removesuffix("s"))), None)
    if unit is None:
        close = difflib.get_close_matches(written.lower(), NEEDED, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ValueError(
            f"The unit of a duration must be one of {list(NEEDED)}. Received: {duration!r}{hint}"
        )
    amount = Fraction(match["number"].replace(",", "")) * MULTIPLES[match["multiple"]]
    if unit == "%" and amount > 100:
        raise ValueError(f"A part of a run must be at most 100 %. Received: {duration!r}")
    return amount, unit
