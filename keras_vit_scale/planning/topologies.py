"""TPUs that are not there, for which their own compiler compiles on any Linux machine."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

#: Kinds of TPU by the name that their compiler knows, with the axes of their mesh of chips.
TPU_KINDS = {"v3": 2, "v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}

#: A host's chips, by axis of the mesh; a smaller topology is one host with fewer.
_HOST = (2, 2, 1)

#: What libtpu reads when it is loaded. It is to ask no metadata server which TPU this machine is,
#: and to lock no file: the lock is for chips, and this machine has none.
_WITHOUT_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def tpu_devices(topology: str) -> list[Any]:
    """The devices of a TPU that need not be there, to compile for.

    They are JAX devices: a `keras.distribution.DeviceMesh` may hold them, and
    `compile_step` compiles for them; nothing can run on them. A device is what
    frameworks see as one: a core of v3, a chip of the others.

    Args:
        topology: A kind of `TPU_KINDS` and its chips by axis, "v5e:2x4", "v4:2x2x1"; or a
            kind alone, "v5e", for one device.

    Raises:
        ValueError: If there is no such topology.
        ModuleNotFoundError: If JAX or libtpu is not installed.

    Example:

    >>> from keras_vit_scale.planning import tpu_devices
    >>> len(tpu_devices("v5e:4x4"))  # doctest: +SKIP
    16
    """
    kind, chips = _parsed(topology)
    devices = _devices(kind, chips)
    return devices if ":" in topology else devices[:1]


def _parsed(topology: str) -> tuple[str, tuple[int, ...]]:
    kind, colon, sizes = str(topology).partition(":")
    axes = TPU_KINDS.get(kind)
    if axes and not colon:
        return kind, (1,) * axes
    if axes and re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes) and sizes.count("x") + 1 == axes:
        return kind, tuple(int(size) for size in sizes.split("x"))
    forms = ", ".join(f"{kind}:{'x'.join('2' * axes)}" for kind, axes in TPU_KINDS.items())
    raise ValueError(
        "`topology` must be a kind of TPU and its chips by axis, in a form of "
        f"{forms}, or a kind alone. Received: topology={topology!r}"
    )


def _devices(kind, chips):
    from jax.experimental import topologies

    if find_libtpu() is None:
        raise ModuleNotFoundError(
            "Compiling for a TPU that is not there needs libtpu, which there is for Linux on "
            'x86-64: pip install "keras-vit-scale[tpu]"',
            name="libtpu",
        )
    options: dict[str, Any] = {}
    host = tuple(min(c, h) for c, h in zip((*chips, 1)[:3], _HOST, strict=True))
    if host != _HOST:
        options["chips_per_host_bounds"] = host
    if kind == "v4":
        # Its two cores are one device to frameworks, as those of v5p are without being told.
        options["chip_config_name"] = "megacore"
    name = f"{kind}:{'x'.join(map(str, chips))}"
    with _without_tpu():
        try:
            return list(topologies.get_topology_desc(name, "tpu", **options).devices)
        except Exception as error:  # libtpu's own are of no stable type
            raise ValueError(
                f"There is no such TPU. Received: topology={name!r}, of which libtpu says: {error}"
            ) from error


def find_libtpu() -> str | None:
    """Where libtpu is, which has the compiler; `None` if it is not installed."""
    if path := os.environ.get("TPU_LIBRARY_PATH"):
        return path
    try:
        import libtpu
    except ModuleNotFoundError:
        return None
    return libtpu.get_library_path()


@contextlib.contextmanager
def _without_tpu() -> Iterator[None]:
    """Tells libtpu, if it is loaded meanwhile, that this machine has no TPU, unless it has."""
    import jax

    if jax.default_backend() == "tpu":
        yield
        return
    before = {name: os.environ[name] for name in _WITHOUT_TPU if name in os.environ}
    os.environ.update({**_WITHOUT_TPU, **before})
    try:
        yield
    finally:
        for name in _WITHOUT_TPU.keys() - before.keys():
            del os.environ[name]
