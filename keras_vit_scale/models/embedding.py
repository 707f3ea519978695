"""From pixels to tokens: patches, positions and the optional [class] token."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.models.tokens import TokenLayer, check_known, check_positions


@keras.saving.register_keras_serializable("keras_vit_scale")
class PatchEmbedding(keras.layers.Layer):
    """Cuts images into patches and projects each to a token.

    A convolution whose stride is its kernel, written as the matrix product that
    it is. The kernel has the convolution's shape (P, P, channels, D) and a
    LeCun-normal start.

    Args:
        width: Features of a token, D.
        patch_size: Side of a patch in pixels, P.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        images: (B, H, W, channels), H and W multiples of P.

    Returns:
        Tokens in row-major order, (B, (H / P) (W / P), D).

    Raises:
        ValueError: If an argument is not a positive integer, or the images are
            no multiple of the patch.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import PatchEmbedding
    >>> tokens = PatchEmbedding(width=7, patch_size=4)(np.zeros((2, 8, 12, 3), "float32"))
    >>> tokens.shape == (2, 6, 7)
    True
    """

    def __init__(self, width: int, patch_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(width=width, patch_size=patch_size)
        self.width = width
        self.patch_size = patch_size
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        grid(input_shape, self.patch_size)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: input_shape[-1]})
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.patch_size, self.patch_size, input_shape[-1], self.width),
            initializer="lecun_normal",
        )
        self.bias = self.add_weight(name="bias", shape=(self.width,), initializer="zeros")

    def call(self, images):
        p, channels = self.patch_size, images.shape[-1]
        rows, columns = grid(images.shape, p)
        x = ops.reshape(images, (-1, rows, p, columns, p, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * columns, p * p * channels))
        kernel = ops.reshape(self.kernel, (p * p * channels, self.width))
        return ops.matmul(x, kernel) + self.bias

    def compute_output_shape(self, input_shape):
        rows, columns = grid(input_shape, self.patch_size)
        return (input_shape[0], rows * columns, self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "patch_size": self.patch_size}


def grid(input_shape: Sequence[int | None], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches in images of shape (B, H, W, channels)."""
    _, height, width, _ = input_shape
    if height is None or width is None or height % patch_size or width % patch_size:
        raise ValueError(
            "The height and width of the images must be known multiples of `patch_size`. "
            f"Received: image size={height} x {width}, patch_size={patch_size}"
        )
    return height // patch_size, width // patch_size


@keras.saving.register_keras_serializable("keras_vit_scale")
class PositionEmbedding(TokenLayer):
    """Adds a learned embedding to every token, normal with deviation 1 / sqrt(D) at first.

    Call arguments:
        x: Tokens, (B, N, D).

    Returns:
        Tokens, (B, N, D).

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import PositionEmbedding
    >>> PositionEmbedding()(np.zeros((2, 6, 7), "float32")).shape == (2, 6, 7)
    True
    """

    def build(self, input_shape):
        super().build(input_shape)
        check_known(input_shape, number=1)
        tokens, width = input_shape[1:]
        self.embedding = self.add_weight(
            name="embedding",
            shape=(1, tokens, width),
            initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
        )

    def call(self, x):
        check_positions(x, self.embedding.shape[1])
        return x + self.embedding


@keras.saving.register_keras_serializable("keras_vit_scale")
class ClassToken(TokenLayer):
    """Puts one learned token, zero at first, before the others.

    It comes after the position embedding and has no position of its own.

    Call arguments:
        x: Tokens, (B, N, D).

    Returns:
        Tokens, (B, 1 + N, D).

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import ClassToken
    >>> ClassToken()(np.zeros((2, 6, 7), "float32")).shape == (2, 7, 7)
    True
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.token = self.add_weight(
            name="token", shape=(1, 1, input_shape[-1]), initializer="zeros"
        )

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([ops.cast(token, x.dtype), x], axis=1)

    def compute_output_shape(self, input_shape):
        batch, tokens, width = input_shape
        return (batch, None if tokens is None else tokens + 1, width)
