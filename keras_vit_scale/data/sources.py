"""Where images come from: sized, indexable sources of (image, label).

An image is uint8, (H, W, channels) with one channel or three; a label is an integer in
[0, classes), a list of several, or a share of each: `data/labels.py` says how. `labels` holds
them all without decoding an image.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture, read_from
from keras_vit_scale.data.labels import check_labels, check_single


class Source(Protocol):
    """Anything with a length, items (image, label), all labels, and names of the classes."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]: ...


class ArraySource:
    """Images held in memory.

    Args:
        images: uint8, (N, H, W) for grey or (N, H, W, channels) with 1 or 3 channels.
        labels: Integers, (N,), in [0, classes). Or lists of several, integers (N, k), filled up
            with -1 (`label_lists` makes them); or a share of each class, floats (N, C).
        class_names: Names of the classes; by default "0", "1", ... to the largest label.

    Raises:
        ValueError: If the arrays are empty, of the wrong type or shape, of
            different lengths, a label is outside its range, or a name is there twice.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import ArraySource
    >>> source = ArraySource(np.zeros((3, 8, 8), "uint8"), [0, 1, 1])
    >>> len(source), source[2][0].shape, source.class_names
    (3, (8, 8, 1), ('0', '1'))
    """

    def __init__(
        self, images: ArrayLike, labels: ArrayLike, class_names: Sequence[str] | None = None
    ):
        images = np.asarray(images)
        if images.ndim == 3:
            images = images[..., None]
        check_images(images)
        self.images = images
        self.labels, self.class_names = check_labels(labels, class_names, len(images))

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        return self.images[index], label_at(self.labels, index)


class Subset(CuttingSource):
    """Some images of a source, in the given order.

    Args:
        source: The whole.
        indices: Which of its images.
        classes: Indices of the classes to keep as this subset's classes, renumbered
            in that order; all of them, as they are, by default.

    Raises:
        ValueError: If there is no image, or one is of a class not kept.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import ArraySource, Subset
    >>> whole = ArraySource(np.zeros((3, 8, 8), "uint8"), [0, 2, 2])
    >>> Subset(whole, [2, 1], classes=[2]).labels
    array([0, 0])
    """

    def __init__(self, source: Source, indices: ArrayLike, classes: Sequence[int] | None = None):
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        labels, names = source.labels[self.indices], source.class_names
        if classes is not None:
            check_single(labels, "a subset of the classes")
            kept = {c: i for i, c in enumerate(classes)}
            if not set(labels.tolist()) <= set(kept):
                raise ValueError(
                    "The images of a subset must be of its classes. "
                    f"Received: classes={list(classes)}, labels {sorted(set(labels.tolist()))}"
                )
            labels = np.array([kept[label] for label in labels.tolist()], dtype=np.int64)
            names = tuple(names[c] for c in classes)
        self.labels, self.class_names = check_labels(labels, names, len(self.indices))

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        image, _ = read_from(self.source, int(self.indices[index]), choose)
        return image, label_at(self.labels, index)


def digits() -> ArraySource:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, grey; nothing is downloaded.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits",
    UCI Machine Learning Repository, 1998.

    Example:

    >>> from keras_vit_scale.data import digits
    >>> len(digits()), digits()[0][0].shape
    (1797, (8, 8, 1))
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    # Grey values from 0 to 16 become bytes from 0 to 255.
    return ArraySource(np.round(data.images * (255 / 16)).astype(np.uint8), data.target)


def label_at(labels: np.ndarray, index: int) -> Any:
    """An image's label of all: an integer, or its row."""
    return int(labels[index]) if labels.ndim == 1 else labels[index]


def described(source: Source) -> str:
    """A source in a line: how many images, of which classes.

    Example:

    >>> from keras_vit_scale.data import digits
    >>> digits()
    <ArraySource: 1,797 images of 10 classes: 0, 1, 2, 3, 4, ...>
    """
    names = ", ".join(source.class_names[:5]) + (", ..." if len(source.class_names) > 5 else "")
    classes = "1 class" if len(source.class_names) == 1 else f"{len(source.class_names)} classes"
    images = "1 image" if len(source) == 1 else f"{len(source):,} images"
    return f"<{type(source).__name__}: {images} of {classes}: {names}>"


def check_images(images: np.ndarray) -> None:
    """Refuses what is not a batch of bytes with one channel or three.

    Raises:
        ValueError: With the way to bytes, if the values are of another type.
    """
    if images.ndim == 4 and images.shape[-1] in (1, 3) and images.dtype == np.uint8:
        return
    cure = ""
    if np.issubdtype(images.dtype, np.floating):
        cure = "; values from 0 to 1 become bytes by `(images * 255).round().astype('uint8')`"
    elif images.dtype != np.uint8:
        cure = "; values from 0 to 255 become bytes by `images.astype('uint8')`"
    raise ValueError(
        "`images` must be uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3). "
        f"Received: {images.dtype} of shape {images.shape}{cure}"
    )
