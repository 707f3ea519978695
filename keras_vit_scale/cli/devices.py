"""Options of verbs that train on several devices, and processes of one job."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from keras_vit_scale.distribution.cuts import MIN_SIZE
from keras_vit_scale.distribution.joining import initialize
from keras_vit_scale.distribution.layouts import MeshParallel
from keras_vit_scale.distribution.mesh import make_mesh, parse_mesh


@dataclass(frozen=True)
class Devices:
    """Which devices train together, and how the model lies on them."""

    mesh: str | None = None
    """Devices by axis: data=8 cuts the batch, data=4,model=2 heads and MLP width too (JAX)."""
    fully_sharded: bool = False
    """Cut weights and the optimizer's state over the data axis too."""
    shards: int | None = None
    """Of the data axis, how many neighbours share a copy of a fully sharded model, not all."""
    min_size: int = MIN_SIZE
    """Elements below which full sharding leaves a variable whole on each device."""
    distributed: bool = False
    """Join the other processes of the job: of SLURM, Open MPI, a TPU pod, or as the
    environment's KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID say."""


#: By default one device, as Keras chooses it.
ONE = Devices()


@contextmanager
def training_on(devices: Devices) -> Iterator[None]:
    """The context of training on these devices; by default on one, as Keras chooses it.

    Raises:
        ValueError: If the mesh cannot be read or made, or the processes are not known.
    """
    sizes = {} if devices.mesh is None else parse_mesh(devices.mesh)
    if devices.distributed:
        initialize()
    with (
        MeshParallel(
            make_mesh(**sizes),
            fully_sharded=devices.fully_sharded,
            shards=devices.shards,
            min_size=devices.min_size,
        )
        if devices != ONE
        else nullcontext()
    ):
        yield
