"""One pre-norm Transformer block, as functions of arrays and a mapping of weights.

Letters in shapes: B images, N tokens, D width, M MLP width, K heads, F features of a head.
"""

from typing import NamedTuple

from keras import initializers, ops

#: LayerNorm's epsilon in the authors' code; Keras' own default is 1e-3.
EPSILON = 1e-6


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


def block(x, w):
    """Tokens (B, N, D) through one block with weights `w`."""
    y = layer_norm(x, w, "attention_norm")
    x = x + attention(y, y, w)
    return x + mlp(layer_norm(x, w, "mlp_norm"), w)


def layer_norm(x, w, name):
    """LayerNorm over the last axis with the weights `name`, in float32 at least."""
    y = ops.layer_normalization(
        ops.cast(x, "float32") if is_half(x.dtype) else x,
        gamma=w[f"{name}_scale"],
        beta=w[f"{name}_bias"],
        axis=-1,
        epsilon=EPSILON,
    )
    return ops.cast(y, x.dtype)


def attention(x, tokens, w):
    """Multi-head attention of `x` (B, T, D) to `tokens` (B, N, D)."""
    query = project(x, w["query_kernel"], w["query_bias"])
    key = project(tokens, w["key_kernel"], w["key_bias"])
    value = project(tokens, w["value_kernel"], w["value_bias"])
    y = ops.dot_product_attention(query, key, value)
    return ops.einsum("bnkf,kfd->bnd", y, w["out_kernel"]) + w["out_bias"]


def project(x, kernel, bias):
    """Features (B, N, D) to heads (B, N, K, F)."""
    return ops.einsum("bnd,dkf->bnkf", x, kernel) + bias


def mlp(x, w):
    """Two dense layers with the tanh form of GELU between them."""
    y = ops.gelu(ops.matmul(x, w["mlp_in_kernel"]) + w["mlp_in_bias"], approximate=True)
    return ops.matmul(y, w["mlp_out_kernel"]) + w["mlp_out_bias"]


def is_half(dtype) -> bool:
    """Whether a dtype has 16 bits or fewer, too few to take statistics in."""
    return str(dtype) in ("float16", "bfloat16")
