"""What a file declares of its arrays, and the limits within which that is believed.

A header is a few kilobytes that a stranger wrote. Whatever it says is held against these limits
and against the bytes that are there before anything is allocated for it.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

#: Bytes that all arrays of a file may declare together. ViT-22B has 44 GB in bfloat16.
MAX_BYTES = 2**36

#: Bytes of a header, or of a JSON file beside the weights. G/14's header has 60 kB, a config with
#: the names of ImageNet-21k's classes 2 MB.
MAX_HEADER = 2**24

MAX_ARRAYS = 2**16
MAX_NDIM = 8
MAX_NAME = 512

#: Types that weights, counters and seeds have. Nothing with Python objects, strings or fields.
DTYPES = {
    np.dtype(t)
    for t in (
        *("float16", "float32", "float64", ml_dtypes.bfloat16),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"),
    )
}

#: NumPy and h5py know no bfloat16; what writes it through them leaves two bytes of no type.
BFLOAT16_AS_VOID = np.dtype("V2")


class WeightsError(ValueError):
    """A file of weights, or a source of one, that is refused, whatever is wrong with it."""


class ArrayInfo(NamedTuple):
    """What a header says of one array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def check_name(name: str) -> str:
    """A name that is a plain path downward, such as "blocks.0.norm1.weight" or "head/kernel"."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise WeightsError(
            f"The name of an array must have 1 to {MAX_NAME} characters. Received: {_short(name)}"
        )
    if not name.isprintable() or "\\" in name or name.startswith("/") or ".." in name.split("/"):
        raise WeightsError(
            "The name of an array must be printable and relative, without '..' and backslashes. "
            f"Received: {_short(name)}"
        )
    return name


def check_dtype(name: str, dtype: np.dtype) -> np.dtype:
    """One of `DTYPES`; two bytes of no type are bfloat16."""
    dtype = np.dtype(dtype)
    if dtype == BFLOAT16_AS_VOID:
        return np.dtype(ml_dtypes.bfloat16)
    if dtype not in DTYPES:
        raise WeightsError(
            "An array of weights must hold little-endian floats, integers or booleans; objects, "
            f"which would have to be unpickled, are never read. Received: {name!r} of {dtype}"
        )
    return dtype


def declare(name: str, shape: Iterable[int], dtype: np.dtype, max_bytes: int) -> ArrayInfo:
    """The checked declaration of one array.

    Raises:
        WeightsError: If the name, the type, or a length is none that weights have, or
            the array would have more than `max_bytes`.
    """
    check_name(name)
    dtype = check_dtype(name, dtype)
    shape = tuple(shape)
    if len(shape) > MAX_NDIM or not all(type(n) is int and n >= 0 for n in shape):
        raise WeightsError(
            f"A shape must be at most {MAX_NDIM} lengths of 0 or more. "
            f"Received: {_short(shape)} for {name!r}"
        )
    # An empty array counts as if no length were 0: NumPy, too, refuses (0, 2**62, 2**62).
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > max_bytes:
        raise WeightsError(
            f"An array may have at most max_bytes={max_bytes}. "
            f"Received: {_short(shape)} of {dtype} for {name!r}; raise `max_bytes` if that is right"
        )
    return ArrayInfo(shape, dtype)


def check_total(infos: Mapping[str, ArrayInfo], max_bytes: int) -> None:
    """Refuses more arrays, or more bytes of them together, than the limits allow."""
    check_count(len(infos))
    total = sum(info.nbytes for info in infos.values())
    if total > max_bytes:
        raise WeightsError(
            f"All arrays together may have at most max_bytes={max_bytes}. Received: {total} in "
            f"{len(infos)} arrays; raise `max_bytes` if that is right"
        )


def check_count(count: int) -> None:
    if count > MAX_ARRAYS:
        raise WeightsError(f"There may be at most {MAX_ARRAYS} arrays. Received: {count}")


def check_ranges(ranges: Mapping[str, tuple[int, int]], end: int) -> None:
    """Refuses ranges of bytes `(start, stop)` that leave a file of `end` bytes, or overlap."""
    last, before = 0, None
    for name, (start, stop) in sorted(ranges.items(), key=lambda item: item[1]):
        if not 0 <= start <= stop <= end:
            raise WeightsError(
                f"The bytes of an array must lie in its file, which has {end} of them; it may be "
                f"cut short. Received: {name!r} at {start} to {stop}"
            )
        if start < last:
            raise WeightsError(
                "The bytes of two arrays must not overlap. "
                f"Received: {before!r} to {last}, {name!r} from {start}"
            )
        if stop > start:
            last, before = stop, name


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """An object of JSON in which no key stands twice.

    Raises:
        WeightsError: If `text` is longer than `MAX_HEADER` or anything else.
    """
    if len(text) > MAX_HEADER:
        raise WeightsError(f"{what} may have at most {MAX_HEADER} bytes. Received: more")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except WeightsError as error:
        raise WeightsError(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{what} must be JSON. Received: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{what} must be an object of JSON. Received: {_short(value)}")
    return value


def _without_duplicates(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WeightsError(f"A name must not stand twice. Received: {_short(twice)}")
    return values


def _short(value: object) -> str:
    """A value as an error shows it: a stranger's may have megabytes."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
