"""Decoupled weight decay, chosen by the paths of the variables."""

import re
from collections.abc import Mapping, Sequence


def head_and_body(head: float, body: float) -> dict[str, float]:
    """Weight decays of the classifier's kernel and of every other kernel.

    The paper's pre-training uses 3.0 and 0.03: a strong decay of the head
    alone costs some upstream accuracy and improves transfer.

    Source: Zhai et al., arXiv 2106.04560, section 3.1 and Figure 5.

    Example:

    >>> from keras_vit_scale.optimizers import head_and_body
    >>> head_and_body(3.0, 0.03)
    {'(^|/)head/kernel$': 3.0, 'kernel$': 0.03}
    """
    return {r"(^|/)head/kernel$": head, r"kernel$": body}


def check_decay(decay: float | Mapping[str, float] | None) -> None:
    """Refuses what is neither None, a number that is not negative, nor a mapping to such.

    Raises:
        ValueError: If a decay is negative or a pattern is no regular expression.
    """
    rules = decay if isinstance(decay, Mapping) else {"kernel$": 0.0 if decay is None else decay}
    for pattern, value in rules.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ValueError(
                "A weight decay must be a number that is not negative. "
                f"Received: {value!r} for {pattern!r}"
            )
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"A weight decay's pattern must be a regular expression. Received: {pattern!r}"
            ) from error


def decays_by_path(decay: float | Mapping[str, float] | None, paths: Sequence[str]) -> list[float]:
    """The weight decay of each variable path.

    Args:
        decay: `None` for none; a number, for every path that ends in "kernel";
            or a mapping of regular expressions to numbers, of which a path takes
            the first that is found in it, and none if none is.
        paths: Paths of the variables, such as "encoder/query_kernel".

    Raises:
        ValueError: If a pattern of a mapping decides for no path at all: most
            often it is misspelt.

    Example:

    >>> from keras_vit_scale.optimizers.decay import decays_by_path
    >>> decays_by_path({"head/kernel": 3.0, "kernel": 0.1}, ["a/kernel", "a/bias", "head/kernel"])
    [0.1, 0.0, 3.0]
    """
    check_decay(decay)
    if not isinstance(decay, Mapping):
        return [float(decay or 0.0) if path.endswith("kernel") else 0.0 for path in paths]
    first = [next((p for p in decay if re.search(p, path)), None) for path in paths]
    unused = [pattern for pattern in decay if pattern not in first]
    if unused:
        raise ValueError(
            "Each pattern of `weight_decay` must decide for a variable. "
            f"Received: {unused}, which match nothing or only what earlier patterns took. "
            f"The variables are {list(paths)}"
        )
    return [float(decay[pattern]) if pattern is not None else 0.0 for pattern in first]
