"""Arrays of a file by name: a minimal stand-in."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np


class WeightsError(ValueError):
    """A file of weights that is refused."""


class ArrayInfo(NamedTuple):
    """Shape and dtype of an array, from a file's header."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Archive:
    """Named arrays of a file."""

    def __init__(self, path, infos, config, read):
        self.path, self.infos, self.config, self._read = path, infos, config, read

    def read(self, name):
        return self._read(name)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def open_archive(path, *, allow_torch_pickle=False, max_bytes=None):
    """Opens a file of weights."""
    path = Path(path)
    if path.is_dir():
        for name in ("model.safetensors", "model.weights.h5"):
            if (path / name).is_file():
                path = path / name
                break
    if not path.is_file():
        raise WeightsError(f"There is no file of weights. Received: {str(path)!r}")
    beside = path.parent / "config.json"
    config = json.loads(beside.read_text()) if beside.is_file() else None
    try:
        if path.suffix == ".npz":
            arrays = dict(np.load(path))
        elif path.suffix == ".h5":
            import h5py

            arrays = {}
            with h5py.File(path) as f:
                f.visititems(
                    lambda n, o: (
                        arrays.__setitem__(n, o[()]) if isinstance(o, h5py.Dataset) else None
                    )
                )
        else:
            from safetensors.numpy import load_file

            arrays = load_file(path)
    except Exception as error:
        raise WeightsError(str(error)) from error
    infos = {k: ArrayInfo(tuple(v.shape), v.dtype) for k, v in arrays.items()}
    return Archive(path, infos, config, arrays.__getitem__)


def write_npz(path, arrays):
    """Writes arrays as npz."""
    with open(path, "wb") as f:
        np.savez(f, **arrays)


def write_safetensors(path, arrays, metadata=None):
    """Writes arrays as safetensors."""
    from safetensors.numpy import save_file

    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, metadata)
