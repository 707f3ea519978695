"""What a checkpoint holds, in the file that is written last: without it there is none.

    manifest.json   {"format": 2, "blake2b": digest of all that follows, "step": ...,
                     "arrays": {name: {"shape", "dtype", "chunks"}}, "extra": {...}}

Format 1 had one file, one digest an array, and no digest of the manifest; it is read still.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import keras
import ml_dtypes  # noqa: F401  (teaches NumPy the names of bfloat16 and its kin)
import numpy as np

from keras_vit_scale.formats import FormatError, check_format, with_format
from keras_vit_scale.training.checkpoints.chunks import Chunk, check_chunks, digest
from keras_vit_scale.training.checkpoints.storage import Folder, read_bytes, write_bytes
from keras_vit_scale.weights.safetensors_file import read_header

MANIFEST = "manifest.json"
#: The file of format 1.
ARRAYS = "arrays.safetensors"


class CheckpointError(Exception):
    """A checkpoint that is damaged, or belongs to something else."""


class DamagedError(CheckpointError):
    """A checkpoint that is damaged, or not all there."""


@dataclass(frozen=True)
class Entry:
    """An array of a checkpoint."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's step, arrays and whatever else was saved with them."""

    step: int
    arrays: dict[str, Entry]
    extra: dict[str, Any] = field(default_factory=dict)
    """What is no array, as JSON has it: the place in the data, results so far."""
    about: dict[str, Any] = field(default_factory=dict)
    """What wrote it: backend and versions."""

    def write(self, folder: Folder, file: str = MANIFEST) -> None:
        """Makes a checkpoint of what is in the folder."""
        content = {
            "step": self.step,
            "about": self.about,
            "extra": self.extra,
            "arrays": {
                name: {
                    "shape": list(entry.shape),
                    "dtype": entry.dtype.name,
                    "chunks": [chunk.json() for chunk in entry.chunks],
                }
                for name, entry in self.arrays.items()
            },
        }
        content = with_format("checkpoint", content)
        content["blake2b"] = _digest(content)
        write_bytes(folder, file, json.dumps(content).encode())


def check_arrays(folder: Folder, manifest: Manifest, part: tuple[int, int] = (0, 1)) -> list[str]:
    """What is wrong with the arrays of a checkpoint: bytes that are missing, or not those saved.

    Of their chunks part (i, n) is every nth from the ith on.
    """
    return check_chunks(
        folder,
        {name: entry.chunks for name, entry in manifest.arrays.items()},
        {name: entry.dtype for name, entry in manifest.arrays.items()},
        part,
    )


def is_complete(folder: Folder) -> bool:
    """Whether a checkpoint was written to its end."""
    return folder.has(MANIFEST)


def read_manifest(folder: Folder, file: str = MANIFEST) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        DamagedError: If there is none, or it is damaged.
        FormatError: If it is of a later format.
    """
    try:
        said = read_bytes(folder, file)
    except OSError as error:
        raise DamagedError(f"No readable checkpoint in {folder}: {error}") from error
    return parse_manifest(said, folder, file)


def parse_manifest(said: bytes, folder: Folder, file: str = MANIFEST) -> Manifest:
    """The manifest that a checkpoint's file holds, for who has read it and needs its bytes too.

    Raises:
        DamagedError, FormatError: As `read_manifest`.
    """
    try:
        content = json.loads(said)
        known = content["format"]
        if type(known) is int and known == 1:
            return _read_format_1(folder, content)
        # Of later formats too, so that a damaged number is not taken for one.
        if content.pop("blake2b") != _digest(content):
            raise ValueError("it does not have the digest it was saved with")
        check_format("checkpoint", known, f"{folder}/{file}")
        return _read_format_2(content)
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise DamagedError(
            f"The manifest in {folder} is damaged: {type(error).__name__}: {error}"
        ) from error


def _read_format_2(content):
    arrays = {
        name: Entry(
            tuple(entry["shape"]),
            np.dtype(entry["dtype"]),
            tuple(_chunk(chunk) for chunk in entry["chunks"]),
        )
        for name, entry in content["arrays"].items()
    }
    return Manifest(content["step"], arrays, content["extra"], content["about"])


def _chunk(said):
    return Chunk(
        **{**said, "start": tuple(said["start"]), "shape": tuple(said["shape"])},
    )


def _read_format_1(folder, content):
    """As if its one file held one chunk an array."""
    with folder.reading(ARRAYS) as file:
        header, first = read_header(file)
    arrays = {}
    for name, entry in content["arrays"].items():
        shape = tuple(entry["shape"])
        offset = first + header[name]["data_offsets"][0]
        chunk = Chunk(ARRAYS, offset, (0,) * len(shape), shape, entry["blake2b"])
        arrays[name] = Entry(shape, np.dtype(entry["dtype"]), (chunk,))
    about = {"keras": content["keras"], "backend": content["backend"]}
    return Manifest(content["step"], arrays, about=about)


def about_here() -> dict[str, Any]:
    """Backend and versions of this process."""
    backend = keras.backend.backend()
    packages = ("keras-vit-scale", "keras", backend, "numpy", "grain")
    return {
        "backend": backend,
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in packages},
    }


def _digest(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
