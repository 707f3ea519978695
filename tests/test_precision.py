"""Half precision: what stays in float32, and how near the rest comes to it."""

import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import ViT
from keras_vit_scale.models import Encoder
from keras_vit_scale.models.block import attention, layer_norm

ON_JAX_CPU = keras.backend.backend() == "jax" and keras.distribution.list_devices()[0][:3] == "cpu"


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


@pytest.mark.parametrize(
    ("policy", "pooling"),
    [("mixed_bfloat16", "map"), ("bfloat16", "gap"), ("mixed_float16", "map")],
)
def test_logits_are_float32_and_close(policy, pooling, rng):
    if policy == "mixed_float16" and ON_JAX_CPU:
        pytest.skip("JAX's attention in float16 needs a GPU or TPU")
    images = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    model = ViT(TINY, 5, image_size=8, pooling=pooling)
    randomise(model, rng)
    half = ViT(TINY, 5, image_size=8, pooling=pooling, dtype=policy)
    half.set_weights(model.get_weights())
    assert dtype_of(half.get_layer("encoder").output) == policy.removeprefix("mixed_")
    logits = half(images)
    assert dtype_of(logits) == "float32"
    # bfloat16 has 8 bits: 0.4 % a rounding, over some tens of them; float16 eight times less.
    tolerance = 0.02 if policy == "mixed_float16" else 0.1
    np.testing.assert_allclose(
        as_numpy(logits), as_numpy(model(images)), rtol=tolerance, atol=tolerance
    )


def test_global_policy_trains_float32_weights(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ViT(TINY, 2, image_size=4, head_bias=0.5, remat="full")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("encoder").compute_dtype == "bfloat16"
    assert {v.dtype for v in model.weights} == {"float32"}
    randomise(model, rng)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(rng.normal(size=(3, 4, 4, 3)), np.zeros((3, 2)))
    for old, variable in zip(before, model.weights, strict=True):
        new = as_numpy(variable)
        assert np.isfinite(new).all(), variable.path
        # The gradient of a key's bias is zero: softmax does not see what all scores share.
        assert (new != old).any() or variable.path.endswith("key_bias"), variable.path


def test_softmax_over_many_tokens_is_exact_where_bfloat16_is_not():
    """Equal scores of 1,021 tokens: a sum in bfloat16 stops at 256, for 256 + 1 rounds to 256."""
    tokens, bfloat16 = 1021, ml_dtypes.bfloat16
    total = bfloat16(0)
    for _ in range(tokens):
        total = bfloat16(total + bfloat16(1))
    assert total == 256
    shapes = {"query": (3, 1, 3), "key": (3, 1, 3), "value": (3, 1, 3), "out": (1, 3, 3)}
    w = {f"{name}_bias": np.zeros(shape[1:], bfloat16) for name, shape in shapes.items()}
    w["out_bias"] = np.zeros(3, bfloat16)
    for name, shape in shapes.items():
        w[f"{name}_kernel"] = (np.eye(3) if name in ("value", "out") else np.zeros((3, 3))).reshape(
            shape
        )
    w = {name: keras.ops.convert_to_tensor(v, "bfloat16") for name, v in w.items()}
    x = keras.ops.ones((1, tokens, 3), "bfloat16")
    out = as_numpy(keras.ops.cast(attention(x, x, w), "float32"))
    # The mean of ones. With the sum above it would be 1021 / 256 = 3.99. (Without oneDNN,
    # TensorFlow on a CPU sums products of bfloat16 in shorter sums of it: 0.87.)
    np.testing.assert_allclose(out, 1, rtol=0.2)


def test_norm_takes_its_statistics_and_its_scale_in_float32():
    """A scale of 1.001 needs more bits than bfloat16 has, whose next number after 1 is 1.0078."""
    x = keras.ops.convert_to_tensor(np.array([[[-1.0, 1, -1, 1]]]), "bfloat16")
    encoder = Encoder(1, heads=2, mlp_dim=3, dtype="mixed_bfloat16")
    encoder.build((None, 1, 4))
    scale = np.array([[1.001, 1.002, 1.003, 1.004]])
    encoder.blocks["attention_norm_scale"].assign(scale)
    with keras.src.backend.AutocastScope("bfloat16"):
        (w,) = encoder.block_list()
    assert dtype_of(w["query_kernel"]) == "bfloat16"
    np.testing.assert_allclose(as_numpy(w["attention_norm_scale"]), scale[0], rtol=1e-6)
    out = layer_norm(keras.ops.cast(x, "float32"), w, "attention_norm")
    np.testing.assert_allclose(as_numpy(out)[0, 0], scale[0] * [-1, 1, -1, 1], rtol=1e-5)
