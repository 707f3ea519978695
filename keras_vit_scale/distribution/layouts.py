"""How a model lies on a mesh: whole on each device, or cut over the data, the model, or both.

Keras' `LayoutMap` leaves what no rule matches whole on every device, and says nothing. Here it is
an error: a kernel of G/14 too many is 160 MB on each of a hundred devices.
"""

import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import keras
import numpy as np

from keras_vit_scale.distribution.axes import PATTERNS
from keras_vit_scale.distribution.cuts import FULL, MIN_SIZE, TENSOR, Cuts
from keras_vit_scale.distribution.mesh import DATA, MODEL, check_backend, make_mesh, with_copies
from keras_vit_scale.processes import place


class MeshParallel(Cuts, keras.distribution.ModelParallel):
    """A `keras.distribution` whose layouts follow from what the weights' axes count.

    It is what `data_parallel`, `fully_sharded` and `tensor_parallel` return: give it to
    `keras.distribution.set_distribution`, or use it as a context, before the model is built.

    Batches of `fit` and `evaluate` are cut over the axis `data`. With several processes each
    gives the rows of its own devices, as `train_batches(shard=layout.process_shard)` does.

    Args:
        mesh: From `make_mesh`, or any Keras mesh with the axes `data` and `model`.
        fully_sharded: Whether what has `min_size` elements or more is cut over `data` too.
        shards: As in `fully_sharded`.
        min_size: Elements.
        rules: Axes of the mesh for variables of your own layers, or instead of ours, by a
            regular expression of the whole path: `{"my_dense/kernel": (None, "model")}`. The
            first match decides.

    Raises:
        ValueError: If the mesh has other axes or an argument is out of its range. When a model
            is built, if an axis of a variable does not divide by the mesh's, or no rule says
            how a large variable lies.

    Example:

    >>> from keras_vit_scale import ViT, distribution
    >>> with distribution.MeshParallel(distribution.make_mesh(devices=["cpu:0"])):
    ...     model = ViT("mu/8", 5, image_size=32)
    """

    def __init__(
        self,
        mesh: Any,
        *,
        fully_sharded: bool = False,
        shards: int | None = None,
        min_size: int = MIN_SIZE,
        rules: Mapping[str, Sequence[str | None]] | None = None,
    ):
        check_backend()
        if set(mesh.axis_names) != {DATA, MODEL}:
            raise ValueError(
                f"A mesh must have the axes {DATA!r} and {MODEL!r}. "
                f"Received: axis_names={tuple(mesh.axis_names)}"
            )
        sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
        Cuts.__init__(
            self,
            **sizes,
            fully_sharded=fully_sharded,
            shards=shards,
            min_size=min_size,
            rules=rules,
        )
        #: On which weights lie; batches lie on `device_mesh`.
        self.weight_mesh = mesh if shards in (None, self.data) else with_copies(mesh, shards)
        # Each process reads its own rows: Keras can only share out a tf.data.Dataset.
        keras.distribution.ModelParallel.__init__(
            self,
            layout_map=keras.distribution.LayoutMap(mesh),
            batch_dim_name=DATA,
            auto_shard_dataset=False,
        )
        self._scopes: list[Any] = []

    @property
    def process_shard(self) -> tuple[int, int]:
        """Which share of a global batch this process gives, and of how many shares.

        Raises:
            ValueError: If the rows of its devices do not follow each other.
        """
        return rows_of_process(self)

    def get_variable_layout(self, variable: keras.Variable) -> Any:
        """The layout of a variable, as Keras asks for it when the variable is made."""
        if getattr(variable, "_layout", None) is not None:
            return variable._layout
        axes = self.axes(variable.path, variable.shape)
        return keras.distribution.TensorLayout(axes, self.weight_mesh)

    def check(self, model: keras.Model) -> None:
        """Refuses rules that decide for no variable of a model, and variables made without us.

        Raises:
            ValueError: Naming them.
        """
        paths = [v.path for v in model.variables]
        unused = [p for p in self.rules if not any(re.fullmatch(p, path) for path in paths)]
        if unused:
            raise ValueError(
                "Each rule must match the whole path of a variable. "
                f"Received: {unused}; the paths are {paths[:50]}"
            )
        devices = self.device_mesh.devices.size
        apart = [v.path for v in model.variables if len(v.value.sharding.device_set) != devices]
        if apart:
            raise ValueError(
                "A model must be built after the distribution is set. Received one of which "
                f"{len(apart)} variables do not lie on its {devices} devices: {apart[:5]}"
            )

    def __enter__(self) -> "MeshParallel":
        scope = self.scope()
        scope.__enter__()
        self._scopes.append(scope)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scopes.pop().__exit__(kind, error, trace)


def data_parallel(*, devices: Sequence[Any] | None = None) -> MeshParallel:
    """Each device has the whole model and its share of the batch.

    Args:
        devices: As in `make_mesh`.

    Example:

    >>> import keras
    >>> from keras_vit_scale import ViT, distribution
    >>> with distribution.data_parallel(devices=["cpu:0"]):
    ...     model = ViT("mu/8", 5, image_size=32)
    """
    return MeshParallel(make_mesh(devices=devices))


