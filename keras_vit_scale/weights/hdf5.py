"""HDF5 as Keras writes it: groups, and datasets whose bytes lie in one piece in the file.

h5py reads the structure alone: names, shapes, types, and where the bytes are. These are then
checked and read like any other file's, so that no filter is run, no other file opened, and nothing
allocated on HDF5's word.
"""

from collections.abc import Iterator
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from keras_vit_scale.weights.declared import (
    ArrayInfo,
    WeightsError,
    check_count,
    check_name,
    check_ranges,
    check_total,
    declare,
)
from keras_vit_scale.weights.files import read_array, size_of

if TYPE_CHECKING:
    import h5py

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 32


class Hdf5File:
    """The datasets of an open HDF5 file, by their path."""

    def __init__(self, file: BufferedReader, path: Path, max_bytes: int):
        import h5py

        self.file = file
        self.infos: dict[str, ArrayInfo] = {}
        self.offsets: dict[str, int] = {}
        ranges: dict[str, tuple[int, int]] = {}
        with h5py.File(path, "r") as root:
            for name, dataset in datasets(root):
                info, offset = _declared(name, dataset, max_bytes)
                self.infos[name], self.offsets[name] = info, offset
                ranges[name] = (offset, offset + info.nbytes)
        check_total(self.infos, max_bytes)
        check_ranges(ranges, size_of(file))

    def read(self, name: str) -> np.ndarray:
        return read_array(self.file, self.offsets[name], self.infos[name])

    def close(self) -> None:
        self.file.close()


def datasets(
    group: "h5py.Group", prefix: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, "h5py.Dataset"]]:
    """Every dataset below a group, by hard links alone and each object once."""
    import h5py

    seen = set() if seen is None else seen
    for key in group:
        name = check_name(prefix + key)
        link = group.get(key, getlink=True)
        if type(link) is not h5py.HardLink:
            raise WeightsError(
                "An HDF5 file of weights must hold them itself; links elsewhere are not "
                f"followed. Received: {type(link).__name__} {name!r}"
            )
        item = group[key]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or depth > MAX_DEPTH:
            raise WeightsError(
                "Groups and datasets of an HDF5 file must form a tree, each with one name, at "
                f"most {MAX_DEPTH} deep. Received: {name!r} again or deeper"
            )
        seen.add(address)
        check_count(len(seen))
        if isinstance(item, h5py.Dataset):
            yield name, item
        elif isinstance(item, h5py.Group):
            yield from datasets(item, f"{name}/", depth + 1, seen)
        else:
            raise WeightsError(
                "An HDF5 file of weights may hold groups and datasets only. "
                f"Received: {type(item).__name__} {name!r}"
            )


def _declared(name: str, dataset: "h5py.Dataset", max_bytes: int) -> tuple[ArrayInfo, int]:
    """Shape and type of a dataset, and where its bytes start."""
    import h5py

    settings = dataset.id.get_create_plist()
    if settings.get_external_count() or settings.get_layout() != h5py.h5d.CONTIGUOUS:
        raise WeightsError(
            "A dataset of weights must be stored in one piece, in its own file, without "
            "compression, as Keras stores it; copy it with `h5py` into such a file. "
            f"Received: {name!r} in chunks, virtual, compact or external"
        )
    kind = dataset.id.get_type()
    # By HDF5's own comparison: a type that differs in one bit's place is another.
    dtype = next((dtype for known, dtype in _known_types() if kind == known), None)
    if dtype is None:
        raise WeightsError(
            "A dataset of weights must hold little-endian IEEE floats or integers, or Keras' "
            f"bfloat16. Received: {name!r} of {str(dataset.dtype)[:80]}"
        )
    if dataset.shape is None:
        raise WeightsError(f"A dataset of weights must have a shape. Received: {name!r} without")
    info = declare(name, dataset.shape, dtype, max_bytes)
    offset = dataset.id.get_offset()
    if info.nbytes and (offset is None or dataset.id.get_storage_size() != info.nbytes):
        raise WeightsError(
            f"The file must hold the {info.nbytes} bytes of {name!r}. "
            f"Received: {dataset.id.get_storage_size() if offset else 0}; it was not written to "
            "its end"
        )
    return info, offset if info.nbytes else 0


@cache
def _known_types():
    """Types of HDF5 and what they are in NumPy; h5py leaves bfloat16 as two opaque bytes."""
    import h5py

    names = ["float16", "float32", "float64"]
    names += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    known = [(h5py.h5t.py_create(np.dtype(name)), np.dtype(name)) for name in names]
    return [*known, (h5py.h5t.py_create(np.dtype("V2")), np.dtype(ml_dtypes.bfloat16))]
