"""Representations of images: what a model computes before its classifier."""

import keras
import numpy as np

from keras_vit_scale.data import EvalTransform, Source, eval_batches


def representation(model: keras.Model) -> keras.Model:
    """The model up to the input of its layer `head`; the model itself if it has none.

    Example:

    >>> from keras_vit_scale import ViT
    >>> from keras_vit_scale.evaluation import representation
    >>> representation(ViT("mu/8", 10, image_size=16)).output_shape
    (None, 32)
    """
    if "head" not in (layer.name for layer in model.layers):
        return model
    return keras.Model(model.input, model.get_layer("head").input, name=f"{model.name}_features")


def extract_features(
    model: keras.Model, source: Source, transform: EvalTransform, batch_size: int = 64
) -> np.ndarray:
    """Outputs of `model` for every image of a source, in its order: float32, (N, D).

    Every batch is filled up to `batch_size`, so that one program serves them all.
    """
    features = []
    for images, _ in eval_batches(source, transform, batch_size):
        count = len(images)
        if count < batch_size:
            fill = np.zeros((batch_size - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, fill])
        features.append(np.asarray(model.predict_on_batch(images), np.float32)[:count])
    return np.concatenate(features)
