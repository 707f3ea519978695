"""What an optimizer keeps for a weight, found by building it for one that has no value."""

import copy
from math import prod
from typing import Any

import keras

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.optimizers import Adafactor, AdamW, Momentum
from keras_vit_scale.planning.abstract import abstract_variables

#: Optimizers by name: ours with their defaults, and Keras' Adam, which keeps all in float32.
OPTIMIZERS = {
    "adafactor": Adafactor,
    "adamw": AdamW,
    "momentum": Momentum,
    "adam": keras.optimizers.Adam,
}

#: Blocks of the stack of which an optimizer is asked; no other axis is likely to be as long.
_BLOCKS = 37

#: Shape and bytes a number of one array.
Slot = tuple[tuple[int, ...], int]


def named_optimizer(
    optimizer: str | keras.optimizers.Optimizer | None,
) -> keras.optimizers.Optimizer:
    """The optimizer of a name in `OPTIMIZERS`, or one as it is; by default `Adafactor()`.

    Raises:
        ValueError: If there is none of the name, or it is no optimizer.
    """
    if optimizer is None:
        return Adafactor()
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return optimizer
    check_one_of(OPTIMIZERS, optimizer=optimizer)
    return OPTIMIZERS[optimizer]()


class Slots:
    """The arrays that an optimizer keeps for each weight, remembered by the weight's shape.

    Args:
        optimizer: Any Keras optimizer; its settings are taken, and it is left as it is.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self._kind, self._config = type(optimizer), optimizer.get_config()
        # What decays changes no state, and patterns would miss the weights that are not there.
        self._config["weight_decay"] = None
        self._known: dict[tuple[tuple[int, ...], str, bool], list[Slot]] = {}
        self._constants = self._built([])
        #: Bytes of what it has whatever it trains, such as its count of steps.
        self.constant = sum(prod(shape) * size for shape, size in self._constants)

    def __call__(self, shape: tuple[int, ...], dtype: str, stacked: bool) -> list[Slot]:
        """The slots of a weight of a shape and type; `stacked` if its first axis counts blocks."""
        if not stacked:
            return self._asked(shape, dtype, stacked)
        # Where each slot has the stack's axis, one with more blocks has more of the same.
        slots = self._asked((_BLOCKS, *shape[1:]), dtype, stacked)
        if all(slot[:1] == (_BLOCKS,) for slot, _ in slots):
            return [((shape[0], *slot[1:]), size) for slot, size in slots]
        return self._asked(shape, dtype, stacked)

    def _asked(self, shape, dtype, stacked):
        key = (shape, dtype, stacked)
        if key not in self._known:
            built = self._built([key])
            for slot in self._constants:
                built.remove(slot)
            self._known[key] = built
        return self._known[key]

    def _built(self, weights: list[tuple[tuple[int, ...], str, bool]]) -> list[Slot]:
        optimizer = self._kind.from_config(copy.deepcopy(self._config))
        _identify(optimizer)
        with abstract_variables():
            variables = [_variable(*weight) for weight in weights]
            optimizer.build(variables)
        return [(tuple(v.shape), item_size(v.dtype)) for v in optimizer.variables]


def _variable(shape, dtype, stacked):
    variable = keras.Variable("zeros", shape=shape, dtype=dtype, name="weight")
    if stacked:
        variable.stack_axis = 0
    return variable


def _identify(optimizer: Any) -> None:
    """Lets an optimizer tell variables apart that have no value: TensorFlow's goes by the value."""
    while optimizer is not None:
        optimizer._var_key = id
        optimizer = getattr(optimizer, "inner_optimizer", None)


def item_size(dtype: Any) -> int:
    """Bytes of one number of a dtype.

    Example:

    >>> from keras_vit_scale.planning.state import item_size
    >>> item_size("bfloat16"), item_size("float32"), item_size("bool")
    (2, 4, 1)
    """
    name = keras.backend.standardize_dtype(dtype)
    digits = "".join(c for c in name.removeprefix("b") if c.isdigit())
    return int(digits) // 8 if digits else 1
