"""The arithmetic of a block and of MAP against plain NumPy loops."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import as_numpy, randomise

from keras_vit_scale.models import (
    AttentionPooling,
    Block,
    ClassToken,
    Encoder,
    PatchEmbedding,
    PositionEmbedding,
)
from keras_vit_scale.models.block import layer_norm

# Float32 through two blocks; the loops compute in float64.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def numpy_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + bias


def test_norm_of_tokens_that_hardly_vary(rng):
    """A variance as small as the authors' epsilon, 1e-6: half of it is the epsilon's."""
    x = (1e-3 * rng.normal(size=(2, 7, 15))).astype("float32")
    w = {"n_scale": rng.normal(size=15), "n_bias": rng.normal(size=15)}
    y = layer_norm(keras.ops.convert_to_tensor(x), {k: v.astype("float32") for k, v in w.items()},
                   "n")  # fmt: skip
    np.testing.assert_allclose(as_numpy(y), numpy_norm(x, *w.values()), rtol=1e-4, atol=1e-5)


def numpy_attention(queries, tokens, w):
    """Head by head and token by token."""
    heads, features = w["query_bias"].shape
    out = np.zeros((len(queries), w["out_bias"].size)) + w["out_bias"]
    for k in range(heads):
        q = queries @ w["query_kernel"][:, k] + w["query_bias"][k]
        key = tokens @ w["key_kernel"][:, k] + w["key_bias"][k]
        value = tokens @ w["value_kernel"][:, k] + w["value_bias"][k]
        for t in range(len(queries)):
            scores = np.array([q[t] @ row for row in key]) / math.sqrt(features)
            p = np.exp(scores - scores.max())
            out[t] += (p / p.sum()) @ value @ w["out_kernel"][k]
    return out


def numpy_mlp(x, w):
    h = x @ w["mlp_in_kernel"] + w["mlp_in_bias"]
    h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return h @ w["mlp_out_kernel"] + w["mlp_out_bias"]


def numpy_block(x, w):
    y = numpy_norm(x, w["attention_norm_scale"], w["attention_norm_bias"])
    x = x + numpy_attention(y, y, w)
    y = numpy_norm(x, w["mlp_norm_scale"], w["mlp_norm_bias"])
    return x + numpy_mlp(y, w)


@pytest.mark.parametrize("unroll", [False, True])
def test_encoder_equals_numpy_blocks(unroll, rng):
    x = rng.normal(size=(2, 7, 15)).astype("float32")
    encoder = Encoder(depth=3, heads=5, mlp_dim=11, unroll=unroll)
    encoder.build(x.shape)
    randomise(encoder, rng)
    stack = {name: as_numpy(v).astype("float64") for name, v in encoder.blocks.items()}
    expected = []
    for tokens in x.astype("float64"):
        for i in range(3):
            tokens = numpy_block(tokens, {name: v[i] for name, v in stack.items()})
        expected.append(tokens)
    np.testing.assert_allclose(as_numpy(encoder(x)), expected, **TOLERANCE)


def test_map_equals_numpy(rng):
    x = rng.normal(size=(2, 7, 15)).astype("float32")
    pooling = AttentionPooling(heads=3, mlp_dim=11)
    pooling.build(x.shape)
    randomise(pooling, rng)
    w = {name: as_numpy(v).astype("float64") for name, v in pooling.head.items()}
    expected = []
    for tokens in x.astype("float64"):
        y = numpy_attention(w["probe"][0], tokens, w)
        y = y + numpy_mlp(numpy_norm(y, w["mlp_norm_scale"], w["mlp_norm_bias"]), w)
        expected.append(y[0])
    np.testing.assert_allclose(as_numpy(pooling(x)), expected, **TOLERANCE)


def test_patch_embedding_is_the_strided_convolution(rng):
    images = rng.normal(size=(2, 9, 15, 5)).astype("float32")
    layer = PatchEmbedding(width=7, patch_size=3)
    layer.build(images.shape)
    randomise(layer, rng)
    conv = keras.ops.conv(images, layer.kernel, strides=3, padding="valid") + layer.bias
    expected = as_numpy(conv).reshape(2, 3 * 5, 7)
    np.testing.assert_allclose(as_numpy(layer(images)), expected, **TOLERANCE)


def test_scanned_and_unrolled_gradients_agree(rng):
    x = rng.normal(size=(2, 7, 15)).astype("float32")
    models = []
    for unroll in (False, True):
        tokens = keras.Input((7, 15))
        y = Encoder(depth=3, heads=5, mlp_dim=11, unroll=unroll, name="encoder")(tokens)
        model = keras.Model(tokens, y)
        # Plain gradient descent: the step is the gradient.
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
        models.append(model)
    randomise(models[0], rng)
    models[1].set_weights(models[0].get_weights())
    for model in models:
        model.train_on_batch(x, np.zeros_like(x))
    for a, b in zip(models[0].weights, models[1].weights, strict=True):
        # Sums of 2 x 7 tokens in another order; weights and gradients are of size 1 to 10.
        np.testing.assert_allclose(as_numpy(a), as_numpy(b), rtol=1e-5, atol=2e-5, err_msg=a.path)


def test_initial_values_have_the_deviation_of_each_blocks_own_matrix():
    """Xavier-uniform: variance 2 / (fan in + fan out) of the matrix, in every block."""
    width, mlp_dim, depth = 96, 160, 4
    encoder = Encoder(depth=depth, heads=6, mlp_dim=mlp_dim)
    encoder.build((None, 5, width))
    variances = dict.fromkeys(("query", "key", "value", "out"), 2 / (width + width))
    variances |= {"mlp_in": 2 / (width + mlp_dim), "mlp_out": 2 / (width + mlp_dim)}
    for name, variance in variances.items():
        blocks = as_numpy(encoder.blocks[f"{name}_kernel"])
        assert len(blocks) == depth
        for block in blocks:
            # 9,216 values and more: their deviation is known to under 1 %, 3 % is beyond chance.
            assert block.std() == pytest.approx(math.sqrt(variance), rel=0.03), name
            assert np.abs(block).max() <= math.sqrt(3 * variance), name
        assert np.abs(np.corrcoef(blocks.reshape(depth, -1)) - np.eye(depth)).max() < 0.06, name
    for name in ("mlp_in_bias", "mlp_out_bias"):
        assert as_numpy(encoder.blocks[name]).std() == pytest.approx(1e-6, rel=0.2)
    for name in ("query_bias", "out_bias", "attention_norm_bias"):
        assert not as_numpy(encoder.blocks[name]).any()
    assert (as_numpy(encoder.blocks["mlp_norm_scale"]) == 1).all()


def test_no_two_weights_start_alike():
    """An initializer's instance draws the same values each time: sharing one ties weights."""
    encoder = Encoder(depth=2, heads=6, mlp_dim=96)
    encoder.build((None, 5, 96))
    pooling = AttentionPooling(heads=6, mlp_dim=96)
    pooling.build((None, 5, 96))
    kernels = [v for v in (*encoder.weights, *pooling.weights) if v.path.endswith("kernel")]
    assert len(kernels) == 12
    values = [as_numpy(v).ravel()[: 96 * 96] for v in kernels]
    # 9,216 values: unrelated ones correlate by 0.01, and 0.06 is beyond chance.
    assert np.abs(np.corrcoef(values) - np.eye(12)).max() < 0.06


