"""One pre-norm Transformer block, as functions of arrays and a mapping of weights.

Letters in shapes: B images, N tokens, D width, M MLP width, K heads, F features of a head.
"""

import math
from typing import Any, NamedTuple

import keras
from keras import initializers, ops

from keras_vit_scale.models.dropping import keep_all

#: LayerNorm's epsilon in the authors' code; Keras' own default is 1e-3, others train with 1e-12.
EPSILON = 1e-6

#: Forms of GELU: the authors' code has "tanh", checkpoints from elsewhere often "exact".
GELUS = ("tanh", "exact")


class WeightSpec(NamedTuple):
    """Shape and initial values of one weight."""

    shape: tuple[int, ...]
    initializer: initializers.Initializer


def attention_weights(width: int, heads: int) -> dict[str, WeightSpec]:
    """Weights of multi-head attention.

    Query, key, value and output kernels are Xavier-uniform, each as the matrix
    D x D that it is: Keras would take a fan of the three-dimensional array
    (D, K, F) for that of a convolution. Each has an initializer of its own: one
    instance draws the same values every time it is called.
    """
    features = width // heads
    weights = {}
    for name in ("query", "key", "value"):
        weights[f"{name}_kernel"] = WeightSpec(
            (width, heads, features), glorot_uniform(width, width)
        )
        weights[f"{name}_bias"] = WeightSpec((heads, features), initializers.Zeros())
    weights["out_kernel"] = WeightSpec((heads, features, width), glorot_uniform(width, width))
    weights["out_bias"] = WeightSpec((width,), initializers.Zeros())
    return weights


def mlp_weights(width: int, mlp_dim: int) -> dict[str, WeightSpec]:
    """Weights of the MLP: Xavier-uniform kernels, biases normal with deviation 1e-6."""
    weights = {}
    for name, rows, columns in (("mlp_in", width, mlp_dim), ("mlp_out", mlp_dim, width)):
        weights[f"{name}_kernel"] = WeightSpec((rows, columns), glorot_uniform(rows, columns))
        weights[f"{name}_bias"] = WeightSpec((columns,), initializers.RandomNormal(stddev=1e-6))
    return weights


def norm_weights(name: str, width: int) -> dict[str, WeightSpec]:
    """Scale and bias of the LayerNorm `name`."""
    return {
        f"{name}_scale": WeightSpec((width,), initializers.Ones()),
        f"{name}_bias": WeightSpec((width,), initializers.Zeros()),
    }


def block_weights(width: int, mlp_dim: int, heads: int) -> dict[str, WeightSpec]:
    """The sixteen weights of a block."""
    return {
        **norm_weights("attention_norm", width),
        **attention_weights(width, heads),
        **norm_weights("mlp_norm", width),
        **mlp_weights(width, mlp_dim),
    }


def glorot_uniform(fan_in: int, fan_out: int) -> initializers.Initializer:
    """Xavier-uniform with stated fans, for arrays of any shape."""
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return initializers.RandomUniform(-limit, limit)


def block(x, w, *, gelu="tanh", epsilon=EPSILON, drop=keep_all):
    """Tokens (B, N, D) through one block with weights `w`.

    `drop(y, site)` removes at random in training; see `dropping`.
    """
    y = layer_norm(x, w, "attention_norm", epsilon)
    x = x + drop(attention(y, y, w), "attention")
    y = layer_norm(x, w, "mlp_norm", epsilon)
    return x + drop(mlp(y, w, gelu=gelu, drop=drop), "mlp")


def layer_norm(x, w, name, epsilon=EPSILON):
    """LayerNorm over the last axis with the weights `name`, in float32 at least."""
    y = ops.layer_normalization(
        ops.cast(x, "float32") if is_half(x.dtype) else x,
        gamma=w[f"{name}_scale"],
        beta=w[f"{name}_bias"],
        axis=-1,
        epsilon=epsilon,
    )
    return ops.cast(y, x.dtype)


def attention(x, tokens, w):
    """Multi-head attention of `x` (B, T, D) to `tokens` (B, N, D); its softmax is in float32."""
    # Three products: joining the kernels to one first, stacked or side by side, differed by less
    # than the noise (S/16's shapes, batch 8, forward and backward, alternating on two busy cores:
    # 2.2 to 2.4 s on JAX, 1.1 to 1.2 s on torch for six layers), and costs a copy of the kernels.
    query = linear(x, w["query_kernel"], w["query_bias"])
    key = linear(tokens, w["key_kernel"], w["key_bias"])
    value = linear(tokens, w["value_kernel"], w["value_bias"])
    # On torch the result of float64 is float32.
    y = ops.dot_product_attention(query, key, value, flash_attention=fused())
    y = ops.cast(y, value.dtype)
    return linear(y, w["out_kernel"], w["out_bias"], axes=2)


def fused():
    """What Keras is told of fused attention: `None`, to take it where it has it; not on TPUs.

    There Keras 3.15 takes a kernel that masks what comes after each token and does not scale the
    scores, whether asked to or not.
    """
    if keras.backend.backend() != "jax":
        return None
    import jax

    return False if jax.devices()[0].platform == "tpu" else None


def attention_map(x, tokens, w):
    """What `attention` weighs the tokens with: (B, K, T, N), in float32 at least."""
    query = linear(x, w["query_kernel"], w["query_bias"])
    key = linear(tokens, w["key_kernel"], w["key_bias"])
    scores = ops.einsum("btkf,bnkf->bktn", query, key)
    scores = ops.cast(scores, "float32") if is_half(scores.dtype) else scores
    return ops.softmax(scores * query.shape[-1] ** -0.5, axis=-1)


def mlp(x, w, *, gelu="tanh", drop=keep_all):
    """Two dense layers with a GELU between them, in its tanh or its exact form."""
    y = linear(x, w["mlp_in_kernel"], w["mlp_in_bias"])
    y = drop(ops.gelu(y, approximate=gelu == "tanh"), "hidden")
    return linear(y, w["mlp_out_kernel"], w["mlp_out_bias"])


def linear(x, kernel, bias, axes=1):
    """Tokens (B, N, ...) times a kernel, over their last `axes` and its first, and a bias added."""
    backend = keras.backend.backend()
    if backend == "jax":
        return ops.tensordot(x, kernel, axes) + bias
    # As a product of two matrices. With TensorFlow's `einsum` the step of B/16 took 1.4 times the
    # CPU time; of its `tensordot` XLA cannot compile the gradient within a loop.
    rows = math.prod(kernel.shape[:axes])
    shape = (*ops.shape(x)[:-axes], *kernel.shape[axes:])
    x, kernel, bias = ops.reshape(x, (-1, rows)), ops.reshape(kernel, (rows, -1)), ops.ravel(bias)
    if backend == "torch":
        from torch import addmm

        # One pass over the result, where a product and a sum are two.
        y = addmm(bias, x, kernel)
    else:
        y = x @ kernel + bias
    return ops.reshape(y, shape)


def is_half(dtype: Any) -> bool:
    """Whether a dtype has 16 bits or fewer, too few to take statistics in."""
    return keras.backend.standardize_dtype(dtype) in ("float16", "bfloat16")
