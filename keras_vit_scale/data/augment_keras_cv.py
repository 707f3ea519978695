"""RandAugment, MixUp and CutMix by KerasCV's layers, as functions of a seed.

They run on TensorFlow whatever the backend, and draw in part from its global generator; so
that is set, under a lock, for each batch.
"""

import threading
from contextlib import contextmanager

import numpy as np

_LOCK = threading.Lock()


def rand_augment(images: np.ndarray, operations: int, magnitude: float, seed: int) -> np.ndarray:
    """`operations` random operations on each of float32 images (B, H, W, 3) in [0, 255]."""
    with _seeded(seed) as (layers, tf):
        layer = layers.RandAugment(
            (0, 255), augmentations_per_image=operations, magnitude=magnitude, seed=seed
        )
        return _numpy(layer(tf.constant(images)))


def mixup(
    images: np.ndarray, labels: np.ndarray, alpha: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each image and label mixed with another's by a weight from Beta(alpha, alpha)."""
    with _seeded(seed) as (layers, tf):
        return _mix(layers.MixUp(alpha, seed=seed), images, labels, tf)


def cutmix(
    images: np.ndarray, labels: np.ndarray, alpha: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each image with a box of another's, the label by the box's share of the area."""
    with _seeded(seed) as (layers, tf):
        return _mix(layers.CutMix(alpha, seed=seed), images, labels, tf)


@contextmanager
def _seeded(seed):
    import keras_cv
    import tensorflow as tf

    with _LOCK, tf.device("cpu:0"):
        tf.random.set_seed(seed)
        yield keras_cv.layers, tf


def _mix(layer, images, labels, tf):
    mixed = layer({"images": tf.constant(images), "labels": tf.constant(labels)})
    return _numpy(mixed["images"]), _numpy(mixed["labels"])


def _numpy(tensor):
    # KerasCV returns the tensors of Keras' backend.
    return np.asarray(tensor, np.float32)
