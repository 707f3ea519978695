"""Accuracy on images for which several labels are right, or none."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.evaluation.classifier import Classifier, ImageList
from keras_vit_scale.evaluation.features import extract_features


class AcceptedImages(ImageList):
    """Image files, each with the labels that are accepted for it; those with none are left out.

    A source of the others, in their order, of one unnamed class; `files` and `accepted` are
    theirs, `left_out` is the number of those without a label.

    Args:
        files: Image files of any sizes.
        accepted: For each file the accepted labels, indices of a model's outputs.
        border: Pixels that are cut off at each side of an image before anything else.
        orientation: "ignore" or "apply", as for `read_image`.

    Raises:
        ValueError: If there is not one collection of labels a file, a label is no index,
            no image has any, or a file is missing.

    Example:

    >>> import tempfile
    >>> from PIL import Image
    >>> from keras_vit_scale.evaluation import AcceptedImages
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = [f"{folder}/{i}.png" for i in range(3)]
    ...     for file in files:
    ...         Image.new("RGB", (8, 8)).save(file)
    ...     images = AcceptedImages(files, [[3, 5], [], [2]])
    >>> len(images), images.left_out, images.accepted
    (2, 1, (frozenset({3, 5}), frozenset({2})))
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        accepted: Sequence[Iterable[int]],
        *,
        border: int = 0,
        orientation: str = "ignore",
    ):
        accepted = _label_sets(accepted)
        if len(files) != len(accepted):
            raise ValueError(
                "There must be accepted labels for each image, an empty list where there are none. "
                f"Received: {len(accepted)} lists for {len(files)} images"
            )
        kept = [i for i, labels in enumerate(accepted) if labels]
        self.files = [Path(files[i]) for i in kept]
        super().__init__(self.files, orientation)
        self.accepted = tuple(accepted[i] for i in kept)
        self.left_out = len(files) - len(kept)
        self.border = border

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image, label = super().__getitem__(index)
        height, width = (side - self.border for side in image.shape[:2])
        if min(height, width) <= self.border:
            raise ValueError(
                f"An image must be larger than its border of {self.border} pixels. "
                f"Received: {image.shape[0]} x {image.shape[1]} in {str(self.files[index])!r}"
            )
        return image[self.border : height, self.border : width], label


def accepted_accuracy(logits: ArrayLike, accepted: Sequence[Iterable[int]], k: int = 1) -> float:
    """The share of images one of whose `k` likeliest labels is accepted.

    Of equal logits the first comes first. Images without an accepted label count
    neither as right nor as wrong.

    Args:
        logits: (N, C), or whatever orders the labels of an image as they do.
        accepted: For each image its accepted labels, in [0, C).
        k: How many guesses an image has.

    Raises:
        ValueError: If lengths differ, a label is none of the C, no image has any,
            a logit is NaN, or `k` is not positive.

    Example:

    The first image is right, the second wrong, the third is left out:

    >>> from keras_vit_scale.evaluation import accepted_accuracy
    >>> logits = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.0, 0.0, 1.0]]
    >>> accepted_accuracy(logits, [[1, 2], [1], []])
    0.5
    >>> accepted_accuracy(logits, [[1, 2], [1], []], k=2)
    1.0
    """
    check_positive_integers(k=k)
    logits, accepted = np.asarray(logits), _label_sets(accepted)
    if logits.ndim != 2 or len(logits) != len(accepted):
        raise ValueError(
            "`logits` must be (N, C), one row for each image's accepted labels. "
            f"Received: shape {logits.shape} for {len(accepted)} images"
        )
    if np.isnan(logits).any():
        raise ValueError("`logits` must not be NaN. Received: NaN")
    outside = {c for labels in accepted for c in labels if c >= logits.shape[1]}
    if outside:
        raise ValueError(
            f"Accepted labels must be in [0, {logits.shape[1]}), the model's classes. "
            f"Received: {sorted(outside)[:5]}"
        )
    guesses = np.argsort(-logits, axis=1, kind="stable")[:, :k].tolist()
    right = [
        not labels.isdisjoint(guess)
        for guess, labels in zip(guesses, accepted, strict=True)
        if labels
    ]
    if not right:
        raise ValueError("At least one image must have an accepted label. Received: none has")
    return sum(right) / len(right)


def evaluate_accepted(
    classifier: Classifier, images: AcceptedImages, batch_size: int = 64
) -> dict[str, float]:
    """Accuracy of a classifier on images with accepted labels.

    Args:
        classifier: Its outputs are what the labels index, whatever its class names.
        images: What `real`, `imagenet_v2` or `objectnet` reads, or your own.
        batch_size: Images at a time.

    Returns:
        `images`, the number used; `left_out`, of those without a label; `accuracy` and
        `top_5_accuracy`, shares of the images used.

    Raises:
        ValueError: As `accepted_accuracy`, or if an image cannot be decoded.
    """
    # Beforehand, since reading all images may take an hour.
    largest = max(max(labels) for labels in images.accepted)
    if largest >= len(classifier.class_names):
        raise ValueError(
            f"Accepted labels must be in [0, {len(classifier.class_names)}), the classifier's "
            f"classes. Received: {largest}"
        )
    logits = extract_features(classifier.model, images, classifier.transform, batch_size)
    return {
        "images": len(images),
        "left_out": images.left_out,
        "accuracy": accepted_accuracy(logits, images.accepted),
        "top_5_accuracy": accepted_accuracy(logits, images.accepted, k=5),
    }


def _label_sets(accepted: Sequence[Iterable[int]]) -> list[frozenset[int]]:
    sets = []
    for i, labels in enumerate(accepted):
        values = None if isinstance(labels, str | dict) else _listed(labels)
        if values is None or not all(_is_index(value) for value in values):
            raise ValueError(
                "The accepted labels of an image must be integers, 0 or more. "
                f"Received: {labels!r} for image {i}"
            )
        sets.append(frozenset(int(value) for value in values))
    return sets


def _listed(labels):
    try:
        return list(labels)
    except TypeError:
        return None


def _is_index(value):
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0
