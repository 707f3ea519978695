"""Dividing a source into parts that share no image."""

from collections.abc import Sequence

import numpy as np

from keras_vit_scale.data.labels import check_single
from keras_vit_scale.data.sources import Source, Subset


def hold_out(
    source: Source, count: int | float, seed: int = 0, *, stratified: bool = False
) -> tuple[Subset, Subset]:
    """A source without `count` random images, and those images.

    So is made the upstream validation set that no run trains on: `hold_out(source, 0.01)`.

    Args:
        source: The whole.
        count: How many images, an integer; or their share, a float between 0 and 1.
        seed: Decides which.
        stratified: Take from each class its share, to within one image, and not
            whichever come.

    Returns:
        The rest and the images held out, both in the order of the source.

    Raises:
        ValueError: If the count is neither, or nothing would be left of either part.

    Example:

    >>> from keras_vit_scale.data import digits, hold_out
    >>> rest, held_out = hold_out(digits(), 597)
    >>> len(rest), len(held_out)
    (1200, 597)
    >>> len(hold_out(digits(), 0.01)[1])
    18
    """
    total = len(source)
    if isinstance(count, float) and 0 < count < 1:
        images = round(count * total)
    elif isinstance(count, int | np.integer) and not isinstance(count, bool):
        images = int(count)
    else:
        raise ValueError(
            "The images held out must be a number of images or a share between 0 and 1. "
            f"Received: {count!r}"
        )
    if not 0 < images < total:
        raise ValueError(
            "The number of images held out must leave some on both sides. "
            f"Received: {count} of {total}"
        )
    if stratified:
        check_single(source.labels, "a stratified part")
    order = np.random.default_rng(seed).permutation(total)
    held = _of_each_class(order, source.labels, images) if stratified else np.arange(images)
    return Subset(source, np.sort(np.delete(order, held))), Subset(source, np.sort(order[held]))


def _of_each_class(order, labels, images):
    """Positions in `order` of `images` of them, from each class its share, to within one image.

    A class's share of the images is rounded down; those left over go to the classes that
    lost most, and among equals to the first (Hamilton's method).
    """
    classes, positions = np.unique(labels[order], return_inverse=True)
    share = np.bincount(positions) * images / len(order)
    take = np.floor(share).astype(int)
    take[np.argsort(take - share, kind="stable")[: images - take.sum()]] += 1
    chosen = [np.flatnonzero(positions == c)[: take[c]] for c in range(len(classes))]
    return np.concatenate(chosen)


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
    check_single(source.labels, "a part by classes")
    held = [i for i, name in enumerate(source.class_names) if name in names]
    rest = [i for i, name in enumerate(source.class_names) if name not in names]
    inside = np.isin(source.labels, held)
    return (
        Subset(source, np.flatnonzero(~inside), rest),
        Subset(source, np.flatnonzero(inside), held),
    )
