"""Dividing a source into parts that share no image."""

from collections.abc import Sequence

import numpy as np

from keras_vit_scale.data.sources import Source, Subset


def hold_out(source: Source, count: int, seed: int = 0) -> tuple[Subset, Subset]:
    """A source without `count` random images, and those images.

    Raises:
        ValueError: If nothing would be left of either part.

    Example:

    >>> from keras_vit_scale.data import digits, hold_out
    >>> rest, held_out = hold_out(digits(), 597)
    >>> len(rest), len(held_out)
    (1200, 597)
    """
    if not 0 < count < len(source):
        raise ValueError(
            "The number of images held out must leave some on both sides. "
            f"Received: {count} of {len(source)}"
        )
    order = np.random.default_rng(seed).permutation(len(source))
    return Subset(source, np.sort(order[count:])), Subset(source, np.sort(order[:count]))


def hold_out_classes(source: Source, names: Sequence[str]) -> tuple[Subset, Subset]:
    """The images of all other classes, and those of the classes `names`.

    Raises:
        ValueError: If a name is unknown or no class would be left.

    Example:

    >>> from keras_vit_scale.data import digits, hold_out_classes
    >>> rest, held_out = hold_out_classes(digits(), ["7", "3"])
    >>> rest.class_names, held_out.class_names
    (('0', '1', '2', '4', '5', '6', '8', '9'), ('3', '7'))
    """
    unknown = sorted(set(names) - set(source.class_names))
    if unknown or not names or set(names) == set(source.class_names):
        raise ValueError(
            "Classes held out must be some, but not all, of the source's. "
            f"Received: {list(names)}; the source has {list(source.class_names)}"
        )
    held = [i for i, name in enumerate(source.class_names) if name in names]
    rest = [i for i, name in enumerate(source.class_names) if name not in names]
    inside = np.isin(source.labels, held)
    return (
        Subset(source, np.flatnonzero(~inside), rest),
        Subset(source, np.flatnonzero(inside), held),
    )
