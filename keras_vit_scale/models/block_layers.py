"""Blocks and attention pooling of ordinary Keras layers, which can be quantised and adapted."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_vit_scale.checks import check_rates
from keras_vit_scale.models.block import fused
from keras_vit_scale.models.dropping import check_seed, draw_scales, drop_features
from keras_vit_scale.models.tokens import TransformerLayer
from keras_vit_scale.types import Tensor


class AttentionAndMLP(TransformerLayer):
    """What a block and attention pooling share: attention, a norm and two dense layers."""

    def __init__(self, heads: int, mlp_dim: int, **kwargs: Any):
        super().__init__(heads, mlp_dim, **kwargs)
        self._quantised: dict[str, Any] = {}

    def build(self, input_shape):
        super().build(input_shape)
        width, dtype = input_shape[-1], self.dtype_policy
        self.attention = keras.layers.MultiHeadAttention(
            self.heads, width // self.heads, dtype=dtype, name="attention"
        )
        if fused() is False:
            self.attention._flash_attention = False  # as an argument Keras overlooks it
        self.mlp_norm = self.add_norm("mlp_norm", width)
        self.mlp_in = keras.layers.Dense(self.mlp_dim, dtype=dtype, name="mlp_in")
        self.mlp_out = keras.layers.Dense(width, dtype=dtype, name="mlp_out")
        self.attention.build((None, None, width), (None, None, width))
        self.mlp_in.build((None, None, width))
        self.mlp_out.build((None, None, self.mlp_dim))
        for name, config in self._quantised.items():
            self.dense_layers()[name].quantize(config=config)

    def add_norm(self, name: str, width: int) -> keras.layers.LayerNormalization:
        """A LayerNorm, in float32 whatever the policy, as those of the stacked layers are."""
        norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon,
            dtype=keras.DTypePolicy("float32") if self.is_mixed else self.dtype_policy,
            name=name,
        )
        norm.build((None, None, width))
        return norm

    @property
    def is_mixed(self) -> bool:
        """Whether the policy computes with fewer bits than it stores."""
        return self.compute_dtype != self.variable_dtype

    def mlp(self, x: Tensor, drop: Callable[[Tensor], Tensor] = lambda y: y) -> Tensor:
        """The norm and the two dense layers, with a GELU between them."""
        y = self.mlp_in(ops.cast(self.mlp_norm(x), x.dtype))
        return self.mlp_out(drop(ops.gelu(y, approximate=self.gelu == "tanh")))

    def dense_layers(self) -> dict[str, keras.layers.Layer]:
        """Its layers that multiply by a kernel, by the names that the stacked weights have."""
        return {
            "query": self.attention.query_dense,
            "key": self.attention.key_dense,
            "value": self.attention.value_dense,
            "out": self.attention.output_dense,
            "mlp_in": self.mlp_in,
            "mlp_out": self.mlp_out,
        }

    def weights_by_name(self):
        """Its weights by the names that the stacked layers have; LoRA is merged into kernels."""
        dense = self.dense_layers()
        weights = {f"{name}_kernel": layer.kernel for name, layer in dense.items()}
        weights |= {f"{name}_bias": layer.bias for name, layer in dense.items()}
        return weights | _norm_weights(self.mlp_norm)

    def get_config(self):
        config = super().get_config()
        quantised = self._quantised
        if self.built:
            layers = {n: layer for n, layer in self.dense_layers().items() if is_quantised(layer)}
            quantised = {name: layer.quantization_config for name, layer in layers.items()}
        if quantised:
            # Keras' own `MultiHeadAttention` forgets it, and its file would not load.
            config["quantised"] = {
                name: keras.saving.serialize_keras_object(each) for name, each in quantised.items()
            }
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        quantised = config.pop("quantised", {})
        layer = super().from_config(config)
        layer._quantised = {
            name: keras.saving.deserialize_keras_object(each) for name, each in quantised.items()
        }
        return layer


def is_quantised(layer: keras.layers.Layer) -> bool:
    """Whether a dense layer is quantised.

    Raises:
        ValueError: If it is, and this Keras cannot say how, so that a file would not load.
    """
    if layer.quantization_mode and not hasattr(layer, "quantization_config"):
        raise ValueError(
            "A quantised model is saved and copied with Keras 3.15 or later: upgrade Keras, or "
            f"save it before it is quantised. Received: Keras {keras.__version__}"
        )
    return bool(layer.quantization_mode)


@keras.saving.register_keras_serializable("keras_vit_scale")
class Block(AttentionAndMLP):
    """One pre-norm Transformer block of ordinary Keras layers.

    `to_blocks` makes a model of these. Each weight is a layer's own: the layers
    `attention` (a `MultiHeadAttention`), `mlp_in` and `mlp_out` (`Dense`) can be
    quantised and adapted by LoRA.

    Args:
        heads: Attention heads; they must divide the width of the input.
        mlp_dim: Hidden features of the MLP.
        gelu: "tanh", the authors' form, or "exact".
        epsilon: What LayerNorm adds to the variance; the authors' is 1e-6.
        dropout: Rate of dropout after attention, after GELU and after the MLP.
        stochastic_depth: Rate at which training skips this block's branches,
            image by image.
        seed: An integer, from which what is dropped follows; by default Keras' global
            generator gives one.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        x: Tokens, (B, N, D).
        training: Whether to drop anything.

    Returns:
        Tokens, (B, N, D).

    Raises:
        ValueError: If an argument is out of its range, or `heads` does not
            divide the width.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import Block
    >>> block = Block(heads=2, mlp_dim=20)
    >>> block(np.zeros((1, 5, 8), "float32")).shape == (1, 5, 8)
    True
    >>> block.mlp_in.enable_lora(rank=3)
    """

    def __init__(
        self,
        heads: int,
        mlp_dim: int,
        *,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(heads, mlp_dim, **kwargs)
        check_rates(dropout=dropout, stochastic_depth=stochastic_depth)
        check_seed(seed)
        self.dropout = dropout
        self.stochastic_depth = stochastic_depth
        self.seed = seed
        if dropout or stochastic_depth:
            # Named, for its state is found in a checkpoint by its path.
            self.seed_generator = keras.random.SeedGenerator(seed, name=f"{self.name}_seed")

    def build(self, input_shape):
        self.attention_norm = self.add_norm("attention_norm", input_shape[-1])
        super().build(input_shape)

    def call(self, x, training=False):
        scales = None
        if training and self.stochastic_depth:
            scales = draw_scales([self.stochastic_depth], ops.shape(x)[0], self.seed_generator)[0]

        def drop(y):
            if training and self.dropout:
                return drop_features(y, self.dropout, self.seed_generator)
            return y

        def branch(y, i):
            y = drop(y)
            return y if scales is None else y * ops.cast(scales[i][:, None, None], y.dtype)

        y = ops.cast(self.attention_norm(x), x.dtype)
        x = x + branch(self.attention(y, y), 0)
        return x + branch(self.mlp(x, drop), 1)

    def weights_by_name(self) -> dict[str, keras.Variable]:
        return super().weights_by_name() | _norm_weights(self.attention_norm)

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("keras_vit_scale")
class BlockPooling(AttentionAndMLP):
    """`AttentionPooling` of ordinary Keras layers, in models that `to_blocks` makes.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import BlockPooling
    >>> BlockPooling(heads=2, mlp_dim=20)(np.zeros((3, 5, 8), "float32")).shape == (3, 8)
    True
    """

    def build(self, input_shape):
        self.probe = self.add_weight(
            name="probe", shape=(1, 1, input_shape[-1]), initializer="glorot_uniform"
        )
        super().build(input_shape)

    def call(self, tokens):
        probe = ops.broadcast_to(self.probe, (ops.shape(tokens)[0], 1, tokens.shape[-1]))
        y = self.attention(ops.cast(probe, tokens.dtype), tokens)
        return (y + self.mlp(y))[:, 0]

    def weights_by_name(self) -> dict[str, keras.Variable]:
        return super().weights_by_name() | {"probe": self.probe}

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


def _norm_weights(norm):
    return {f"{norm.name}_scale": norm.gamma, f"{norm.name}_bias": norm.beta}
