"""The stack of blocks, each weight held once with depth as its first axis."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit_scale.checks import check_positive_integers, check_rates
from keras_vit_scale.models.adapters import WithoutAdapters
from keras_vit_scale.models.block import EPSILON, block, block_weights
from keras_vit_scale.models.dropping import (
    check_seed,
    draw_scales,
    draw_seeds,
    drop_features,
    dropping,
    linear_rates,
)
from keras_vit_scale.models.remat import check_remat, rematerialised
from keras_vit_scale.models.scan import scan
from keras_vit_scale.models.tokens import TransformerLayer
from keras_vit_scale.sharding import assign_shares, batch_cut
from keras_vit_scale.types import Tensor


@keras.saving.register_keras_serializable("keras_vit_scale")
class Encoder(WithoutAdapters, TransformerLayer):
    """`depth` pre-norm Transformer blocks whose weights are stacked.

    The encoder has sixteen variables whatever its depth; `kernel[i]` belongs to
    block i. One block is compiled and scanned over the stack, which at G/14's
    depth is the difference between minutes and seconds until the first step.
    Every variable says which axis is the stack in its attribute `stack_axis`,
    so that an optimizer can treat the blocks apart.

    With frozen blocks it has two stacks, split there: sixteen variables that no
    optimizer sees, of which it keeps no state, and sixteen that are trained.
    Files of weights do not depend on it: they hold the whole stack.

    Args:
        depth: Number of blocks.
        heads: Attention heads; they must divide the width of the input.
        mlp_dim: Hidden features of each block's MLP.
        gelu: "tanh", the authors' form, or "exact".
        epsilon: What LayerNorm adds to the variance; the authors' is 1e-6.
        dropout: Rate of dropout in training: of the tokens that enter, and in
            each block after attention, after GELU and after the MLP. The paper
            uses none.
        stochastic_depth: Rate at which the last block's residual branches are
            skipped in training, image by image; it rises evenly from 0 at the
            first block. Branches that stay are divided by one minus the rate.
            The paper uses none.
        remat: What the backward pass finds saved; the rest is computed again.
            "auto": the fastest known, on JAX the products of tokens and weights,
            elsewhere all. `None`: all that the backend keeps. "full": the input
            of each block. "dots" (JAX, torch): matrix products too. On JAX also
            the name of a policy of `jax.checkpoint_policies`.
        frozen_blocks: How many of the first blocks are not trained.
        unroll: If `True`, the blocks are traced one by one instead of scanned.
            The weights are the same, so a checkpoint does not depend on it. The
            torch backend, which does not compile, always runs them one by one.
        seed: An integer, from which what is dropped follows; by default Keras' global
            generator gives one.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        x: Tokens, (B, N, D).
        training: Whether to drop anything.

    Returns:
        Tokens, (B, N, D), before the final LayerNorm.

    Raises:
        ValueError: If an argument is out of its range, `heads` does not divide
            the width, or the backend does not have the `remat`.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import Encoder
    >>> encoder = Encoder(depth=3, heads=2, mlp_dim=20)
    >>> encoder(np.zeros((1, 5, 8), "float32")).shape == (1, 5, 8)
    True
    >>> len(encoder.weights), encoder.blocks["mlp_in_kernel"].shape == (3, 8, 20)
    (16, True)
    >>> encoder.freeze(2)
    >>> encoder.frozen["mlp_in_kernel"].shape == (2, 8, 20), len(encoder.trainable_weights)
    (True, 16)
    """

    def __init__(
        self,
        depth: int,
        heads: int,
        mlp_dim: int,
        *,
        gelu: str = "tanh",
        epsilon: float = EPSILON,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        remat: str | None = "auto",
        frozen_blocks: int = 0,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(heads=heads, mlp_dim=mlp_dim, gelu=gelu, epsilon=epsilon, **kwargs)
        check_positive_integers(depth=depth)
        check_rates(dropout=dropout, stochastic_depth=stochastic_depth)
        check_seed(seed)
        check_remat(remat)
        check_frozen_blocks(frozen_blocks, depth)
        if type(unroll) is not bool:
            raise ValueError(f"`unroll` must be True or False. Received: unroll={unroll!r}")
        self.depth = depth
        self.dropout = dropout
        self.stochastic_depth = stochastic_depth
        self.remat = remat
        self.frozen_blocks = frozen_blocks
        self.unroll = unroll
        self.seed = seed
        self._replaced = False
        if dropout or stochastic_depth:
            # Named, for its state is found in a checkpoint by its path.
            self.seed_generator = keras.random.SeedGenerator(seed, name=f"{self.name}_seed")

    def build(self, input_shape):
        super().build(input_shape)
        width = input_shape[-1]
        self.blocks, self.frozen = {}, {}
        for name, weight in block_weights(width, self.mlp_dim, self.heads).items():
            # The initializers know their fans, so one draw serves all blocks.
            self._add_stack(name, weight.shape, weight.initializer)

    def call(self, x, training=False):
        if training and self._replaced:
            _check_optimizer(self._get_call_context().entry_layer, self)
        draws = {}
        if training and self.dropout:
            x = drop_features(x, self.dropout, self.seed_generator)
            draws["seeds"] = draw_seeds(self.depth, self.seed_generator)
        if training and self.stochastic_depth:
            rates = linear_rates(self.stochastic_depth, self.depth)
            draws["scales"] = draw_scales(rates, ops.shape(x)[0], self.seed_generator)
        if self._unrolled:
            for i, w in enumerate(self.block_list()):
                x = self._block(x, w, {name: v[i] for name, v in draws.items()})
            return x
        k = self.frozen_blocks
        for stack, part in ((self.frozen, slice(k)), (self.blocks, slice(k, None))):
            if stack:
                w = {name: ops.convert_to_tensor(v) for name, v in stack.items()}
                drawn = {name: v[part] for name, v in draws.items()}
                x = scan(lambda x, each: self._block(x, *each), x, (w, drawn))
        return x

    def block_list(self) -> list[dict[str, Tensor]]:
        """The weights of each block, first to last, as mappings of name to tensor."""
        # Slicing a stack block by block makes, on torch, a gradient of the whole stack each time:
        # unstack it once.
        weights = []
        for stack in (self.frozen, self.blocks):
            slices = {name: ops.unstack(ops.convert_to_tensor(v)) for name, v in stack.items()}
            weights += [
                dict(zip(slices, v, strict=True)) for v in zip(*slices.values(), strict=True)
            ]
        return weights

    def freeze(self, frozen_blocks: int) -> None:
        """Freezes the first `frozen_blocks` blocks and thaws the others; 0 thaws all.

        Call it before `compile`, or compile again after it: an optimizer built
        before has state for other variables, and `fit` raises an error (after
        which, as after any, Keras on JAX may leave the model without weights).
        The embeddings before the blocks stay trainable unless their layers are
        not.

        Raises:
            ValueError: If it is not an integer from 0 to the depth.
        """
        check_frozen_blocks(frozen_blocks, self.depth)
        if not self.built or frozen_blocks == self.frozen_blocks:
            self.frozen_blocks = frozen_blocks
            return
        self.frozen_blocks = frozen_blocks
        self._replaced = True
        self._tracker.unlock()
        with contextlib.ExitStack() as scopes:
            for parent in self.path.split("/")[:-1]:
                scopes.enter_context(keras.name_scope(parent))
            for name in list(self.blocks or self.frozen):
                # One weight at a time, so that two copies of all never exist.
                parts = [stack.pop(name) for stack in (self.frozen, self.blocks) if name in stack]
                value = ops.stop_gradient(ops.concatenate([v.value for v in parts]))
                for variable in parts:
                    self._untrack_variable(variable)
                    _retire(variable)
                self._add_stack(name, value.shape[1:], lambda shape, dtype, value=value: value)
        self._tracker.lock()

    def _add_stack(self, name, shape, initializer):
        """Adds the variables of one weight, whose whole stack `initializer` draws or holds."""
        k, whole = self.frozen_blocks, (self.depth, *shape)
        for stack, prefix, part in (
            (self.frozen, "frozen_", slice(k)),
            (self.blocks, "", slice(k, None)),
        ):
            blocks = len(range(self.depth)[part])
            if blocks:
                stack[name] = self.add_weight(
                    name=prefix + name,
                    shape=(blocks, *shape),
                    # The whole is drawn and cut, so that the values do not depend on the cut.
                    initializer=initializer
                    if blocks == self.depth
                    else lambda shape, dtype, part=part: initializer(whole, dtype=dtype)[part],
                    trainable=not prefix,
                    # Norms compute in float32 whatever the policy.
                    autocast="norm" not in name,
                )
                stack[name].stack_axis = 0

    def _block(self, x, w, drawn):
        """One block of tokens, rematerialised as asked."""
        drop = dropping(self.dropout, **drawn)
        body = rematerialised(
            lambda x, w: block(x, w, gelu=self.gelu, epsilon=self.epsilon, drop=drop),
            self.remat,
            scanned=not self._unrolled,
        )
        return batch_cut(body(batch_cut(x), w))

    @property
    def _unrolled(self):
        return self.unroll or keras.backend.backend() == "torch"

    def save_own_variables(self, store):
        # By name, and each the whole stack: where it is split is no matter of the file's.
        for name in self.blocks or self.frozen:
            parts = [stack[name].value for stack in (self.frozen, self.blocks) if name in stack]
            store[name] = parts[0] if len(parts) == 1 else ops.concatenate(parts)

    def load_own_variables(self, store):
        if not self.built:
            raise ValueError(f"Layer {self.name!r} must be built before its weights are loaded.")
        names = list(self.blocks or self.frozen)
        if set(store.keys()) != set(names):
            raise ValueError(
                f"The weights of layer {self.name!r} must be {sorted(names)}. "
                f"Received: {sorted(store.keys())}"
            )
        arrays = {name: np.asarray(store[name]) for name in names}
        for name, array in arrays.items():
            shape = next(tuple(s[name].shape[1:]) for s in (self.frozen, self.blocks) if s)
            if array.shape != (self.depth, *shape):
                raise ValueError(
                    f"The weight {name!r} of layer {self.name!r} must have the shape "
                    f"{(self.depth, *shape)}. Received: {array.shape}"
                )
        for name, array in arrays.items():
            if self.frozen:
                assign_shares(self.frozen[name], array[: self.frozen_blocks].__getitem__)
            if self.blocks:
                assign_shares(self.blocks[name], array[self.frozen_blocks :].__getitem__)

    def get_config(self):
        return {
            **super().get_config(),
            "depth": self.depth,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "remat": self.remat,
            "frozen_blocks": self.frozen_blocks,
            "unroll": self.unroll,
            "seed": self.seed,
        }


def check_frozen_blocks(frozen_blocks, depth):
    """Refuses a number of frozen blocks that the encoder does not have.

    Raises:
        ValueError: If it is not an integer from 0 to `depth`.
    """
    if type(frozen_blocks) is not int or not 0 <= frozen_blocks <= depth:
        raise ValueError(
            "`frozen_blocks` must be an integer from 0 to the depth. "
            f"Received: frozen_blocks={frozen_blocks!r}, depth={depth}"
        )


def _check_optimizer(model, encoder):
    """Refuses to train a model whose optimizer knows other variables than `freeze` made.

    Raises:
        ValueError: If the model's optimizer was built before.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        known = {id(v) for v in optimizer._trainable_variables}
        if any(id(v) not in known for v in encoder.trainable_variables):
            raise ValueError(
                f"Compile the model {model.name!r} again after `freeze`: its optimizer was built "
                "for the variables that the encoder had before."
            )


def _retire(variable):
    """Frees a variable that others replace.

    A function that TensorFlow traced before would go on training it, and nothing
    would be seen of that in the model: without its memory the function fails.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.raw_ops.DestroyResourceOp(resource=variable.value.handle, ignore_lookup_error=True)
