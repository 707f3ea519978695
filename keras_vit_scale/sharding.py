"""Values from the host to a variable that lies on several devices, each its share alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_vit_scale.types import Tensor


def is_sharded(value: Tensor) -> bool:
    """Whether a variable's value lies on more than one device, be it cut or whole on each."""
    return keras.backend.backend() == "jax" and len(value.sharding.device_set) > 1


def assign_shares(variable: keras.Variable, share: Callable[[tuple[slice, ...]], Any]) -> None:
    """Sets a variable so that no device holds more than its share of the values.

    `variable.assign(array)` puts the whole array on one device first, and with several processes
    sends it round to see that all have the same.

    Args:
        variable: Of the shape that it has.
        share: A function of slices, one an axis, to the values there; `array.__getitem__` of an
            array on the host.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale.sharding import assign_shares
    >>> variable = keras.Variable(np.zeros((2, 3)))
    >>> assign_shares(variable, np.ones((2, 3)).__getitem__)
    >>> float(keras.ops.sum(variable))
    6.0
    """
    value = variable.value
    if not is_sharded(value):
        variable.assign(share((slice(None),) * len(value.shape)))
        return
    import jax

    shape, dtype = tuple(value.shape), np.dtype(value.dtype)

    def read(index):
        # JAX wants arrays of the dtype, and 64 bits would be refused.
        return np.asarray(share(index)).astype(dtype, copy=False)

    variable.assign(jax.make_array_from_callback(shape, value.sharding, read))