def test_initial_values_outside_the_blocks():
    patch = PatchEmbedding(width=256, patch_size=8)
    patch.build((None, 16, 16, 3))
    # LeCun-normal: variance 1 / fan in.
    assert as_numpy(patch.kernel).std() == pytest.approx((8 * 8 * 3) ** -0.5, rel=0.03)
    position, token = PositionEmbedding(), ClassToken()
    for layer in (position, token):
        layer.build((None, 49, 256))
    assert as_numpy(position.embedding).std() == pytest.approx(1 / 16, rel=0.03)
    assert not as_numpy(token.token).any()
    pooling = AttentionPooling(heads=4, mlp_dim=64)
    pooling.build((None, 5, 512))
    # Xavier-uniform of the array (1, 1, D): variance 2 / (1 + D).
    assert as_numpy(pooling.head["probe"]).std() == pytest.approx(math.sqrt(2 / 513), rel=0.1)


def test_stacked_variables_say_which_axis_is_the_stack():
    encoder = Encoder(depth=5, heads=2, mlp_dim=3)
    encoder.build((None, 7, 4))
    assert len(encoder.weights) == 16
    assert all(v.stack_axis == 0 and v.shape[0] == 5 for v in encoder.weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "`depth` must be a positive integer"),
        ({"mlp_dim": 2.5}, "`mlp_dim` must be a positive integer"),
        ({"unroll": "yes"}, "`unroll` must be True or False"),
    ],
)
def test_encoder_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Encoder(**{"depth": 1, "heads": 2, "mlp_dim": 3, **options})


@pytest.mark.parametrize("layer", [Encoder(1, 2, 3), AttentionPooling(2, 3)])
def test_heads_must_divide_the_width_of_the_tokens(layer):
    with pytest.raises(ValueError, match="`heads` must divide the width"):
        layer.build((None, 3, 5))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="TPUs are JAX's")
@pytest.mark.parametrize("layer", [Encoder, Block], ids=lambda layer: layer.__name__)
def test_attention_on_a_tpu_sees_every_token(layer, monkeypatch, rng):
    """Where Keras 3.15 would take a causal kernel, which JAX interprets here without a TPU."""
    import jax
    from jax.experimental.pallas import tpu

    tokens = rng.normal(size=(1, 128, 6)).astype("float32")

    def built():
        block = layer(heads=2, mlp_dim=5, **({"depth": 1} if layer is Encoder else {}))
        block.build(tokens.shape)
        return block

    block = built()
    randomise(block, rng)
    expected = as_numpy(block(tokens))
    monkeypatch.setattr(jax, "devices", lambda *_: [SimpleNamespace(platform="tpu")])
    there = built()
    there.set_weights(block.get_weights())
    with tpu.force_tpu_interpret_mode():
        np.testing.assert_allclose(as_numpy(there(tokens)), expected, rtol=1e-6, atol=1e-6)
