"""Representations of images: what a model computes before its classifier."""

import weakref

import keras
import numpy as np

from keras_vit_scale.data import EvalTransform, Source, eval_batches

# Kept as long as the model is, since a new one would be compiled anew at each evaluation.
_REPRESENTATIONS: weakref.WeakKeyDictionary[keras.Model, keras.Model] = weakref.WeakKeyDictionary()


def representation(model: keras.Model) -> keras.Model:
    """The model up to the input of its layer `head`; the model itself if it has none.

    Of one model it is always the same, with the same weights.

    Example:

    >>> from keras_vit_scale import ViT
    >>> from keras_vit_scale.evaluation import representation
    >>> representation(ViT("mu/8", 10, image_size=16)).output_shape
    (None, 32)
    """
    if "head" not in (layer.name for layer in model.layers):
        return model
    if model not in _REPRESENTATIONS:
        features = model.get_layer("head").input
        _REPRESENTATIONS[model] = keras.Model(
            model.inputs[0], features, name=f"{model.name}_features"
        )
    return _REPRESENTATIONS[model]


def extract_features(
    model: keras.Model, source: Source, transform: EvalTransform, batch_size: int = 64
) -> np.ndarray:
    """Outputs of `model` for every image of a source, in its order: float32, (N, D).

    Every batch is filled up to `batch_size`, so that one program serves them all.
    """
    return features_and_labels(model, source, transform, batch_size)[0]


def features_and_labels(
    model: keras.Model, source: Source, transform: EvalTransform, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """What `extract_features` returns, and the labels that the images came with, int64 (N,)."""
    features, labels = [], []
    for images, classes in eval_batches(source, transform, batch_size):
        count = len(images)
        if count < batch_size:
            fill = np.zeros((batch_size - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, fill])
        features.append(np.asarray(model.predict_on_batch(images), np.float32)[:count])
        labels.append(classes)
    return np.concatenate(features), np.concatenate(labels)
