"""Ranges of settings: what a search may choose from."""

from typing import Any

from keras_vit_scale.checks import is_real

#: A list of choices; or the two ends of a range, in which ratios count: (1e-4, 1e-2).
Range = list[Any] | tuple[float, float]


def check_ranges(**ranges: Any) -> None:
    """Refuses what is neither a list of choices nor the ends of a range.

    Raises:
        ValueError: Naming the first that is not.

    Example:

    >>> from keras_vit_scale.tuning.ranges import check_ranges
    >>> check_ranges(peak=(0, 1e-2))
    Traceback (most recent call last):
        ...
    ValueError: `peak` must be a list of choices, or a tuple of two ends, 0 < low < high, ...
    """
    for name, values in ranges.items():
        if isinstance(values, list):
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"A list of choices must have some, each once. Received: {name}={values!r}"
                )
            if any(is_real(value) and value < 0 for value in values):
                raise ValueError(f"Choices must not be negative. Received: {name}={values!r}")
        elif not (
            isinstance(values, tuple)
            and len(values) == 2
            and all(is_real(end) for end in values)
            and 0 < values[0] < values[1] < float("inf")
        ):
            raise ValueError(
                f"`{name}` must be a list of choices, or a tuple of two ends, 0 < low < high, "
                "between which ratios count (a list may hold a zero). "
                f"Received: {name}={values!r}"
            )


def choose(hp: Any, name: str, values: Range) -> Any:
    """The value of a setting in a trial; the search learns of the range.

    Args:
        hp: KerasTuner's hyperparameters of the trial.
        name: The setting.
        values: Its range.
    """
    if isinstance(values, list):
        return hp.Choice(name, values)
    low, high = values
    # The middle is what a search begins with.
    return hp.Float(name, low, high, sampling="log", default=(low * high) ** 0.5)
