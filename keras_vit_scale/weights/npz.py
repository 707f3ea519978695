"""NumPy's `.npz`: a zip archive of `.npy` members, each a header and then the bytes.

The header is matched against the one form that NumPy writes for plain arrays, so that nothing in
it is evaluated, and objects, fields and pickles cannot even be named.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from keras_vit_scale.atomic import replacing
from keras_vit_scale.weights.declared import (
    ArrayInfo,
    WeightsError,
    check_dtype,
    check_name,
    check_total,
    declare,
)
from keras_vit_scale.weights.files import CHUNK
from keras_vit_scale.weights.zip_archive import open_zip

MAGIC = b"\x93NUMPY"
SUFFIX = ".npy"

#: Bytes of an `.npy` header at most; NumPy writes 118 for any array of few dimensions.
MAX_NPY_HEADER = 2**12

_HEADER = re.compile(
    r"\{'descr': '(?P<descr>[<|][a-zA-Z]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d+,(?: \d+(?:, \d+)*)?)?)\), \} *\n"
)


class Member(NamedTuple):
    """Where an array lies in an archive, and in which order."""

    entry: zipfile.ZipInfo
    header: int
    fortran: bool
    info: ArrayInfo


class NpzFile:
    """The arrays of an open `.npz` file."""

    def __init__(self, file: BinaryIO, max_bytes: int):
        self.file = file
        self.zip, entries = open_zip(file)
        self.members: dict[str, Member] = {}
        for entry in entries:
            name = check_name(entry.filename.removesuffix(SUFFIX))
            if not entry.filename.endswith(SUFFIX):
                raise WeightsError(
                    f"An .npz file may hold {SUFFIX} members only. Received: {name!r}"
                )
            self.members[name] = self._declared(name, entry, max_bytes)
        self.infos = {name: member.info for name, member in self.members.items()}
        check_total(self.infos, max_bytes)

    def _declared(self, name: str, entry: zipfile.ZipInfo, max_bytes: int) -> Member:
        with self.zip.open(entry) as stream:
            shape, dtype, fortran, header = read_npy_header(stream, name)
        info = declare(name, shape, dtype, max_bytes)
        if header + info.nbytes != entry.file_size:
            raise WeightsError(
                "A member of an .npz file must have the bytes that its header declares, here "
                f"{header} + {info.nbytes}. Received: {entry.file_size} for {name!r}"
            )
        return Member(entry, header, fortran, info)

    def read(self, name: str) -> np.ndarray:
        """Streams one member into place; zip's checksum is compared at its end."""
        entry, header, fortran, info = self.members[name]
        # In Fortran's order the bytes are those of the transposed array in C's.
        array = np.empty(info.shape[::-1] if fortran else info.shape, info.dtype)
        into, done = array.reshape(-1).view(np.uint8).data, 0
        with self.zip.open(entry) as stream:
            stream.read(header)
            while chunk := stream.read(CHUNK):
                into[done : done + len(chunk)] = chunk
                done += len(chunk)
        if done != len(into):
            raise WeightsError(f"{name!r} ends {len(into) - done} bytes early; it is cut short")
        return array.T if fortran else array

    def close(self) -> None:
        self.zip.close()
        self.file.close()


def read_npy_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype, bool, int]:
    """Shape, type, whether in Fortran's order, and the bytes of the header that says so."""
    prefix = stream.read(8)
    width = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(prefix[6:])
    if prefix[:6] != MAGIC or width is None:
        raise WeightsError(
            f"A member of an .npz file must be an array as NumPy writes it. "
            f"Received: {prefix!r} at the start of {name!r}"
        )
    length = int.from_bytes(stream.read(width), "little")
    if length > MAX_NPY_HEADER:
        raise WeightsError(
            f"The header of an array may have at most {MAX_NPY_HEADER} bytes. "
            f"Received: {length} for {name!r}"
        )
    text = stream.read(length).decode("latin-1")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise WeightsError(
            "The header of an array must declare plain, little-endian numbers; objects, which "
            f"would have to be unpickled, are never read. Received: {text.strip()[:120]!r} for "
            f"{name!r}"
        )
    shape = tuple(int(n) for n in match["shape"].split(",") if n)
    try:
        dtype = np.dtype(match["descr"])
    except TypeError as error:
        raise WeightsError(f"{name!r} has an unknown type: {error}") from error
    return shape, dtype, match["fortran"] == "True", 8 + width + length


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays to an uncompressed `.npz` file, which is replaced at once.

    Arrays pass through one at a time. bfloat16 is written as two bytes of no type, as
    NumPy and big_vision do.

    Raises:
        WeightsError: If a name or a type is none that is read back.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_vit_scale.weights.npz import write_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(f"{folder}/w.npz", {"params/head/bias": np.arange(3)})
    ...     np.load(f"{folder}/w.npz")["params/head/bias"]
    array([0, 1, 2])
    """
    arrays = {check_name(name): np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        check_dtype(name, array.dtype)
    with replacing(Path(path)) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(name + SUFFIX, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
