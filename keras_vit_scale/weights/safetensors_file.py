"""Files of safetensors: a JSON header of names, shapes, types and offsets, then the bytes.

https://github.com/huggingface/safetensors describes the format. Read here and not by its
library, whose own reader keeps no limits but the header's length, and maps the file.
"""

import json
import struct
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from keras_vit_scale.atomic import replacing
from keras_vit_scale.weights.declared import (
    MAX_HEADER,
    ArrayInfo,
    WeightsError,
    check_dtype,
    check_name,
    check_ranges,
    check_total,
    declare,
    parse_json,
)
from keras_vit_scale.weights.files import read_array, size_of

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": ml_dtypes.bfloat16,
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
DTYPES = {name: np.dtype(dtype) for name, dtype in DTYPES.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
METADATA = "__metadata__"
ENTRY = {"dtype", "shape", "data_offsets"}


class SafetensorsFile:
    """The arrays of an open safetensors file."""

    def __init__(self, file: BufferedReader, max_bytes: int):
        self.file = file
        header, start = read_header(file)
        self.infos: dict[str, ArrayInfo] = {}
        ranges: dict[str, tuple[int, int]] = {}
        for name, entry in header.items():
            if name != METADATA:
                self.infos[name], ranges[name] = _declared(name, entry, max_bytes)
        check_total(self.infos, max_bytes)
        self.offsets = {name: start + first for name, (first, _) in ranges.items()}
        _check_cover(ranges, size_of(file) - start)

    def read(self, name: str) -> np.ndarray:
        return read_array(self.file, self.offsets[name], self.infos[name])

    def close(self) -> None:
        self.file.close()


def read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where the bytes begin."""
    file.seek(0)
    prefix = file.read(8)
    (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
    if not 2 <= length <= min(MAX_HEADER, size_of(file) - 8):
        raise WeightsError(
            "The header of a safetensors file must lie in the file and have 2 to "
            f"{MAX_HEADER} bytes. Received: {length}; the file has {size_of(file)} bytes"
        )
    return parse_json(file.read(length), "The header of a safetensors file"), 8 + length


def _declared(name: str, entry: Any, max_bytes: int) -> tuple[ArrayInfo, tuple[int, int]]:
    """Shape and type, and the range of bytes, of one entry of a header."""
    if not isinstance(entry, dict) or set(entry) != ENTRY:
        raise WeightsError(
            f"An entry of a safetensors header must hold {sorted(ENTRY)}. "
            f"Received: {str(entry)[:80]} for {name[:80]!r}"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WeightsError(
            f"A type of safetensors must be one of {sorted(DTYPES)}. "
            f"Received: {str(dtype)[:80]!r} for {name[:80]!r}"
        )
    if not isinstance(shape, list):
        raise WeightsError(f"A shape must be a list. Received: {str(shape)[:80]} for {name[:80]!r}")
    info = declare(name, shape, DTYPES[dtype], max_bytes)
    if (
        not isinstance(offsets, list)
        or [type(o) for o in offsets] != [int, int]
        or offsets[1] - offsets[0] != info.nbytes
    ):
        raise WeightsError(
            f"`data_offsets` must be two integers {info.nbytes} bytes apart, as the shape "
            f"{info.shape} of {dtype} has. Received: {str(offsets)[:80]} for {name!r}"
        )
    return info, (offsets[0], offsets[1])


def _check_cover(ranges: Mapping[str, tuple[int, int]], length: int) -> None:
    """The arrays must fill the bytes after the header, without gap or overlap."""
    check_ranges(ranges, length)
    covered = sum(stop - start for start, stop in ranges.values())
    if covered != length:
        raise WeightsError(
            "The arrays must account for every byte of a safetensors file. "
            f"Received: {covered} bytes declared, {length} present"
        )


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes named arrays to a safetensors file, which is replaced at once.

    Arrays pass through one at a time; no second copy of them is made.

    Args:
        path: Where to.
        arrays: Arrays by name, of any types that safetensors has, bfloat16 included.
        metadata: Strings by name, kept in the header.

    Raises:
        WeightsError: If a name or a type is none that is read back.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_vit_scale.weights.archive import open_archive
    >>> from keras_vit_scale.weights.safetensors_file import write_safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(f"{folder}/w.safetensors", {"kernel": np.ones((2, 3), "float32")})
    ...     with open_archive(f"{folder}/w.safetensors") as archive:
    ...         archive.infos["kernel"].shape
    (2, 3)
    """
    arrays = {check_name(name): np.asarray(array) for name, array in arrays.items()}
    if len(arrays) != len({*arrays} - {METADATA}):
        raise WeightsError(f"No array of a safetensors file may be called {METADATA!r}")
    header: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    # Wide types first, so that every array is aligned, as safetensors' own writer does.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    offset = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": NAMES[check_dtype(name, array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with replacing(Path(path)) as new, open(new, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
