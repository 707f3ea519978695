"""Indices of folders and shards, kept so that they are made once.

They lie in `$KERAS_VIT_SCALE_CACHE`, or else in `keras_vit_scale/` of `$XDG_CACHE_HOME` or
`~/.cache`, never beside the data, which may not be writable. Deleting them costs nothing but the
time to make them again.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_vit_scale.atomic import replacing

#: What a change of the arrays that an index holds adds one to: others are made again.
VERSION = 1


def cache_folder() -> Path:
    """Where indices are kept."""
    own = os.environ.get("KERAS_VIT_SCALE_CACHE")
    if own:
        return Path(own)
    general = os.environ.get("XDG_CACHE_HOME")
    return (Path(general) if general else Path.home() / ".cache") / "keras_vit_scale"


def kept(
    kind: str,
    name: str,
    state: Callable[[dict[str, np.ndarray]], np.ndarray],
    make: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """The index of a folder or file, read if it is kept and still true, or else made and kept.

    Args:
        kind: What is indexed; a part of the name under which it is kept.
        name: The folder or file, as a full path or URL.
        state: Numbers that change when the indexed thing does, given its index: sizes, times.
            Where they are empty the index is not kept.
        make: Makes the index: arrays by name.

    A folder for the indices that cannot be written is no error: the index is made each time.
    """
    digest = hashlib.blake2b(f"{VERSION} {kind} {name}".encode(), digest_size=16).hexdigest()
    path = cache_folder() / f"{kind}-{digest}.npz"
    index = _read(path)
    if index is not None:
        then = index.pop("state")
        if np.array_equal(then, state(index)):
            return index
    index = make()
    now = state(index)
    if now.size:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as new, open(new, "wb") as file:
                np.savez(file, state=now, **index)  # type: ignore[arg-type]
        except OSError:
            return index
    return index


def _read(path):
    """The arrays of an index; `None` if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
