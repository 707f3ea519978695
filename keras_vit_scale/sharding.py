"""Between the host and variables that lie on several devices, perhaps of several processes."""

import contextlib
from collections.abc import Callable, Iterator
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


def batch_cut(x: Tensor) -> Tensor:
    """A tensor of images or tokens of which each device is to hold those of its own images, whole.

    Within a compiled step with a distribution; elsewhere it is the tensor as it is. Without being
    told, XLA lays tokens out as the weights lie that they are multiplied by, and where these are
    cut over the devices that share a batch, each device then has a part of every image.
    """
    if keras.backend.backend() != "jax":
        return x
    distribution = keras.distribution.distribution()
    if distribution is None:
        return x
    import jax

    mesh = distribution.device_mesh
    shares = mesh.shape[list(mesh.axis_names).index(distribution.batch_dim_name)]
    if not isinstance(x, jax.core.Tracer) or x.shape[0] % shares:
        return x
    return keras.distribution.distribute_tensor(x, distribution.get_data_layout(x.shape))


def is_here(value: Tensor) -> bool:
    """Whether this process can see all of a variable's value, or others hold a part of it."""
    if keras.backend.backend() != "jax":
        return True
    return bool(value.is_fully_addressable or value.is_fully_replicated)


def to_host(value: Tensor) -> np.ndarray:
    """A whole value in the host's memory; where others hold a part, all processes must call it."""
    if is_here(value):
        return keras.ops.convert_to_numpy(value)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(value, tiled=True)


@contextlib.contextmanager
def on_host(model: keras.Model) -> Iterator[None]:
    """Lets one process read a model's whole variables and its optimizer's, as when it saves them.

    All processes must enter it together. Within it no distribution is set: what Keras makes beside
    the model, such as an optimizer to compare with, would wait for all processes to make it too.
    """
    distribution = keras.distribution.distribution()
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    kept = [(v, v._value) for v in variables if not is_here(v.value)]
    try:
        for variable, value in kept:
            variable._value = to_host(value)
        keras.distribution.set_distribution(None)
        yield
    finally:
        keras.distribution.set_distribution(distribution)
        for variable, value in kept:
            variable._value = value
