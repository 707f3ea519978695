"""RandAugment, MixUp and CutMix by Keras' own layers, as functions of a seed.

The layers draw from a state of their own when they are called; here they are handed every
seed, so a batch depends on nothing else. All run on the CPU: the accelerator trains meanwhile.
"""

import threading
from functools import cache

import keras
import numpy as np

#: The operations of `keras.layers.RandAugment`, by the names it gives their layers.
OPERATIONS = (
    "random_shear",
    "random_translation",
    "random_rotation",
    "random_brightness",
    "random_color_degeneration",
    "random_contrast",
    "random_sharpness",
    "random_posterization",
    "solarization",
    "auto_contrast",
    "equalization",
)


#: For layers, which are handed another each time they draw. With none they would take one from
#: Python's generator, and so change what the main thread draws next: perhaps a model's weights.
UNUSED_SEED = 0

#: Held while a weight is drawn: on PyTorch Keras draws from Beta with the generator of the whole
#: process, for which two reader threads would wait for ever.
_DRAWING = threading.Lock()


class Seeds(keras.random.SeedGenerator):
    """Seeds (seed, 0), (seed, 1), ... counted in Python.

    Keras' own generator counts in a variable, which a distribution would spread over all
    devices. A plain integer as seed would give every draw of a layer the same numbers.
    """

    def __init__(self, seed: int):
        # Not Keras' own `__init__`: it makes the variable.
        self.seed, self.count = seed, 0
        self.dtype = "uint32" if keras.backend.backend() == "jax" else "int32"

    def next(self, ordered=True):
        pair = np.array([self.seed, self.count], self.dtype)
        self.count += 1
        return keras.ops.convert_to_tensor(pair)


def rand_augment(images: np.ndarray, operations: int, magnitude: float, seed: int) -> np.ndarray:
    """`operations` random operations on float32 images (B, H, W, 3) in [0, 255].

    `keras.layers.RandAugment` computes all eleven of its operations for each that it
    keeps, and takes no seed; this computes the kept ones.
    """
    rng = np.random.default_rng(seed)
    with keras.device("cpu:0"):
        layer = _rand_augment_layer(magnitude)
        # A copy: on PyTorch Keras' brightness works in place.
        images = keras.ops.convert_to_tensor(images.copy())
        for i in rng.integers(len(OPERATIONS), size=operations):
            operation = getattr(layer, OPERATIONS[i])
            drawn = operation.get_random_transformation(images, seed=_seeds(rng))
            images = operation.transform_images(images, drawn)
        return _numpy(images)


def mixup(
    images: np.ndarray, labels: np.ndarray, alpha: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each image and label mixed with another's by a weight from Beta(alpha, alpha)."""
    return _mix(keras.layers.MixUp(alpha, seed=UNUSED_SEED, dtype="float32"), images, labels, seed)


def cutmix(
    images: np.ndarray, labels: np.ndarray, alpha: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each image with a box of another's, of the share 1 - w with w from Beta(alpha, alpha).

    Labels go by the area of the box, whose edges fall between pixels.
    """
    # A single number would stand for a range from which alpha itself is drawn.
    layer = keras.layers.CutMix((alpha, alpha), seed=UNUSED_SEED, dtype="float32")
    return _mix(layer, images, labels, seed)


def _mix(layer, images, labels, seed):
    with keras.device("cpu:0"):
        images, labels = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)
        with _DRAWING:
            drawn = layer.get_random_transformation({"images": images}, seed=Seeds(seed))
        mixed = layer.transform_images(images, drawn)
        return _numpy(mixed), _numpy(layer.transform_labels(labels, drawn))


@cache
def _rand_augment_layer(magnitude):
    return keras.layers.RandAugment(factor=magnitude, seed=UNUSED_SEED, dtype="float32")


def _seeds(rng):
    return Seeds(int(rng.integers(1, 2**31)))


def _numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))
