"""A layout is a table: our name of a weight, another project's, and how it lies there."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

#: Rows and columns of the tiles in which matrices are transposed: 256 KiB of float32.
TILE = 256

Shape: TypeAlias = tuple[int, ...]


class Form(NamedTuple):
    """How an array of ours lies in another project's file.

    Args:
        shape: Its shape there, from our shape.
        ours: Our shape, from the one there, as far as that tells.
        read: Our array, from the one there and our shape.
        write: The array there, from ours.
    """

    shape: Callable[[Shape], Shape]
    ours: Callable[[Shape], Shape]
    read: Callable[[np.ndarray, Shape], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


def linear(inputs: int) -> Form:
    """A torch matrix (outputs, inputs) of a kernel whose first `inputs` axes are its inputs."""
    return Form(
        shape=lambda s: (math.prod(s[inputs:]), math.prod(s[:inputs])),
        ours=lambda s: s[::-1],
        read=lambda a, s: transposed(a).reshape(s),
        write=lambda a: transposed(a.reshape(math.prod(a.shape[:inputs]), -1)),
    )


def transposed(matrix: np.ndarray) -> np.ndarray:
    """The transposed matrix as an array of its own, copied in tiles that fit a processor's cache.

    NumPy's own copy takes one row after the other, every number from another cache line: of a
    matrix (3072, 768) about six times as long.
    """
    rows, columns = matrix.shape
    copy = np.empty((columns, rows), matrix.dtype)
    for i in range(0, rows, TILE):
        for j in range(0, columns, TILE):
            copy[j : j + TILE, i : i + TILE] = matrix[i : i + TILE, j : j + TILE].T
    return copy


#: As it is here.
SAME = Form(lambda s: s, lambda s: s, lambda a, s: a, lambda a: a)
#: All axes in one: a bias of heads.
FLAT = Form(lambda s: (math.prod(s),), lambda s: s, np.reshape, np.ravel)
#: Without the leading axis of length 1: a table of positions.
TABLE = Form(lambda s: s[1:], lambda s: (1, *s), np.reshape, lambda a: a[0])
#: A torch linear layer, (outputs, inputs).
LINEAR = linear(1)
#: The same of a kernel (heads, features, outputs).
FROM_HEADS = linear(2)
#: A torch convolution, (outputs, channels, rows, columns).
CONVOLUTION = Form(
    shape=lambda s: (s[3], s[2], s[0], s[1]),
    ours=lambda s: (s[2], s[3], s[1], s[0]),
    read=lambda a, s: a.transpose(2, 3, 1, 0),
    write=lambda a: a.transpose(3, 2, 0, 1),
)


class Row(NamedTuple):
    """One line of a layout's table.

    Args:
        ours: Layer and weight, "encoder/query_kernel". An encoder's is stacked here.
        theirs: The name there; in the encoder with "{i}" for the number of the
            block, without it where blocks are stacked there too.
        form: How it lies there.
        part: Which of `parts` equal parts of their first axis it is.
        parts: How many there are.
        optional: Whether files may leave it out, in all blocks, meaning zero.
    """

    ours: str
    theirs: str
    form: Form = SAME
    part: int = 0
    parts: int = 1
    optional: bool = False

    def their_shape(self, shape: Shape) -> Shape:
        """The shape of the array there of which this is a part, of one block."""
        first, *rest = self.form.shape(shape)
        return (first * self.parts, *rest)

    def piece(self, array: np.ndarray) -> np.ndarray:
        """Its part of an array that it shares."""
        size = len(array) // self.parts
        return array[self.part * size : (self.part + 1) * size]


@dataclass(frozen=True)
class Layout:
    """How a project names the weights of a Vision Transformer and what it takes for granted.

    Args:
        name: The project's.
        rows: The table.
        gelu: Form of GELU where no config says it.
        epsilon: LayerNorm's where no config says it.
        settings: What a config.json says, from the parsed file: any of `heads`,
            `gelu`, `epsilon`, `pooling`, `image_size`.
        renames: Patterns and replacements that bring older names of the project,
            and those within larger models, to the table's, in turn.
        left_out: Pattern of names that belong to something else: text towers,
            optimizers.
        fixed_positions: Whether a file without positions has sines and cosines.
        token_has_position: Whether the [class] token has one, the first, in its
            newest files.
        head_reads_mean: Whether the classifier reads the tokens' mean, though the
            file may have a MAP head too.
    """

    name: str
    rows: tuple[Row, ...]
    gelu: str
    epsilon: float
    settings: Callable[[Mapping[str, Any]], dict[str, Any]] = field(default=lambda config: {})
    renames: tuple[tuple[str, str], ...] = ()
    left_out: str = r"(?!)"
    fixed_positions: bool = False
    token_has_position: bool = True
    head_reads_mean: bool = False

    def row(self, ours: str) -> Row | None:
        """The row of one of our names, if the project knows it."""
        return next((row for row in self.rows if row.ours == ours), None)

    def known(self, ours: str) -> Row:
        """The row of one of our names that every project has.

        Raises:
            KeyError: If this one has not.
        """
        row = self.row(ours)
        if row is None:
            raise KeyError(ours)
        return row

    def rename(self, name: str) -> str | None:
        """The table's name for one in a file; `None` if it belongs to something else."""
        if re.match(self.left_out, name):
            return None
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether a file with these names follows the layout."""
        patches = self.known("patch_embedding/kernel").theirs
        return any(self.rename(name) == patches for name in names)


def attention_rows(ours: str, names: Mapping[str, str], optional: bool = False) -> tuple[Row, ...]:
    """Rows of attention in a project that has a torch linear layer for each of four names."""
    rows = []
    for name, theirs in names.items():
        form = FROM_HEADS if name == "out" else LINEAR
        rows.append(Row(f"{ours}{name}_kernel", f"{theirs}.weight", form))
        rows.append(
            Row(f"{ours}{name}_bias", f"{theirs}.bias", FLAT, optional=optional and name != "out")
        )
    return tuple(rows)


def joined_rows(
    ours: str, theirs: str, names: Sequence[str] = ("query", "key", "value"), optional: bool = False
) -> tuple[Row, ...]:
    """Rows of attention in a project that joins the torch linear layers of some names to one.

    Args:
        ours: Beginning of our names.
        theirs: The name there, before "weight" and "bias".
        names: What is joined, in its order.
        optional: Whether files may leave the biases out.
    """
    return tuple(
        Row(
            f"{ours}{name}_{kind}", f"{theirs}{ending}", form, part, len(names),
            optional=optional and kind == "bias",
        )
        for part, name in enumerate(names)
        for kind, ending, form in (("kernel", "weight", LINEAR), ("bias", "bias", FLAT))
    )  # fmt: skip


def linear_rows(names: Mapping[str, str]) -> tuple[Row, ...]:
    """Kernel and bias of torch linear layers, by our names."""
    rows = []
    for ours, theirs in names.items():
        slash = "" if ours.endswith(("_", "/")) else "_"
        rows.append(Row(f"{ours}{slash}kernel", f"{theirs}.weight", LINEAR))
        rows.append(Row(f"{ours}{slash}bias", f"{theirs}.bias"))
    return tuple(rows)


def norm_rows(names: Mapping[str, str]) -> tuple[Row, ...]:
    """Scale and bias of torch norms, by our names without the ending."""
    rows = []
    for ours, theirs in names.items():
        scale, bias = ("gamma", "beta") if ours == "norm/" else ("_scale", "_bias")
        rows += [Row(f"{ours}{scale}", f"{theirs}.weight"), Row(f"{ours}{bias}", f"{theirs}.bias")]
    return tuple(rows)
