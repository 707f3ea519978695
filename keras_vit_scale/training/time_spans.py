"""Spans of time as users and schedulers write them, in seconds."""

import math
import numbers
import re

_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


def seconds(span: float | str, name: str = "span") -> float:
    """A span of time in seconds: a number of them, "90m", "1h30m", "11:30:00" or "2-00:00:00".

    The last two are hours, minutes and seconds, perhaps after days, as SLURM writes them.

    Raises:
        ValueError: If it cannot be read or is not positive.

    Example:

    >>> from keras_vit_scale.training.time_spans import seconds
    >>> seconds("1h30m"), seconds("2-00:00:01"), seconds("45"), seconds(2.5)
    (5400.0, 172801.0, 45.0, 2.5)
    """
    found = _read(span)
    if found is None or not 0 < found < math.inf:
        raise ValueError(
            f'`{name}` must be positive seconds, or a text such as "90m", "1h30m" or "11:30:00". '
            f"Received: {name}={span!r}"
        )
    return found


def _read(span):
    if isinstance(span, numbers.Real) and not isinstance(span, bool):
        return float(span)
    if not isinstance(span, str):
        return None
    text = span.replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _CLOCK.fullmatch(text) or _UNITS.fullmatch(text)
    if parts is None:
        return None
    days, hours, minutes, rest = (float(part or 0) for part in parts.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + rest
