"""Files on the disk: opened once, read into arrays at an offset, replaced at once."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_vit_scale.weights.declared import MAX_HEADER, ArrayInfo, WeightsError

#: Bytes read at a time where they pass through our hands.
CHUNK = 2**20


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file; a pipe would block, a device has no size.

    Raises:
        WeightsError: If there is no such file, or it is something else.
    """
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb")
    except OSError as error:
        raise WeightsError(f"Cannot open {str(path)!r}: {error}") from error
    raise WeightsError(f"Weights must lie in an ordinary file. Received: {str(path)!r}")


def size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def read_small(path: Path, limit: int = MAX_HEADER) -> bytes:
    """A whole file of at most `limit` bytes.

    Raises:
        WeightsError: If it is longer or cannot be read.
    """
    with open_file(path) as file:
        size = size_of(file)
        if size > limit:
            raise WeightsError(f"{str(path)!r} may have at most {limit} bytes. Received: {size}")
        return file.read(size)


def read_array(file: BufferedReader, offset: int, info: ArrayInfo) -> np.ndarray:
    """The array whose bytes, in C order, start at `offset`; read once, into place.

    Raises:
        WeightsError: If the file ends before the array does.
    """
    array = np.empty(info.shape, info.dtype)
    file.seek(offset)
    fill(array, file)
    return array


def fill(array: np.ndarray, file: BufferedReader) -> memoryview:
    """Fills a new contiguous array with the next bytes of a file, and returns those."""
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        # A read ends early after 2 GiB on Linux.
        count = file.readinto(view[done:])
        if not count:
            raise WeightsError(
                f"The file ends {len(view) - done} bytes before an array does; it is cut short"
            )
        done += count
    return view


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when all of it is on the disk.

    A crash, an error or a full disk leaves what was there before.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by `text` at once: readers and crashes see the old or the new."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
