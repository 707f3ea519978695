"""Representations of images: what a model computes before its classifier."""

import weakref
from typing import Any

import keras
import numpy as np

from keras_vit_scale.data import EvalTransform, Source, eval_batches
from keras_vit_scale.distribution.layouts import batch_multiple, batch_shard

#: Compiled functions of models on several devices, by the mesh of these.
_FUNCTIONS: weakref.WeakKeyDictionary[keras.Model, dict[Any, Any]] = weakref.WeakKeyDictionary()

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
    several = keras.distribution.distribution() is not None
    batch_size = -(-batch_size // batch_multiple()) * batch_multiple()
    compute = _of_all_devices(model) if several else _of_one_device(model)
    for batch in eval_batches(source, transform, batch_size, shard=batch_shard(), pad=True):
        outputs, classes, weights = compute(*batch)
        features.append(np.asarray(outputs, np.float32)[weights > 0])
        labels.append(classes[weights > 0])
    return np.concatenate(features), np.concatenate(labels)


def _of_one_device(model):
    """A function of a batch to the model's outputs, labels and weights."""
    return lambda images, labels, weights: (model.predict_on_batch(images), labels, weights)


def _of_all_devices(model):
    """The same of a process' rows to those of the whole batch, which every process then has.

    Keras' own `predict` would read outputs that lie with other processes.
    """
    import jax

    distribution = keras.distribution.distribution()
    mesh = distribution.device_mesh.backend_mesh
    functions = _FUNCTIONS.setdefault(model, {})
    if mesh not in functions:
        known = weakref.ref(model)  # the function must not keep its own key

        def outputs(trainable, non_trainable, images, labels, weights):
            model: Any = known()
            y, _ = model.stateless_call(trainable, non_trainable, images, training=False)
            return y, labels, weights

        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        functions[mesh] = jax.jit(outputs, out_shardings=everywhere)

    def compute(*batch):
        whole = [
            jax.make_array_from_process_local_data(
                distribution.get_data_layout(rows.shape).backend_layout, rows
            )
            for rows in batch
        ]
        state = (
            [v.value for v in vs]
            for vs in (model.trainable_variables, model.non_trainable_variables)
        )
        return [np.asarray(each) for each in functions[mesh](*state, *whole)]

    return compute
