"""Checks of options that are given by name: each error states the rule and the value."""

import math
import numbers
from collections.abc import Callable, Collection
from typing import Any, TypeGuard


def is_real(value: object) -> bool:
    """Whether a value is a real number of any kind; `True` and `False` are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of any kind; `True` and `False` are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_one_of(options: Collection[object], **values: Any) -> None:
    """Refuses a value that is none of `options`.

    Raises:
        ValueError: Naming the first that is not.

    Example:

    >>> from keras_vit_scale.checks import check_one_of
    >>> check_one_of(("tanh", "exact"), gelu="tahn")
    Traceback (most recent call last):
        ...
    ValueError: `gelu` must be one of ('tanh', 'exact'). Received: gelu='tahn'
    """
    for name, value in values.items():
        if value not in options:
            raise ValueError(
                f"`{name}` must be one of {tuple(options)}. Received: {name}={value!r}"
            )


def check_numbers(rule: str, holds: Callable[[Any], bool], **values: Any) -> None:
    """Refuses a value that is no number, or of which `holds` does not hold.

    Raises:
        ValueError: Naming the first that is; it states the `rule`.
    """
    for name, value in values.items():
        if not is_real(value) or not holds(value):
            raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")


def check_positive(**values: Any) -> None:
    """Refuses a value that is not a finite number above 0.

    Raises:
        ValueError: Naming the first that is not.
    """
    check_numbers("positive", lambda value: 0 < value < math.inf, **values)


def check_rates(**values: Any) -> None:
    """Refuses a value that is not a number in [0, 1).

    Raises:
        ValueError: Naming the first that is not.
    """
    check_numbers("in [0, 1)", lambda value: 0 <= value < 1, **values)


def check_fractions(**values: Any) -> None:
    """Refuses a value that is not a number in (0, 1).

    Raises:
        ValueError: Naming the first that is not.
    """
    check_numbers("in (0, 1)", lambda value: 0 < value < 1, **values)


def check_positive_integers(**values: Any) -> None:
    """Refuses a value that is not a positive integer of Python's own.

    Raises:
        ValueError: Naming the first that is not.
    """
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
