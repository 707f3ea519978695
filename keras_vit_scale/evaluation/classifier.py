"""A model together with what it needs to be used: preprocessing, classes, activation."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import scipy.special

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data import EvalTransform, Source, read_image
from keras_vit_scale.data.orientation import ORIENTATIONS
from keras_vit_scale.data.sources import check_images
from keras_vit_scale.evaluation.features import (
    extract_features,
    features_and_labels,
    representation,
)
from keras_vit_scale.models.config import image_shape

ACTIVATIONS = ("softmax", "sigmoid")

#: What may be classified: a source, a batch of bytes, or files and images of any sizes.
Images = Source | np.ndarray | Sequence[str | Path | np.ndarray]


class Classifier:
    """A model with its preprocessing and the names of its classes.

    Args:
        model: A functional model from images (B, H, W, 3) in [-1, 1] to logits (B, C).
        transform: Preprocessing of an image, to the model's size.
        class_names: Names of the C classes, in the order of the logits.
        activation: What makes probabilities of logits: "softmax" of a model of one
            class an image, "sigmoid" of several.
        orientation: How `predict` and `embed` read image files, "ignore" or "apply": as for
            `read_image`. A source that `evaluate` is given should read them the same way.

    Raises:
        ValueError: If the parts do not belong together, or the model ends with an
            activation already.

    Example:

    >>> from keras_vit_scale import ViT
    >>> from keras_vit_scale.data import EvalTransform, digits
    >>> from keras_vit_scale.evaluation import Classifier
    >>> model = ViT("mu/2", 10, image_size=8)
    >>> classifier = Classifier(model, EvalTransform(8, resize="none"), digits().class_names)
    >>> classifier.predict(digits().images[:3]).shape
    (3, 10)
    """

    def __init__(
        self,
        model: keras.Model,
        transform: EvalTransform,
        class_names: Sequence[str],
        activation: str = "softmax",
        orientation: str = "ignore",
    ):
        check_one_of(ACTIVATIONS, activation=activation)
        check_one_of(ORIENTATIONS, orientation=orientation)
        if not isinstance(transform, EvalTransform):
            raise ValueError(f"`transform` must be an EvalTransform. Received: {transform!r}")
        if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
            raise ValueError(f"`class_names` must be strings. Received: {class_names!r}")
        _check_model(model, image_shape(transform.image_size), len(class_names))
        self.model, self.transform, self.activation = model, transform, activation
        self.class_names, self.orientation = tuple(class_names), orientation

    def predict(self, images: Images, batch_size: int = 64) -> np.ndarray:
        """Probabilities of the classes, float32 (N, C), in the order of the images.

        Args:
            images: A source; uint8 (N, H, W, 1 or 3); or a list of files and of uint8
                images (H, W, 1 or 3), which may differ in size.
            batch_size: Images at a time.

        Raises:
            ValueError: If there is no image, one is not of bytes, or a file is missing
                or cannot be decoded, naming it.
        """
        source = _as_source(images, self.orientation)
        logits = extract_features(self.model, source, self.transform, batch_size)
        return _probabilities(logits, self.activation)

    def embed(self, images: Images, batch_size: int = 64) -> np.ndarray:
        """Representations, float32 (N, D): the inputs of the model's layer `head`.

        Arguments and errors are those of `predict`; a model without a layer of that
        name has no representation, which is an error too.
        """
        source = _as_source(images, self.orientation)
        return extract_features(self._body, source, self.transform, batch_size)

    def evaluate(self, source: Source, batch_size: int = 64) -> dict[str, float]:
        """Accuracy on a source, and the loss that goes with the activation.

        Returns:
            `images`, their number; `accuracy` and `top_5_accuracy`, between 0 and 1;
            and `loss`, the mean cross-entropy: of the softmax, or of each class's
            sigmoid summed over the classes.

        Raises:
            ValueError: If the source has other classes.
        """
        if tuple(source.class_names) != self.class_names:
            raise ValueError(
                "A source must have the classifier's classes, in its order. "
                f"Received: {list(source.class_names)[:20]}; "
                f"the classifier has {list(self.class_names)[:20]}"
            )
        # The labels that came with the images: `ReplaceBad` may have put one for another.
        logits, labels = features_and_labels(self.model, source, self.transform, batch_size)
        five = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        return {
            "images": len(labels),
            "accuracy": float((five[:, 0] == labels).mean()),
            "top_5_accuracy": float((five == labels[:, None]).any(1).mean()),
            "loss": float(_losses(logits, labels, self.activation).mean()),
        }

    @cached_property
    def _body(self):
        body = representation(self.model)
        if body is self.model:
            raise ValueError(
                "Representations are the inputs of a layer named 'head'. Received: a model with "
                f"the layers {[layer.name for layer in self.model.layers]}"
            )
        return body


class ImageList:
    """Files and images of any sizes as a source of RGB images, all of one unnamed class."""

    class_names: tuple[str, ...] = ("",)

    def __init__(self, items: Sequence[str | Path | np.ndarray], orientation: str = "ignore"):
        check_one_of(ORIENTATIONS, orientation=orientation)
        self.orientation = orientation
        self.items = [item if isinstance(item, np.ndarray) else Path(item) for item in items]
        if not self.items:
            raise ValueError("There must be at least one image. Received: none")
        for item in self.items:
            if isinstance(item, np.ndarray):
                check_images(item[None])
            elif not item.is_file():
                folder = ", a folder: name the files in it" if item.is_dir() else ""
                raise ValueError(f"An image file must exist. Received: {str(item)!r}{folder}")
        self.labels = np.zeros(len(self.items), np.int64)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        item = self.items[index]
        if not isinstance(item, np.ndarray):
            return read_image(item, orientation=self.orientation), 0
        return np.repeat(item, 3, axis=-1) if item.shape[-1] == 1 else item, 0


def _as_source(images, orientation):
    if hasattr(images, "labels"):
        return images
    if isinstance(images, str | Path):
        raise ValueError(
            f"Files must come as a list, even one alone: [{str(images)!r}]; for a folder of "
            f"classes use `open_source`. Received: {str(images)!r}"
        )
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ValueError(
            "An array of images must be (N, H, W, 1 or 3); for one image pass `image[None]`, for "
            f"grey ones `images[..., None]`. Received: shape {images.shape}"
        )
    return ImageList(images, orientation)


def _check_model(model, size, classes):
    """Refuses a model that does not turn images of that size into that many logits."""
    if not (isinstance(model, keras.Model) and len(getattr(model, "inputs", None) or ()) == 1):
        raise ValueError(
            "A classifier must be a functional model of one input, such as ViT builds. "
            f"Received: {model!r}"
        )
    expected = (None, *size, 3)
    fits = len(model.input_shape) == 4 and all(
        have in (None, want) for have, want in zip(model.input_shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            "The transform must end with images of the model's size. "
            f"Received: {size} for a model of {model.input_shape}"
        )
    if len(model.outputs) != 1 or tuple(model.output_shape[1:]) != (classes,):
        raise ValueError(
            "There must be one class name for each output of the model. "
            f"Received: {classes} names for outputs of shape {model.output_shape}"
        )
    activation = getattr(model.layers[-1], "activation", keras.activations.linear)
    if activation is not keras.activations.linear:
        raise ValueError(
            "A classifier's model must end with logits; leave out its last activation. "
            f"Received: {model.layers[-1].name!r} with {keras.activations.serialize(activation)!r}"
        )


def _probabilities(logits, activation):
    if activation == "softmax":
        return scipy.special.softmax(logits, axis=1)
    return scipy.special.expit(logits)


def _losses(logits, labels, activation):
    """Cross-entropy of each image, (N,), from logits (N, C) and labels (N,)."""
    logits = logits.astype(np.float64)
    own = logits[np.arange(len(labels)), labels]
    if activation == "softmax":
        return scipy.special.logsumexp(logits, axis=1) - own
    # -log(1 - sigmoid(z)) = log(1 + e^z) for every class, and z less for the image's own.
    return np.logaddexp(0, logits).sum(1) - own