def fully_sharded(
    *,
    model: int = 1,
    shards: int | None = None,
    min_size: int = MIN_SIZE,
    rules: Mapping[str, Sequence[str | None]] | None = None,
    devices: Sequence[Any] | None = None,
) -> MeshParallel:
    """Parameters, gradients and the optimizer's state are cut over the data axis.

    A block's weights are gathered when its turn comes, and let go of after it; a device holds
    its share of everything else. Known as ZeRO stage 3 or FSDP.

    The width must divide by the parts. Where the devices are too many for that, 128 for g/14 and
    G/14, or weights should travel within a node alone, `shards` neighbours hold one copy of the
    model between them, and gradients are summed over the copies. Known as HSDP.

    Args:
        model: Devices that also share each block between them, as in `tensor_parallel`.
        shards: Rows of the mesh that share a copy, a divisor of them; by default all.
        min_size: Elements below which a variable is whole on each device.
        rules: As in `MeshParallel`.
        devices: As in `make_mesh`.

    Example:

    >>> from keras_vit_scale import ViT, distribution
    >>> with distribution.fully_sharded(devices=["cpu:0"]):
    ...     model = ViT("mu/8", 5, image_size=32)
    """
    mesh = make_mesh(model=model, devices=devices)
    return MeshParallel(mesh, fully_sharded=True, shards=shards, min_size=min_size, rules=rules)


def tensor_parallel(
    model: int,
    *,
    min_size: int = MIN_SIZE,
    rules: Mapping[str, Sequence[str | None]] | None = None,
    devices: Sequence[Any] | None = None,
) -> MeshParallel:
    """Heads and MLP width are cut over `model` devices, which share each block between them.

    Each device computes its heads and its part of the MLP, and two sums a block, of tokens, make
    them whole. Known as Megatron's layout. What remains of the devices cuts the batch.

    Args:
        model: Devices; it must divide the heads and the MLP width.
        min_size: Elements from which a variable that is none of a ViT's needs a rule.
        rules: As in `MeshParallel`.
        devices: As in `make_mesh`.

    Source: Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3.

    Example:

    >>> from keras_vit_scale import ViT, distribution
    >>> with distribution.tensor_parallel(1, devices=["cpu:0"]):
    ...     model = ViT("mu/8", 5, image_size=32)
    """
    return MeshParallel(make_mesh(model=model, devices=devices), min_size=min_size, rules=rules)


def layout_map(mesh: Any, *, fully_sharded: bool = False) -> Any:
    """A `keras.distribution.LayoutMap` of a ViT's weights, for a `ModelParallel` of your own.

    Add rules for your layers, and give it to `keras.distribution.ModelParallel`. Unlike
    `MeshParallel` that sees no shapes: what is small is cut as well, and what no rule matches lies
    whole on each device without a word.

    Args:
        mesh: A Keras mesh with the axes `data` and `model`.
        fully_sharded: Whether the width is cut over `data`.

    Example:

    >>> from keras_vit_scale import distribution
    >>> layouts = distribution.layout_map(distribution.make_mesh(devices=["cpu:0"]))
    >>> layouts["encoder/mlp_in_kernel"].axes
    (None, None, 'model')
    """
    check_backend()
    cut = {**TENSOR, **(FULL if fully_sharded else {})}
    layouts = keras.distribution.LayoutMap(mesh)
    for pattern, letters in PATTERNS.items():
        layouts[pattern] = tuple(cut.get(letter) for letter in letters)
    return layouts


def rows_of_process(distribution: Any) -> tuple[int, int]:
    """Which share of a batch this process' devices take, and of how many shares.

    Raises:
        ValueError: If their rows do not follow each other, or other processes' shares are larger.
    """
    import jax

    mesh, here = distribution.device_mesh, jax.process_index()
    axis = list(mesh.axis_names).index(distribution.batch_dim_name)
    rows = [
        i
        for i, row in enumerate(np.moveaxis(mesh.backend_mesh.devices, axis, 0))
        if any(device.process_index == here for device in row.flat)
    ]
    size = mesh.shape[axis]
    if not rows or rows != list(range(rows[0], rows[0] + len(rows))) or size % len(rows):
        raise ValueError(
            "The rows of a process' devices must follow each other in the mesh, as many for each "
            f"process. Received: rows {rows} of {size} for process {here}"
        )
    return rows[0] // len(rows), size // len(rows)


def batch_shard() -> tuple[int, int]:
    """The present distribution's share of a batch for this process, and how many shares there are.

    Raises:
        ValueError: If several processes train together without a distribution.

    Example:

    >>> from keras_vit_scale.distribution.layouts import batch_shard
    >>> batch_shard()
    (0, 1)
    """
    distribution = keras.distribution.distribution()
    if distribution is not None:
        return rows_of_process(distribution)
    if place()[1] > 1:
        raise ValueError(
            "Several processes need a layout of the model on their devices, such as "
            f"`distribution.data_parallel()`. Received: none, and {place()[1]} processes"
        )
    return 0, 1


def batch_multiple() -> int:
    """What a batch's size must be a multiple of: the rows of the present mesh.

    Example:

    >>> from keras_vit_scale.distribution.layouts import batch_multiple
    >>> batch_multiple()
    1
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return int(mesh.shape[list(mesh.axis_names).index(distribution.batch_dim_name)])
