"""The arrays of a checkpoint by our names: parts taken apart, blocks stacked, grids resampled."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from keras_vit_scale.models.architecture import Architecture
from keras_vit_scale.weights.checkpoint import PATCHES, POSITION, TOKEN, Checkpoint
from keras_vit_scale.weights.layout import Row, Shape
from keras_vit_scale.weights.resampling import resample_patches, resample_positions


def read_weights(
    checkpoint: Checkpoint,
    architecture: Architecture,
    wanted: Mapping[str, Shape],
    grid: tuple[int, int],
    resample: str,
) -> Iterator[dict[str, np.ndarray]]:
    """The weights by our names, in float32, stacked and resampled; a warning of any not finite.

    They come in groups, so that who uses each at once never holds all. Call it after
    `Checkpoint.check` has found nothing.

    Args:
        checkpoint: The open file.
        architecture: What the file's model is.
        wanted: Shapes by our names, the encoder's stacked.
        grid: Rows and columns of patches of the positions wanted.
        resample: How positions are resampled.

    Raises:
        WeightsError: If an array cannot be read.
    """
    # Arrays that are parts of one are read once: ours are grouped by theirs.
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for ours in wanted:
        row = checkpoint.layout.known(ours)
        groups[row.theirs].append(row)
    broken: list[str] = []
    # Positions may hold a part of the token: what stands before the blocks comes as one group.
    first: dict[str, np.ndarray] = {}
    for theirs in [t for t, rows in groups.items() if rows[0].ours in (PATCHES, POSITION, TOKEN)]:
        first |= _read_group(checkpoint, groups.pop(theirs), wanted, broken)
    if POSITION in first:
        _place(first, architecture.grid, grid, resample)
    if PATCHES in first:
        first[PATCHES] = resample_patches(first[PATCHES], wanted[PATCHES][0])
    yield first
    for rows in groups.values():
        yield _read_group(checkpoint, rows, wanted, broken)
    if broken:
        warnings.warn(
            f"{checkpoint.archive.path} holds values that are not finite, in {', '.join(broken)}",
            stacklevel=3,
        )


def _read_group(checkpoint, rows, wanted, broken):
    """Ours that are parts of one array of theirs, or of one in each block."""
    first = rows[0]
    if not first.ours.startswith("encoder/"):
        array = _read(checkpoint, first.theirs, broken)
        found = {}
        for row in rows:
            shape = wanted[row.ours]
            if row.ours == POSITION:
                shape = (1, array.size // shape[2], shape[2])
            if row.ours == PATCHES:
                shape = row.form.ours(array.shape)
            found[row.ours] = np.ascontiguousarray(row.form.read(row.piece(array), shape))
        return found
    names = checkpoint.block_names(first, wanted[first.ours][0])
    if checkpoint.stacked:
        return {first.ours: _read(checkpoint, names[0], broken)}
    # Zeros, for what a file may leave out.
    stacks = {row.ours: np.zeros(wanted[row.ours], "float32") for row in rows}
    for i, name in enumerate(names):
        if name in checkpoint.names:
            array = _read(checkpoint, name, broken)
            for row in rows:
                stack = stacks[row.ours]
                stack[i] = row.form.read(row.piece(array), stack.shape[1:])
    return stacks


def _read(checkpoint, name, broken):
    """One array in float32; its name joins `broken` if a value is not finite."""
    name = checkpoint.names[name]
    array = checkpoint.archive.read(name).astype("float32", copy=False)
    if array.size and not (np.isfinite(array.max()) and np.isfinite(array.min())):
        count = array.size - np.count_nonzero(np.isfinite(array))
        broken.append(f"{name} ({count} of {array.size})")
    return array


def _place(found, old, new, resample):
    """Takes the position of a [class] token apart, adds it to the token, resamples the rest."""
    positions = found[POSITION]
    extra = positions.shape[1] - old[0] * old[1]
    if extra and TOKEN in found and positions[:, 0].any():
        found[TOKEN] = found[TOKEN] + positions[:, :1]
    found[POSITION] = resample_positions(positions[:, extra:], old, new, resample)
