"""What every layer of tokens shares: it refuses what is no (B, N, D), or has another D."""

from typing import Any

import keras


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
