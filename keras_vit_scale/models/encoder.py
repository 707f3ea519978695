"""The stack of blocks, each weight held once with depth as its first axis."""

import keras
from keras import ops

from keras_vit_scale.models.block import block, block_weights
from keras_vit_scale.models.config import check_heads, check_positive_integers


@keras.saving.register_keras_serializable("keras_vit_scale")
class Encoder(keras.layers.Layer):
    """`depth` pre-norm Transformer blocks whose weights are stacked.

    The encoder has sixteen variables whatever its depth; `kernel[i]` belongs to
    block i. One block is compiled and scanned over the stack, which at G/14's
    depth is the difference between minutes and seconds until the first step.
    Every variable says which axis is the stack in its attribute `stack_axis`,
    so that an optimizer can treat the blocks apart.

    Args:
        depth: Number of blocks.
        heads: Attention heads; they must divide the width of the input.
        mlp_dim: Hidden features of each block's MLP.
        unroll: If `True`, the blocks are traced one by one instead of scanned.
            The weights are the same, so a checkpoint does not depend on it. The
            torch backend, which does not compile, always runs them one by one.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        x: Tokens, (B, N, D).

    Returns:
        Tokens, (B, N, D), before the final LayerNorm.

    Raises:
        ValueError: If an argument is not a positive integer, or `heads` does
            not divide the width.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import Encoder
    >>> encoder = Encoder(depth=3, heads=2, mlp_dim=20)
    >>> encoder(np.zeros((1, 5, 8), "float32")).shape == (1, 5, 8)
    True
    >>> len(encoder.weights), encoder.blocks["mlp_in_kernel"].shape == (3, 8, 20)
    (16, True)
    """

    def __init__(self, depth, heads, mlp_dim, *, unroll=False, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(depth=depth, heads=heads, mlp_dim=mlp_dim)
        if type(unroll) is not bool:
            raise ValueError(f"`unroll` must be True or False. Received: unroll={unroll!r}")
        self.depth = depth
        self.heads = heads
        self.mlp_dim = mlp_dim
        self.unroll = unroll

    def build(self, input_shape):
        width = input_shape[-1]
        check_heads(self.heads, width)
        self.blocks = {}
        for name, weight in block_weights(width, self.mlp_dim, self.heads).items():
            # The initializers know their fans, so one draw serves all blocks.
            variable = self.add_weight(
                name=name, shape=(self.depth, *weight.shape), initializer=weight.initializer
            )
            variable.stack_axis = 0
            self.blocks[name] = variable

    def call(self, x):
        stack = {name: ops.convert_to_tensor(v) for name, v in self.blocks.items()}
        # Torch gains nothing from a scan, and slicing a stack block by block
        # makes a gradient of the whole stack each time: unbind it once.
        if self.unroll or keras.backend.backend() == "torch":
            slices = {name: ops.unstack(v, self.depth) for name, v in stack.items()}
            for i in range(self.depth):
                x = block(x, {name: v[i] for name, v in slices.items()})
            return x
        x, _ = ops.scan(lambda x, w: (block(x, w), None), x, stack)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "depth": self.depth,
            "heads": self.heads,
            "mlp_dim": self.mlp_dim,
            "unroll": self.unroll,
        }
