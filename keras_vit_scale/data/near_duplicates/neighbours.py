"""The nearest hashes within a distance: exact, by faiss.

A short index is searched whole. In a long one the bits are cut into chunks, each with a table of
its own: of two hashes within `radius` bits, spread over c chunks, at least one chunk differs in
at most `radius // c` bits (the pigeonhole principle), so that it is enough to look at what any
chunk is so near to. Nothing is missed either way.
"""

import importlib.util
from math import comb
from typing import Any

import numpy as np

from keras_vit_scale.data.near_duplicates.hashing import BITS

#: Neighbours that are kept of each hash, the nearest.
NEAREST = 8

#: Bits of a chunk: as many tables of 65,536 lists.
CHUNK = 16

#: What looking up one list costs, in hashes compared one after the other; measured.
LOOK_UP = 700


class Neighbours:
    """An index of hashes, to which more may be added.

    Args:
        radius: Bits in which a neighbour may differ.
        expected: How many hashes there will be, which decides how they are searched.

    Raises:
        ImportError: If faiss is not installed.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data.near_duplicates.neighbours import Neighbours
    >>> hashes = np.zeros((3, 32), np.uint8)
    >>> hashes[1, 0], hashes[2, :8] = 1, 255
    >>> index = Neighbours(radius=20)
    >>> index.add(hashes)
    >>> distances, places = index.search(hashes[:1])
    >>> distances[0, :3].tolist(), places[0, :3].tolist()
    ([0, 1, 257], [0, 1, -1])
    """

    def __init__(self, radius: int, expected: int = 0):
        faiss = _faiss()
        self.radius = radius
        flips = radius // (BITS // CHUNK)
        looked_up = BITS // CHUNK * sum(comb(CHUNK, k) for k in range(flips + 1))
        if expected > LOOK_UP * looked_up:
            self._index: Any = faiss.IndexBinaryMultiHash(BITS, BITS // CHUNK, CHUNK)
            self._index.nflip = flips
        else:
            self._index = faiss.IndexBinaryFlat(BITS)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, hashes: np.ndarray) -> None:
        """Adds hashes, uint8 (N, 32)."""
        if len(hashes):
            self._index.add(np.ascontiguousarray(hashes))

    def search(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances and places of the nearest in the index, int32 and int64 (N, 8).

        They are sorted by distance, then by place. Where fewer are within the radius stand
        distance 257 and place -1.
        """
        if not len(self) or not len(hashes):
            shape = (len(hashes), NEAREST)
            return np.full(shape, BITS + 1, np.int32), np.full(shape, -1, np.int64)
        distances, places = self._index.search(np.ascontiguousarray(hashes), NEAREST)
        return nearest(distances, places, self.radius)


def compared(
    hashes: np.ndarray, others: np.ndarray, radius: int, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `Neighbours.search` returns, of the pairs that are `allowed`, bool (N, M) alone."""
    bits = hashes.view(np.uint64)[:, None] ^ others.view(np.uint64)[None]
    distances = np.bitwise_count(bits).sum(-1, dtype=np.int32)
    distances[~allowed] = BITS + 1
    # The place breaks ties, so that one number sorts both.
    keys = distances.astype(np.int64) * len(others) + np.arange(len(others))
    keys = np.sort(np.partition(keys, min(NEAREST, len(others)) - 1, axis=1)[:, :NEAREST], axis=1)
    keys = np.pad(
        keys, ((0, 0), (0, NEAREST - keys.shape[1])), constant_values=(BITS + 1) * len(others)
    )
    return nearest((keys // len(others)).astype(np.int32), keys % len(others), radius)


def nearest(
    distances: np.ndarray, places: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of what was found within the radius, sorted by distance, then by place."""
    outside = (places < 0) | (distances > radius)
    distances = np.where(outside, BITS + 1, distances).astype(np.int32)
    places = np.where(outside, -1, places).astype(np.int64)
    order = np.lexsort((places, distances), axis=1)[:, :NEAREST]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(places, order, 1)


def check_installed() -> None:
    """Raises an ImportError, with its cure, if the extra `dedup` is not installed."""
    _faiss()
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError("Exclusion lists are Parquet files: pip install 'keras-vit-scale[dedup]'")


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Near-duplicates are found with faiss: pip install 'keras-vit-scale[dedup]'"
        ) from error
    return faiss
