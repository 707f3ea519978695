"""Which axes of a model's weights are cut over which devices; no device need be there."""

import math
import re
from collections.abc import Mapping, Sequence

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.distribution.axes import axes_of
from keras_vit_scale.distribution.mesh import DATA, MODEL

#: Which of a weight's axes are cut, and over which axis of the mesh: heads and MLP width by
#: tensor parallelism, the width by full sharding. The stack of blocks is never cut: a block's
#: weights are gathered when its turn comes.
TENSOR = {"K": MODEL, "M": MODEL}
FULL = {"D": DATA}

#: Elements below which full sharding leaves a variable whole: gathering it costs more than it is.
MIN_SIZE = 2**16

Axes = tuple[str | None, ...]


class Cuts:
    """How weights are cut over a number of devices, by what their axes count.

    `MeshParallel` is this with devices, on the JAX backend. By itself it is for what
    `planning.estimate` is to know of devices that are not there.

    Args:
        data: Devices over which a batch is cut.
        model: Devices that share each block between them.
        fully_sharded: Whether what has `min_size` elements or more is cut over `data` too.
        shards: Of `data`, how many neighbours share a copy of what is fully sharded; a divisor of
            it, by default all.
        min_size: Elements.
        rules: As of `MeshParallel`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> from keras_vit_scale.distribution import Cuts
    >>> Cuts(data=4, model=2).axes("encoder/mlp_in_kernel", (3, 8, 32))
    (None, None, 'model')
    >>> Cuts(data=4, fully_sharded=True, min_size=1).share("encoder/mlp_in_kernel", (3, 8, 32))
    4
    """

    def __init__(
        self,
        data: int = 1,
        model: int = 1,
        *,
        fully_sharded: bool = False,
        shards: int | None = None,
        min_size: int = MIN_SIZE,
        rules: Mapping[str, Sequence[str | None]] | None = None,
    ):
        check_positive_integers(data=data, model=model, min_size=min_size)
        if shards is not None:
            check_positive_integers(shards=shards)
            if not fully_sharded or data % shards:
                raise ValueError(
                    "`shards` must divide the data axis of a mesh on which a model is fully "
                    f"sharded. Received: shards={shards}, data={data}, "
                    f"fully_sharded={fully_sharded}"
                )
        self.data = data
        #: Into how many parts each axis of the mesh cuts a weight.
        self.sizes = {DATA: shards or data, MODEL: model}
        self.fully_sharded, self.min_size = fully_sharded, min_size
        self.rules = {pattern: tuple(axes) for pattern, axes in (rules or {}).items()}
        check_rules(self.rules)

    def axes(self, path: str, shape: Sequence[int]) -> Axes:
        """The mesh's axis, or `None`, for each axis of a variable.

        Raises:
            ValueError: If the variable cannot lie so, or nothing says how it should.
        """
        for pattern, axes in self.rules.items():
            if re.fullmatch(pattern, path):
                return self._checked(path, shape, axes)
        large = len(shape) > 0 and math.prod(shape) >= self.min_size
        letters = axes_of(path)
        if letters is not None and len(letters) == len(shape):
            cut = {**TENSOR, **(FULL if self.fully_sharded and large else {})}
            return self._checked(path, shape, tuple(cut.get(letter) for letter in letters))
        if large and self.fully_sharded:
            return self._largest(path, shape)
        if large and self.sizes[MODEL] > 1:
            raise ValueError(
                f"A layout must say how each variable of {self.min_size} elements or more lies. "
                f"Received: {path!r} of shape {tuple(shape)}, which no rule matches. Give one: "
                f"rules={{{path!r}: {(None,) * len(shape)}}} leaves it whole on each device"
            )
        return (None,) * len(shape)

    def _largest(self, path, shape):
        """Of an unknown variable the largest axis that divides is cut over `data`."""
        fitting = [i for i, n in enumerate(shape) if n % self.sizes[DATA] == 0]
        if not fitting:
            raise ValueError(
                "Full sharding must find an axis that is a multiple of the mesh's data axis, "
                f"{self.sizes[DATA]}. Received: {path!r} of shape {tuple(shape)}. A rule leaves it "
                f"whole on each device: rules={{{path!r}: {(None,) * len(shape)}}}"
            )
        axis = max(fitting, key=lambda i: shape[i])
        return tuple(DATA if i == axis else None for i in range(len(shape)))

    def _checked(self, path, shape, axes):
        if len(axes) != len(shape):
            raise ValueError(
                "A rule must have an entry for each axis of the variable. "
                f"Received: {axes} for {path!r} of shape {tuple(shape)}"
            )
        for size, axis in zip(shape, axes, strict=True):
            if axis is not None and size % self.sizes[axis]:
                option = " for `shards`" if self.fully_sharded and axis == DATA else ""
                raise ValueError(
                    f"An axis that is cut must be a multiple of the mesh's {axis} axis, "
                    f"{self.sizes[axis]}. Received: {path!r} of shape {tuple(shape)}, laid out as "
                    f"{axes}. Take a number that divides {size}{option}"
                )
        return axes

    def share(self, path: str, shape: Sequence[int]) -> int:
        """Into how many parts a variable is cut.

        Raises:
            ValueError: As `axes`.
        """
        return math.prod(self.sizes[axis] for axis in self.axes(path, shape) if axis is not None)


def check_rules(rules: Mapping[str, Axes]) -> None:
    """Refuses rules that cannot be read.

    Raises:
        ValueError: If a pattern is no regular expression, or an axis none of the mesh's.
    """
    for pattern, axes in rules.items():
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"A rule's pattern must be a regular expression. Received: {pattern!r} ({error})"
            ) from error
        used = [axis for axis in axes if axis is not None]
        if not set(used) <= {DATA, MODEL} or len(set(used)) < len(used):
            raise ValueError(
                f"A rule's axes must be {DATA!r}, {MODEL!r}, each once, or None. "
                f"Received: {axes} for {pattern!r}"
            )
