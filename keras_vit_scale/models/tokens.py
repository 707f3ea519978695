"""What layers of tokens share: a shape that is checked, and where they attend, heads and an MLP."""

from typing import Any

import keras

from keras_vit_scale.checks import check_fractions, check_one_of, check_positive_integers
from keras_vit_scale.models.block import EPSILON, GELUS
from keras_vit_scale.models.config import check_heads


class TokenLayer(keras.layers.Layer):
    """A layer of tokens (B, N, D), of which B and N may be unknown until there are images.

    Keras refuses other ranks before the layer is built, and other widths afterwards, in the
    same words on every backend. By default the outputs have the shape of the inputs.

    Raises:
        ValueError: If the input is no (B, N, D), its width is unknown, or it is not that for
            which the layer was built.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        check_known(input_shape, width=-1)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: input_shape[-1]})

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        # Where a class has none, Keras stores the arguments as they were: a dtype policy it cannot.
        return super().get_config()


class TransformerLayer(TokenLayer):
    """What the encoder, a block and attention pooling have in common.

    Raises:
        ValueError: If a number is not a positive integer, `heads` does not divide the width,
            there is no such `gelu`, or `epsilon` is none.
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
        super().__init__(**kwargs)
        check_positive_integers(heads=heads, mlp_dim=mlp_dim)
        check_one_of(GELUS, gelu=gelu)
        check_fractions(epsilon=epsilon)
        self.heads = heads
        self.mlp_dim = mlp_dim
        self.gelu = gelu
        self.epsilon = epsilon

    def build(self, input_shape):
        super().build(input_shape)
        check_heads(self.heads, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_dim": self.mlp_dim,
            "gelu": self.gelu,
            "epsilon": self.epsilon,
        }


def check_known(input_shape, **axes):
    """Refuses tokens of which a layer must know an axis, given by name, but does not.

    Raises:
        ValueError: Naming the first that is `None`.
    """
    for name, axis in axes.items():
        if input_shape[axis] is None:
            raise ValueError(
                f"The {name} of the tokens must be known when the layer is built. "
                f"Received: input_shape={tuple(input_shape)}"
            )


def check_positions(tokens, positions):
    """Refuses tokens (B, N, D) of which there are more or fewer than positions.

    Raises:
        ValueError: With the likely cause: images of another size.
    """
    if tokens.shape[1] not in (None, positions):
        raise ValueError(
            f"Each of {positions} positions needs a token. "
            f"Received: tokens of shape {tuple(tokens.shape)}. Are the images of the size that "
            "`model.input_shape` tells? Resize them, or take a model of their size "
            "(`load_weights_from` resamples positions)"
        )
