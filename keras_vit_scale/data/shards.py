"""Files that hold many images: found, read in pieces, and indexed once; on disks or in buckets."""

import glob
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.indices import kept

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

T = TypeVar("T")

#: What may be done about a shard that is damaged.
BAD_SHARDS = ("error", "skip")


class BadShardError(ValueError):
    """A file of many images that is damaged, or none of its kind.

    Args:
        file: The file.
        reason: What is wrong with it.
    """

    def __init__(self, file: str, reason: str):
        super().__init__(file, reason)
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"Cannot read the shard {self.file!r}: {self.reason}"


def find_shards(where: str | Path | Sequence[str | Path], example: str) -> tuple[str, ...]:
    """The files that a path, a pattern or a list of both names, in their order.

    Files that a pattern finds are sorted by name. A URL, such as gs://bucket/train-*.tar, is
    what fsspec opens.

    Raises:
        ValueError: If one names nothing, or a file is named twice; `example` tells what may be.
        ImportError: If fsspec or its package for a bucket is not installed.
    """
    files: list[str] = []
    for place in [where] if isinstance(where, str | Path) else where:
        text = str(place)
        if _SCHEME.match(text):
            system, path = _file_system(text)
            found = sorted(system.unstrip_protocol(p) for p in system.glob(path))
        else:
            found = sorted(glob.glob(os.path.expanduser(text))) if glob.has_magic(text) else [text]
            found = [os.path.abspath(f) for f in found if os.path.isfile(f)]
        if not found:
            raise ValueError(f"Shards must exist, such as {example}. Received: {text!r}")
        files += found
    twice = sorted({f for f in files if files.count(f) > 1}) if len(set(files)) < len(files) else []
    if twice:
        raise ValueError(f"Each shard must be named once. Received twice: {twice[:5]}")
    return tuple(files)


def open_shard(file: str) -> BinaryIO:
    """A shard to read, which the caller closes."""
    if not _SCHEME.match(file):
        return open(file, "rb")
    system, path = _file_system(file)
    return system.open(path, "rb")


def read_piece(file: str, offset: int, length: int) -> bytes:
    """Some bytes of a shard.

    Raises:
        BadShardError: If it is shorter than that: it changed since it was indexed.
    """
    if _SCHEME.match(file):
        system, path = _file_system(file)
        piece = system.cat_file(path, start=offset, end=offset + length)
    else:
        # Opened each time: it takes a hundredth of decoding, and leaves nothing to keep or share.
        with open(file, "rb", buffering=0) as stream:
            stream.seek(offset)
            piece = stream.read(length)
            while len(piece) < length and (more := stream.read(length - len(piece))):
                piece += more
    if len(piece) < length:
        raise BadShardError(
            file, f"it ends before byte {offset + length}; was it changed while it was open?"
        )
    return piece


def index_shards(
    kind: str,
    files: Sequence[str],
    make: Callable[[str], dict[str, np.ndarray]],
    bad_shards: str = "error",
) -> tuple[list[str], list[dict[str, np.ndarray]]]:
    """The index of each shard, which is kept (`indices.py`) until the shard changes.

    Each is kept for itself, so that an interrupted indexing goes on where it stopped. A bar on
    a terminal tells how far it is.

    Args:
        kind: What an index is of.
        files: The shards.
        make: Makes the index of one.
        bad_shards: "error", or "skip" those that are damaged, with a warning that counts them.

    Returns:
        The shards that can be read, and the index of each.

    Raises:
        BadShardError: If one is damaged and is not to be skipped, or all are.
    """

    def index(file: str) -> dict[str, np.ndarray]:
        state = np.array(_state(file))
        return kept(kind, file, lambda _: state, lambda: make(file))

    return read_shards(files, index, bad_shards)


def read_shards(
    files: Sequence[str], read: Callable[[str], T], bad_shards: str
) -> tuple[list[str], list[T]]:
    """What `read` makes of each shard that is not damaged, as `index_shards` does."""
    check_one_of(BAD_SHARDS, bad_shards=bad_shards)
    whole, made, bad = [], [], []
    for file in tracked(files, f"Indexing {len(files)} shards"):
        try:
            made.append(read(file))
        except BadShardError as error:
            if bad_shards == "error":
                raise
            bad.append(error)
        else:
            whole.append(file)
    if bad and not whole:
        raise bad[0]
    if bad:
        warnings.warn(
            f"{len(bad)} of {len(files)} shards were skipped: {'; '.join(map(str, bad[:3]))}",
            stacklevel=4,
        )
    return whole, made


def tracked(items: Sequence[T], what: str) -> Iterable[T]:
    """The items; a bar on a terminal tells how many were taken."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def _state(file):
    """Numbers that change when a shard does: its size, and when or as what it was written."""
    if not _SCHEME.match(file):
        status = os.stat(file)
        return [status.st_size, status.st_mtime_ns]
    system, path = _file_system(file)
    info = system.info(path)
    # Buckets tell an entity tag, a generation or a time, by one of these names.
    told = [str(info[k]) for k in ("etag", "ETag", "generation", "mtime", "LastModified", "created")
            if k in info]  # fmt: skip
    return [info["size"], int.from_bytes("".join(told).encode()[-7:], "big")]


def _file_system(url):
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ImportError(
            f"Shards at {url!r} need fsspec and its file system: "
            f"pip install 'keras-vit-scale[hub]'. {error}"
        ) from error
