"""Tokens after each block and attention maps against a loop over the blocks."""

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import ViT
from keras_vit_scale.models import attention_maps, block_outputs, to_blocks
from keras_vit_scale.models.block import block

# Float32 through two blocks, scanned or one by one.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def numpy_map(x, w):
    """Where each token of one image attends, head by head and token by token."""
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    y = y * w["attention_norm_scale"] + w["attention_norm_bias"]
    maps = np.zeros((TINY.heads, len(x), len(x)))
    for k in range(TINY.heads):
        query = y @ w["query_kernel"][:, k] + w["query_bias"][k]
        key = y @ w["key_kernel"][:, k] + w["key_bias"][k]
        for n, q in enumerate(query):
            p = np.exp([q @ each / np.sqrt(TINY.head_dim) for each in key])
            maps[k, n] = p / p.sum()
    return maps


@pytest.mark.parametrize("num_classes", [None, 3])
def test_outputs_and_maps_equal_a_loop_over_blocks(num_classes, rng):
    model = ViT(TINY, num_classes, image_size=(4, 6), frozen_blocks=1, gelu="exact", dropout=0.5)
    randomise(model, rng)
    images = rng.normal(size=(5, 4, 6, 3)).astype("float32")
    outputs = as_numpy(block_outputs(model, images))
    maps = as_numpy(attention_maps(model, images))
    assert outputs.shape == (2, 5, 6, 15)
    assert maps.shape == (2, 5, 3, 6, 6)
    encoder = model.get_layer("encoder")
    x = keras.Model(model.input, encoder.input)(images)
    for i, w in enumerate(encoder.block_list()):
        loop = {name: as_numpy(v).astype("float64") for name, v in w.items()}
        expected = [numpy_map(tokens.astype("float64"), loop) for tokens in as_numpy(x)]
        np.testing.assert_allclose(maps[i], expected, **TOLERANCE)
        x = block(x, w, gelu="exact")
        np.testing.assert_allclose(outputs[i], as_numpy(x), **TOLERANCE)
    last = keras.Model(model.input, encoder.output)(images)
    np.testing.assert_allclose(outputs[-1], as_numpy(last), **TOLERANCE)


class Doubled(keras.Model):
    """A model that is no graph of layers, around one that is."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, images):
        return self.inner(2 * images)


def test_the_encoder_is_found_in_models_of_models(rng):
    inner = ViT(TINY, None, image_size=4)
    images = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    expected = as_numpy(block_outputs(inner, 2 * images))
    np.testing.assert_array_equal(as_numpy(block_outputs(Doubled(inner), images)), expected)
    graph = keras.Input((4, 4, 3))
    nested = keras.Model(graph, keras.layers.Dense(3)(inner(2 * graph)))
    before = nested.predict(images, verbose=0)
    np.testing.assert_array_equal(as_numpy(block_outputs(nested, images)), expected)
    # Looking inside leaves the model as it was.
    np.testing.assert_array_equal(nested.predict(images, verbose=0), before)


def test_models_without_one_encoder_are_refused():
    model = ViT(TINY, None, image_size=4)
    images = np.zeros((1, 4, 4, 3), "float32")
    with pytest.raises(ValueError, match="must hold one `Encoder`"):
        block_outputs(to_blocks(model), images)
    graph = keras.Input((4, 4, 3))
    twice = keras.Model(graph, model(graph) + model(2 * graph))
    with pytest.raises(ValueError, match="which calls it 2 times"):
        attention_maps(twice, images)
