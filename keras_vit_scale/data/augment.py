"""Augmentation of whole batches for fine-tuning: RandAugment, then MixUp or CutMix."""

import importlib
import importlib.util
from dataclasses import dataclass

import numpy as np

from keras_vit_scale.checks import check_numbers, check_one_of
from keras_vit_scale.data.labels import multi_hot

LIBRARIES = ("keras", "keras_cv")


@dataclass(frozen=True)
class Augmentation:
    """RandAugment, then MixUp or CutMix, of a batch of bytes: a pure function of its `rng`.

    The paper fine-tunes without any of them; they are for data sets smaller than its
    own. `train_batches` applies them in its reader threads, between the transform of
    each image and the step to [-1, 1], so that a resumed run sees what it would have.
    RandAugment by Keras' layers is slow for a large run: at 224 px one core does some
    240 images a second on TensorFlow, 40 on JAX, and 3 to 7 on PyTorch, whose shears
    and rotations set the pace. MixUp and CutMix do hundreds everywhere.

    Args:
        rand_augment: Operations of RandAugment, 0 for none. As in Keras' layer, which
            operations is drawn once a batch, and how strongly once an image.
        magnitude: Strength of these operations, between 0 and 1.
        mixup: Alpha of MixUp's Beta(alpha, alpha), in [0, 1]; 0 for no MixUp.
        cutmix: Alpha of CutMix's, likewise.
        cutmix_probability: Where both are given each batch has one of them, and this
            is how often it is CutMix (0.5, as in timm). Weights are drawn for each
            image, as in Keras' layers; timm draws one for the batch.
        library: "keras", Keras' own preprocessing layers on whichever backend, on the
            CPU; or "keras_cv", which needs the extra `cv`, imports TensorFlow whatever
            the backend, sets TensorFlow's global seed for every batch, and draws the
            operations for each image.

    Raises:
        ValueError: If an option is unknown, a number is out of range, or nothing is
            to be done.
        ImportError: If KerasCV is asked for and not installed.

    Source: Cubuk et al., arXiv 1909.13719; Zhang et al., arXiv 1710.09412; Yun et al.,
    arXiv 1905.04899.

    Example:

    >>> from keras_vit_scale.data import Augmentation, TrainTransform, digits, train_batches
    >>> mixed = train_batches(
    ...     digits(),
    ...     TrainTransform(8, crop="shift", flip=False),
    ...     6,
    ...     augmentation=Augmentation(rand_augment=0, mixup=0.2, cutmix=0.0),
    ... )
    >>> images, labels = next(iter(mixed))
    >>> images.shape, labels.shape, labels.sum(axis=1).round(5).tolist()
    ((6, 8, 8, 3), (6, 10), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    """

    rand_augment: int = 2
    magnitude: float = 0.5
    mixup: float = 0.2
    cutmix: float = 1.0
    cutmix_probability: float = 0.5
    library: str = "keras"

    def __post_init__(self):
        if type(self.rand_augment) is not int or self.rand_augment < 0:
            raise ValueError(
                "`rand_augment` must be a number of operations, from 0 on. "
                f"Received: rand_augment={self.rand_augment!r}"
            )
        for name in ("magnitude", "mixup", "cutmix", "cutmix_probability"):
            check_numbers("in [0, 1]", lambda v: 0 <= v <= 1, **{name: getattr(self, name)})
        if not (self.rand_augment or self.mixes):
            raise ValueError(
                "An augmentation must have RandAugment, MixUp or CutMix; for none pass "
                "`augmentation=None`. Received: rand_augment=0, mixup=0, cutmix=0"
            )
        check_one_of(LIBRARIES, library=self.library)
        if self.library == "keras_cv" and importlib.util.find_spec("keras_cv") is None:
            raise ImportError(
                "`library='keras_cv'` needs KerasCV: pip install 'keras-vit-scale[cv]', "
                "or use Keras' own layers, `library='keras'`"
            )

    @property
    def mixes(self) -> bool:
        """Whether labels become shares of classes."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, classes: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A batch of bytes, (B, H, W, 1 or 3), and its labels of any form, augmented.

        Returns:
            Images, float32 (B, H, W, 3) in [0, 255], and the labels: as they came, or
            where images are mixed the share of each class, float32 (B, classes).
        """
        library = importlib.import_module(f"keras_vit_scale.data.augment_{self.library}")
        images = np.broadcast_to(images, (*images.shape[:-1], 3)).astype(np.float32)
        if self.rand_augment:
            images = library.rand_augment(images, self.rand_augment, self.magnitude, _seed(rng))
        if self.mixes:
            labels = multi_hot(labels[..., 0] if labels.ndim == 3 else labels, classes)
            # Neither alone draws whether it is used.
            cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.cutmix_probability)
            mix, alpha = (library.cutmix, self.cutmix) if cut else (library.mixup, self.mixup)
            images, labels = mix(images, labels, alpha, _seed(rng))
        return np.clip(images, 0, 255), labels


def _seed(rng):
    """A seed that every library takes: positive, 31 bits."""
    return int(rng.integers(1, 2**31))
