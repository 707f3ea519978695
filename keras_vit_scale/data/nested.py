"""Nested parts of a data set: each smaller one lies within each larger one."""

import hashlib

import numpy as np

from keras_vit_scale.checks import is_whole
from keras_vit_scale.data.labels import check_single
from keras_vit_scale.data.sources import Source, Subset

#: Steps of this part of a circle fall evenly, however many are taken.
_GOLDEN = (np.sqrt(5) - 1) / 2


def subset(
    source: Source, count: int | float, seed: int = 0, *, stratified: bool = False
) -> Subset:
    """`count` random images of a source, all of which each larger count has too.

    The images have an order that follows from the seed, each one's index and, if it is
    stratified, the labels; the first `count` of it are taken. So 1 % lies within 10 %, for
    studies of how much data help, and the choice is the same on every machine and with every
    version of NumPy, whose own shuffling is not promised to stay.

    Args:
        source: The whole.
        count: How many images, an integer; or their share, a float above 0, and 1.0 for all.
        seed: Decides which.
        stratified: Take from each class its share, to within a few images (four at most, of
            300 random tables of classes). Classes with a label each are needed.

    Returns:
        The images, in the order of the source.

    Raises:
        ValueError: If the count is neither, or is none or more than all of the images.

    Example:

    >>> from keras_vit_scale.data import digits, subset
    >>> one, ten = subset(digits(), 0.01), subset(digits(), 0.1)
    >>> len(one), len(ten), set(one.indices) < set(ten.indices)
    (18, 180, True)
    """
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"`seed` must be an integer from 0 on. Received: seed={seed!r}")
    images = _number(count, len(source))
    if stratified:
        check_single(source.labels, "a stratified subset")
    order = nested_order(len(source), int(seed), source.labels if stratified else None)
    return Subset(source, np.sort(order[:images]))


def nested_order(count: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """The indices below `count` in the order of their hashes: a permutation, int64 (N,).

    With labels, (N,), each class's images come evenly over the whole order: the r-th of m of
    them, by its hash, at (r + u) / m, where u is the class's own.

    Example:

    >>> from keras_vit_scale.data.nested import nested_order
    >>> nested_order(7, seed=0).tolist()
    [5, 4, 1, 2, 3, 0, 6]
    """
    hashes = hashed(np.arange(count), seed)
    order = np.argsort(hashes, kind="stable")
    if labels is None:
        return order
    classes, positions, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    # Those of one class, and classes of one size, follow each other.
    by_class = np.argsort(positions, kind="stable")
    rank = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    by_size = np.lexsort((hashed(classes, seed), sizes))
    begin = np.empty(len(classes))
    begin[by_size] = (np.arange(len(classes)) + 0.5) * _GOLDEN % 1
    place = (rank + np.repeat(begin, sizes)) / np.repeat(sizes, sizes)
    return order[by_class[np.lexsort((by_class, place))]]


def hashed(numbers: np.ndarray, seed: int) -> np.ndarray:
    """64 bits for each integer from 0 on, uint64 (N,): no two of one seed are equal.

    Source: the finaliser of SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom
    number generators", OOPSLA 2014, of the number and 64 bits of BLAKE2b of the seed.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data.nested import hashed
    >>> [hex(h) for h in hashed(np.arange(2), seed=0).tolist()]
    ['0xccdfce1b1aac4eb0', '0x7569fc78a5e1ba57']
    """
    key = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    x = np.asarray(numbers).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x += np.frombuffer(key, "<u8")  # modulo 2**64, as all below
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _number(count, total):
    if isinstance(count, float) and 0 < count <= 1:
        images = round(count * total)
    elif is_whole(count):
        images = int(count)
    else:
        raise ValueError(
            "The size of a subset must be a number of images, or a share above 0 and up to 1.0. "
            f"Received: {count!r}"
        )
    if not 0 < images <= total:
        raise ValueError(
            "The size of a subset must be at least one image and at most all. "
            f"Received: {count!r} of {total}"
        )
    return images
