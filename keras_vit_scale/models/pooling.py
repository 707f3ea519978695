"""Three ways to make one vector of the tokens: attention (MAP), their mean, the [class] token."""

from typing import Any

import keras
from keras import ops

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.models.adapters import WithoutAdapters
from keras_vit_scale.models.block import (
    EPSILON,
    WeightSpec,
    attention,
    attention_weights,
    layer_norm,
    mlp,
    mlp_weights,
    norm_weights,
)
from keras_vit_scale.models.tokens import TokenLayer, TransformerLayer

POOLINGS = ("map", "gap", "token")


def map_weights(width: int, mlp_dim: int, heads: int) -> dict[str, WeightSpec]:
    """The weights of MAP: probe, attention, norm and MLP."""
    return {
        "probe": WeightSpec((1, 1, width), keras.initializers.GlorotUniform()),
        **attention_weights(width, heads),
        **norm_weights("mlp_norm", width),
        **mlp_weights(width, mlp_dim),
    }


@keras.saving.register_keras_serializable("keras_vit_scale")
class AttentionPooling(WithoutAdapters, TransformerLayer):
    """Multihead attention pooling (MAP): a learned probe attends to all tokens.

    `y = attention(probe, tokens)`, without a residual, then `y + mlp(norm(y))`.

    Args:
        heads: Attention heads; they must divide the width of the tokens.
        mlp_dim: Hidden features of the MLP.
        gelu: "tanh", the authors' form, or "exact".
        epsilon: What LayerNorm adds to the variance; the authors' is 1e-6.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        tokens: (B, N, D).

    Returns:
        One vector an image, (B, D).

    Raises:
        ValueError: If a number is not a positive integer, `heads` does not
            divide the width, or there is no such `gelu`.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import AttentionPooling
    >>> AttentionPooling(heads=2, mlp_dim=20)(np.zeros((3, 5, 8), "float32")).shape == (3, 8)
    True
    """

    def __init__(
        self,
        heads: int,
        mlp_dim: int,
        *,
        gelu: str = "tanh",
        epsilon: float = EPSILON,
        **kwargs: Any,
    ):
        super().__init__(heads=heads, mlp_dim=mlp_dim, gelu=gelu, epsilon=epsilon, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.head = {
            name: self.add_weight(
                name=name,
                shape=weight.shape,
                initializer=weight.initializer,
                # The norm computes in float32 whatever the policy.
                autocast="norm" not in name,
            )
            for name, weight in map_weights(input_shape[-1], self.mlp_dim, self.heads).items()
        }

    def call(self, tokens):
        w = {name: ops.convert_to_tensor(v) for name, v in self.head.items()}
        probe = ops.broadcast_to(w["probe"], (ops.shape(tokens)[0], 1, tokens.shape[-1]))
        y = attention(probe, tokens, w)
        y = y + mlp(layer_norm(y, w, "mlp_norm", self.epsilon), w, gelu=self.gelu)
        return y[:, 0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


@keras.saving.register_keras_serializable("keras_vit_scale")
class TokenPooling(TokenLayer):
    """The first token, (B, N, D) to (B, D): the [class] token's features.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import TokenPooling
    >>> TokenPooling()(np.zeros((3, 5, 8), "float32")).shape == (3, 8)
    True
    """

    def call(self, tokens):
        return tokens[:, 0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


def pooling_layer(
    pooling: str, heads: int, mlp_dim: int, gelu: str, epsilon: float, **kwargs: Any
) -> keras.layers.Layer:
    """The layer, named `pooling`, that an option of `POOLINGS` stands for.

    Raises:
        ValueError: If there is no such option.
    """
    check_one_of(POOLINGS, pooling=pooling)
    if pooling == "map":
        return AttentionPooling(
            heads, mlp_dim, gelu=gelu, epsilon=epsilon, name="pooling", **kwargs
        )
    if pooling == "gap":
        # Tokens are (B, N, D) whatever format the user's images have elsewhere.
        return keras.layers.GlobalAveragePooling1D("channels_last", name="pooling", **kwargs)
    return TokenPooling(name="pooling", **kwargs)
