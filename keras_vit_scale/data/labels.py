"""What is said of an image: one class, several of them, or a share of each.

Labels of N images come in one of three arrays:

- int64 (N,): one class each.
- int32 (N, k): lists of up to k classes each, filled up with -1. They are as narrow for 30,000
  classes as for ten, and stay lists in the loss. A number -2 - c says that of class c nothing
  is known: it has no loss.
- float32 (N, C): soft labels, the share of each class in [0, 1].

In batches lists have a further axis, (B, k, 1), by which `SigmoidCrossEntropy` tells them from
targets: Keras makes both float32 before a loss sees them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike


def check_labels(
    labels: ArrayLike, class_names: Sequence[str] | None, count: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels in one of the three forms and the names of their classes, after checking both.

    Raises:
        ValueError: If there are no images, the labels are none of the forms for `count` of
            them, one is outside the classes or twice in a list, or a name is there twice.
    """
    labels = np.asarray(labels)
    if count == 0:
        raise ValueError("A data set must hold at least one image. Received: none")
    whole, soft = (np.issubdtype(labels.dtype, kind) for kind in (np.integer, np.floating))
    if not (
        (labels.shape == (count,) and whole)
        or (labels.ndim == 2 and len(labels) == count and labels.shape[1] > 0 and (whole or soft))
    ):  # fmt: skip
        raise ValueError(
            "`labels` must be one integer an image, a list of them, (N, k), filled up with -1, or "
            "a share of each class, floats (N, C). "
            f"Received: {labels.dtype} of shape {labels.shape} for {count} images"
        )
    if class_names is not None and len(set(class_names)) < len(class_names):
        twice = sorted(n for n in set(class_names) if list(class_names).count(n) > 1)
        raise ValueError(f"Each class must have a name of its own. Received twice: {twice[:5]}")
    if class_names is None:
        classes = labels.shape[1] if soft else _classes(labels)
        class_names = [str(n) for n in range(classes)]
    names = tuple(str(n) for n in class_names)
    if soft:
        return _checked_shares(labels, len(names)), names
    lowest = 0 if labels.ndim == 1 else -1 - len(names)
    outside = labels[(labels < lowest) | (labels >= len(names))]
    if outside.size:
        raise ValueError(
            f"Labels must be in [0, {len(names)}), the number of classes. "
            f"Received: {sorted(set(outside.tolist()))[:5]}"
        )
    if labels.ndim == 1:
        return labels.astype(np.int64), names
    return _checked_lists(labels.astype(np.int32)), names


def _classes(labels):
    named = labels if labels.ndim == 1 else np.where(labels < -1, -2 - labels, labels)
    return max(int(named.max()), 0) + 1


def _checked_shares(labels, classes):
    if labels.shape[1] != classes:
        raise ValueError(
            "Soft labels must have a share for each class. "
            f"Received: labels of shape {labels.shape} for {classes} classes"
        )
    if not ((labels >= 0) & (labels <= 1)).all():
        raise ValueError(
            "Soft labels must be shares in [0, 1]. "
            f"Received: values from {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.float32)


def _checked_lists(labels):
    named = np.sort(np.where(labels < -1, -2 - labels, labels), axis=1)
    twice = (named[:, 1:] == named[:, :-1]) & (named[:, 1:] >= 0)
    if twice.any():
        row = int(twice.any(axis=1).argmax())
        raise ValueError(
            "A class must be once in the labels of an image. "
            f"Received: {labels[row].tolist()} for image {row}"
        )
    return labels


def label_lists(labels: Iterable[Sequence[int]]) -> np.ndarray:
    """Lists of classes as one array, int32 (N, k), filled up with -1.

    Example:

    >>> from keras_vit_scale.data import label_lists
    >>> label_lists([[3, 5], [], [2]]).tolist()
    [[3, 5], [-1, -1], [2, -1]]
    """
    rows = [np.asarray(row, np.int32) for row in labels]
    filled = np.full((len(rows), max(map(len, rows), default=0) or 1), -1, np.int32)
    for filling, row in zip(filled, rows, strict=True):
        filling[: len(row)] = row
    return filled


def multi_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Targets, float32 (N, C), that labels of any form stand for.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data.labels import multi_hot
    >>> multi_hot(np.array([[0, 2], [1, -1]]), 3).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    if np.issubdtype(labels.dtype, np.floating):
        return labels.astype(np.float32)
    lists = labels[:, None] if labels.ndim == 1 else labels
    targets = np.zeros((len(lists), classes), np.float32)
    rows, columns = np.nonzero(lists >= 0)
    targets[rows, lists[rows, columns]] = 1
    return targets


def check_single(labels: np.ndarray, purpose: str) -> None:
    """Refuses labels that are not one class an image.

    Raises:
        ValueError: Saying what for one is needed.
    """
    if labels.ndim != 1:
        kind = "shares of classes" if np.issubdtype(labels.dtype, np.floating) else "lists"
        raise ValueError(
            f"Each image must have one class for {purpose}. "
            f"Received: {kind}, {labels.dtype} of shape {labels.shape}"
        )
