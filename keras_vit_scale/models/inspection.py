"""Inside the encoder of a model: the tokens after each block, and where they attend."""

import contextlib

import keras
from keras import ops

from keras_vit_scale.models.block import attention_map, block, layer_norm
from keras_vit_scale.models.encoder import Encoder
from keras_vit_scale.types import Tensor


def block_outputs(model: keras.Model, images: Tensor) -> Tensor:
    """Tokens after each block, as in inference.

    Args:
        model: Any model that calls one `Encoder` once, with or without a head.
        images: What the model takes, such as (B, H, W, 3) with values in [-1, 1].

    Returns:
        A tensor (L, B, N, D): depth, images, tokens, width.

    Raises:
        ValueError: If the model does not call exactly one `Encoder`, once.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import ViT, block_outputs
    >>> model = ViT("mu/8", num_classes=None, image_size=16)
    >>> block_outputs(model, np.zeros((3, 16, 16, 3), "float32")).shape == (1, 3, 4, 32)
    True
    """
    return _collect(model, images, lambda x, w, y, epsilon: y)


def attention_maps(model: keras.Model, images: Tensor) -> Tensor:
    """How much each token attends to each, in every head of every block, as in inference.

    Args:
        model: Any model that calls one `Encoder` once, with or without a head.
        images: What the model takes, such as (B, H, W, 3) with values in [-1, 1].

    Returns:
        A tensor (L, B, K, N, N): depth, images, heads, tokens that attend, tokens
        attended to. It sums to 1 over the last axis.

    Raises:
        ValueError: If the model does not call exactly one `Encoder`, once.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import ViT, attention_maps
    >>> model = ViT("mu/8", num_classes=None, image_size=16)
    >>> attention_maps(model, np.zeros((3, 16, 16, 3), "float32")).shape == (1, 3, 2, 4, 4)
    True
    """

    def weights(x, w, y, epsilon):
        tokens = layer_norm(x, w, "attention_norm", epsilon)
        return attention_map(tokens, tokens, w)

    return _collect(model, images, weights)


def _collect(model, images, read):
    """Stacks `read(x, w, y, epsilon)` over the blocks: input, weights and output of each."""
    encoders = [layer for layer in model._flatten_layers() if isinstance(layer, Encoder)]
    if len(encoders) != 1:
        raise ValueError(
            "The model must hold one `Encoder`; blocks of `to_blocks` are layers whose outputs "
            f"Keras gives. Received: {model.name} with {len(encoders)}"
        )
    (encoder,) = encoders
    seen = []

    def call(x, training=False):
        for w in encoder.block_list():
            y = block(x, w, gelu=encoder.gelu, epsilon=encoder.epsilon)
            seen.append(read(x, w, y, encoder.epsilon))
            x = y
        return x

    with _calling(encoder, call):
        model(images, training=False)
    if len(seen) != encoder.depth:
        raise ValueError(
            "The model must call its `Encoder` once. "
            f"Received: {model.name}, which calls it {len(seen) // encoder.depth} times"
        )
    return ops.stack(seen)


@contextlib.contextmanager
def _calling(layer, call):
    """Lets a layer do something else, in whatever kind of model it is."""
    layer.call = call
    try:
        yield
    finally:
        del layer.call
