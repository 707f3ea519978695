"""The devices as a grid of two axes: `data`, over which a batch is cut, and `model`."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_vit_scale.checks import check_positive_integers

DATA, MODEL = "data", "model"

#: Over which weights are the same, where only a part of `data` shares them out.
COPY = "copy"


def make_mesh(data: int | None = None, model: int = 1, devices: Sequence[Any] | None = None) -> Any:
    """A `keras.distribution.DeviceMesh` of `data` rows of `model` devices each.

    The devices of a row hold one copy of the model between them; neighbours in the list of
    devices stand in one row, so that within a node they talk most.

    Args:
        data: Rows; by default as many as there are devices for.
        model: Devices a row.
        devices: Names such as "gpu:0", or JAX's devices; by default all that all processes
            have together.

    Raises:
        ValueError: If the backend is not JAX, a number is no positive integer, or the mesh is
            not for as many devices as there are.

    Example:

    >>> from keras_vit_scale import distribution
    >>> distribution.make_mesh(devices=["cpu:0"]).shape
    (1, 1)
    """
    check_backend()
    check_positive_integers(model=model)
    devices = keras.distribution.list_devices() if devices is None else list(devices)
    if data is None:
        if len(devices) % model:
            raise ValueError(
                "The devices must be a multiple of `model`. "
                f"Received: model={model}, {len(devices)} devices"
            )
        data = len(devices) // model
    check_positive_integers(data=data)
    if data * model != len(devices):
        raise ValueError(
            "A mesh must have `data` times `model` devices, all of those there are; name fewer "
            f"in `devices`. Received: data={data}, model={model}, {len(devices)} devices"
        )
    return keras.distribution.DeviceMesh((data, model), (DATA, MODEL), devices)


def with_copies(mesh: Any, shards: int) -> Any:
    """The same devices, with `data` in two axes: copies of the model, of `shards` neighbours each.

    A batch is cut over the mesh as it was, a weight over this one's `data`.

    Example:

    >>> from keras_vit_scale import distribution
    >>> from keras_vit_scale.distribution.mesh import with_copies
    >>> mesh = distribution.make_mesh(devices=[f"cpu:{i}" for i in range(8)], model=2)
    >>> mesh.shape, with_copies(mesh, 2).shape
    ((4, 2), (2, 2, 2))
    """
    sizes: list[int] = []
    names: list[str] = []
    for name, size in zip(mesh.axis_names, mesh.shape, strict=True):
        sizes += [size // shards, shards] if name == DATA else [size]
        names += [COPY, DATA] if name == DATA else [name]
    devices = list(mesh.devices.flatten())
    return keras.distribution.DeviceMesh(tuple(sizes), tuple(names), devices)


def parse_mesh(text: str) -> dict[str, Any]:
    """The numbers in a text such as "data=4,model=2", for `make_mesh`.

    Raises:
        ValueError: If it names another axis, one twice, or gives no positive integer.

    Example:

    >>> from keras_vit_scale.distribution import parse_mesh
    >>> parse_mesh("data=4,model=2")
    {'data': 4, 'model': 2}
    """
    pairs = [part.partition("=") for part in text.split(",")]
    sizes = {name.strip(): value.strip() for name, _, value in pairs}
    if (
        len(sizes) != len(pairs)
        or not sizes.keys() <= {DATA, MODEL}
        or not all(value.isascii() and value.isdigit() and int(value) for value in sizes.values())
    ):
        raise ValueError(
            "A mesh must be numbers of devices by axis: data=4, model=2, or data=4,model=2. "
            f"Received: {text!r}"
        )
    return {name: int(value) for name, value in sizes.items()}


def check_backend() -> None:
    """Refuses backends on which Keras distributes nothing.

    Raises:
        ValueError: If the backend is not JAX.
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            "More than one device needs the JAX backend: set KERAS_BACKEND=jax before Python "
            "starts. Files of weights and checkpoints are the same on every backend. "
            f"Received: the {backend} backend"
        )
