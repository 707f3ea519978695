"""A device's memory in a training step, by kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import keras

from keras_vit_scale.distribution.cuts import Cuts
from keras_vit_scale.distribution.mesh import DATA
from keras_vit_scale.planning.activations import Tokens, images_held, kept, workspace
from keras_vit_scale.planning.parameters import Weight
from keras_vit_scale.planning.state import Slots, item_size

#: Layers that keep float32 where the others compute in 16 bits.
_WIDE = ("norm", "head")


@dataclass(frozen=True)
class Memory:
    """Bytes of one device's memory when a step has most of it, by kind.

    Args:
        parameters: The weights.
        gradients: Of all blocks, which are there together; those of other layers come before
            or after.
        optimizer: The optimizer's state.
        activations: What the blocks keep for the backward pass.
        workspace: What the step works with: one block's arrays, the batch, copies of weights.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())


def step_memory(
    tokens: Tokens,
    depth: int,
    weights: Sequence[Weight],
    *,
    pixels: int,
    remat: str | None,
    policy: keras.DTypePolicy,
    cuts: Cuts,
    slots: Slots,
) -> Memory:
    """One device's memory when a step has most of it.

    Args:
        tokens: What the device has in its blocks.
        depth: Number of blocks.
        weights: All of the model's.
        pixels: Of an image.
        remat: As of `Encoder`.
        policy: The model's types.
        cuts: How weights lie on devices.
        slots: What the optimizer keeps.

    Raises:
        ValueError: If a weight cannot be cut as the layout would.
    """
    state = [(w, *_held(w, tokens.half, policy, cuts, slots)) for w in weights]
    blocks = [w for w in weights if w.part == "encoder"]
    parameters = sum(bytes_ for _, bytes_, _ in state)
    gradients = sum(bytes_ for w, bytes_, _ in state if w.part == "encoder")
    optimizer = sum(kept_ for _, _, kept_ in state) + slots.constant
    activations = depth * kept(tokens, remat)
    working = workspace(tokens) + images_held(tokens.images, pixels)
    working += _gathered(blocks, depth, tokens.half, cuts)
    if tokens.tiled and not tokens.half:
        # The factors of products in bfloat16: the weights of all blocks together.
        working += sum(2 * w.size // cuts.share(w.path, w.shape) for w in blocks)
    if parameters > gradients + activations + working:
        # Few blocks below a large head: there is most when all gradients are there.
        return Memory(parameters, parameters, optimizer, 0, 0)
    return Memory(parameters, gradients, optimizer, activations, working)


def _held(
    weight: Weight, half: bool, policy: keras.DTypePolicy, cuts: Cuts, slots: Slots
) -> tuple[int, int]:
    """Bytes of one device's part of a weight, and of what the optimizer keeps for it."""
    dtype = "float32" if half and weight.part in _WIDE else policy.variable_dtype
    parts = [1] * len(weight.shape)
    if prod(cuts.sizes.values()) > 1:
        axes = cuts.axes(weight.path, weight.shape)
        parts = [cuts.sizes[axis] if axis else 1 for axis in axes]
    found = slots(weight.shape, dtype, stacked=weight.part == "encoder")
    return (
        weight.size * item_size(dtype) // prod(parts),
        sum(prod(shape) * size // _parts(shape, weight.shape, parts) for shape, size in found),
    )


def _parts(slot, shape, parts):
    """Into how many parts an optimizer's slot is cut, which may lack one axis of its weight."""
    if slot == shape:
        return prod(parts)
    without = [i for i in range(len(shape)) if (*shape[:i], *shape[i + 1 :]) == slot]
    return prod(parts[: without[0]] + parts[without[0] + 1 :]) if without else 1


def _gathered(blocks: Sequence[Weight], depth: int, half: bool, cuts: Cuts) -> int:
    """Bytes of a block that is cut over the data: its weights, gathered, and their gradients."""
    if not cuts.fully_sharded:
        return 0
    cut = [w for w in blocks if DATA in cuts.axes(w.path, w.shape)]
    numbers = sum(w.size // depth * cuts.sizes[DATA] // cuts.share(w.path, w.shape) for w in cut)
    return 2 * numbers * (2 if half else 4)
