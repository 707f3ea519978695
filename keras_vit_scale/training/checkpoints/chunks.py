"""Arrays as chunks of safetensors files, each chunk with a digest of its bytes.

An array is cut along its first axis that is longer than one, so that shards and chunks of
one array can be written, read and checked apart, and a chunk's bytes lie together.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_vit_scale.training.checkpoints.state import Piece
from keras_vit_scale.training.checkpoints.storage import Folder
from keras_vit_scale.weights.safetensors_file import NAMES

#: Bytes of a chunk, about: what one digest covers.
CHUNK_BYTES = 2**24
#: Bytes after which another file is begun. Files are written side by side.
FILE_BYTES = 2**28
THREADS = 4


@dataclass(frozen=True)
class Chunk:
    """A box of an array: where in the array, and where on the disk."""

    file: str
    offset: int
    """First byte in the file."""
    start: tuple[int, ...]
    shape: tuple[int, ...]
    blake2b: str

    def json(self) -> dict[str, Any]:
        """As a manifest has it."""
        return asdict(self)


def digest(data: bytes | memoryview) -> str:
    """128 bits of BLAKE2b, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def cut(piece: Piece, chunk_bytes: int = CHUNK_BYTES) -> list[Piece]:
    """A piece in parts of about `chunk_bytes`, whose bytes lie together.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.training.checkpoints.chunks import cut
    >>> from keras_vit_scale.training.checkpoints.state import Piece
    >>> [part.start for part in cut(Piece((0, 3), np.zeros((5, 4), "float32")), 32)]
    [(0, 3), (2, 3), (4, 3)]
    """
    values = piece.values
    axis = next((i for i, n in enumerate(values.shape) if n > 1), None)
    if axis is None or values.nbytes <= chunk_bytes:
        return [piece]
    rows = max(1, chunk_bytes * values.shape[axis] // values.nbytes)
    parts = []
    for first in range(0, values.shape[axis], rows):
        start = list(piece.start)
        start[axis] += first
        where = (slice(None),) * axis + (slice(first, first + rows),)
        parts.append(Piece(tuple(start), values[where]))
    return parts


def write_chunks(
    folder: Folder, arrays: Mapping[str, Sequence[Piece]], prefix: str
) -> dict[str, list[Chunk]]:
    """Writes pieces of arrays to files `prefix`-000.safetensors, ... and returns their chunks."""
    files: list[list[tuple[str, Piece]]] = [[]]
    size = 0
    for name, pieces in arrays.items():
        for part in (part for piece in pieces for part in cut(piece)):
            if size and size + part.values.nbytes > FILE_BYTES:
                files.append([])
                size = 0
            files[-1].append((name, part))
            size += part.values.nbytes
    names = [f"{prefix}-{i:03d}.safetensors" for i in range(len(files))]
    with ThreadPoolExecutor(THREADS) as pool:
        written = list(pool.map(lambda n, f: _write_file(folder, n, f), names, files))
    chunks: dict[str, list[Chunk]] = {name: [] for name in arrays}
    for name, chunk in (pair for file in written for pair in file):
        chunks[name].append(chunk)
    return chunks


def _write_file(folder, file_name, parts):
    """One safetensors file of parts; a part of many is named by its start: kernel@0,24."""
    header, offset = {}, 0
    for name, part in parts:
        whole = not any(part.start) and name not in header
        key = name if whole else f"{name}@{','.join(map(str, part.start))}"
        header[key] = {
            "dtype": NAMES[part.values.dtype],
            "shape": list(part.values.shape),
            "data_offsets": [offset, offset + part.values.nbytes],
        }
        offset += part.values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    chunks, offset = [], 8 + len(text)
    with folder.writing(file_name) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, part in parts:
            data = _bytes_of(part.values)
            file.write(data)
            chunk = Chunk(file_name, offset, part.start, part.values.shape, digest(data))
            chunks.append((name, chunk))
            offset += len(data)
    return chunks


def check_chunks(
    folder: Folder,
    arrays: Mapping[str, Sequence[Chunk]],
    dtypes: Mapping[str, np.dtype],
    part: tuple[int, int] = (0, 1),
) -> list[str]:
    """What is wrong with the chunks of arrays: bytes that are not there, or not those saved.

    Of them part (i, n) is every nth from the ith on.
    """
    named = [(name, chunk) for name, chunks in arrays.items() for chunk in chunks]
    named = named[part[0] :: part[1]]
    with ThreadPoolExecutor(THREADS) as pool:
        problems = pool.map(lambda pair: _problem(folder, pair[0], pair[1], dtypes[pair[0]]), named)
    return list(dict.fromkeys(problem for problem in problems if problem))


def _problem(folder, name, chunk, dtype):
    try:
        values = read_chunk(folder, chunk, dtype)
    except (OSError, ValueError) as error:
        return f"{chunk.file} cannot be read: {error}"
    if digest(_bytes_of(values)) != chunk.blake2b:
        return f"{name} does not have the digest it was saved with"
    return None


def read_chunk(folder: Folder, chunk: Chunk, dtype: np.dtype) -> np.ndarray:
    """The values of a chunk, not compared with its digest.

    Raises:
        OSError: If its file cannot be read.
        ValueError: If its file ends before it.
    """
    values = np.empty(chunk.shape, dtype)
    view, done = _bytes_of(values), 0
    with folder.reading(chunk.file) as file:
        file.seek(chunk.offset)
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise ValueError(f"it ends {len(view) - done} bytes before an array does")
            done += count
    return values


def read_region(
    folder: Folder,
    chunks: Sequence[Chunk],
    dtype: np.dtype,
    start: Sequence[int],
    shape: Sequence[int],
) -> np.ndarray:
    """A box of an array, of which only the chunks that it touches are read."""
    region = np.empty(tuple(shape), dtype)
    covered = 0
    for chunk, inside, outside in _overlaps(chunks, start, shape):
        region[inside] = read_chunk(folder, chunk, dtype)[outside]
        covered += math.prod(s.stop - s.start for s in inside)
    if covered != region.size:
        raise ValueError(f"its chunks hold {covered} of {region.size} values")
    return region


def _overlaps(
    chunks: Sequence[Chunk], start: Sequence[int], shape: Sequence[int]
) -> Iterator[tuple[Chunk, tuple[slice, ...], tuple[slice, ...]]]:
    """Chunks that touch a box, with the common part as seen from the box and from the chunk."""
    for chunk in chunks:
        first = [max(a, b) for a, b in zip(start, chunk.start, strict=True)]
        last = [
            min(a + n, b + m)
            for a, n, b, m in zip(start, shape, chunk.start, chunk.shape, strict=True)
        ]
        if all(a < b for a, b in zip(first, last, strict=True)):
            inside = tuple(slice(f - a, e - a) for f, e, a in zip(first, last, start, strict=True))
            outside = tuple(
                slice(f - b, e - b) for f, e, b in zip(first, last, chunk.start, strict=True)
            )
            yield chunk, inside, outside


def _bytes_of(values: np.ndarray) -> memoryview:
    """The memory of a contiguous array."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
