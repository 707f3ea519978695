"""Checkpoints: one safetensors file and a manifest with digests, the manifest written last.

    step-00000700/
      arrays.safetensors    every variable of the model and its optimizer
      manifest.json         format version, step, and shape, type and digest of each array

A folder without a manifest is no checkpoint: a kill at any moment leaves the old or the new,
never half. The arrays are the same on every backend.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import keras
import ml_dtypes  # noqa: F401  (teaches NumPy the names of bfloat16 and its kin)
import numpy as np
from safetensors.numpy import load_file, save_file

FORMAT_VERSION = 1
# What Keras calls the state of a SeedGenerator.
SEED = "seed_generator_state"
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"


class CheckpointError(Exception):
    """A checkpoint that is damaged, or belongs to something else."""


def training_state(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable that training depends on, by a name that other processes share.

    Variables of the model are named by their path, but its random seeds, which Keras
    numbers over all models of a process, by their place among them; those of its
    optimizer by their path without the optimizer's own name, which Keras may number.
    What is marked `is_setting` is none of it. An optimizer that was not yet built is.

    Raises:
        ValueError: If two variables have one name.
    """
    seeds = [v for v in model.variables if v.name == SEED]
    named = [(f"model/{v.path}", v) for v in model.variables if v.name != SEED]
    named += [(f"model/seed/{i}", v) for i, v in enumerate(seeds)]
    if model.optimizer is not None:
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        named += [
            (f"optimizer/{v.path.removeprefix(model.optimizer.name + '/')}", v)
            for v in model.optimizer.variables
            if not getattr(v, "is_setting", False)
        ]
    state = dict(named)
    if len(state) < len(named):
        names = [name for name, _ in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            "Variables need different names to be told apart in a checkpoint; "
            f"name your layers. Received twice: {twice}"
        )
    return state


def save_checkpoint(directory: str | Path, model: keras.Model, step: int) -> None:
    """Writes the training state of a compiled model; the folder is new or replaced whole."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    arrays = {
        name: np.asarray(keras.ops.convert_to_numpy(variable.value), order="C")
        for name, variable in training_state(model).items()
    }
    save_file(arrays, directory / ARRAYS)
    _flush(directory / ARRAYS)
    manifest = {
        "format": FORMAT_VERSION,
        "step": step,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "arrays": {
            name: {"shape": list(a.shape), "dtype": a.dtype.name, "blake2b": _digest(a)}
            for name, a in arrays.items()
        },
    }
    write_text(directory / MANIFEST, json.dumps(manifest, indent=1))


def restore_checkpoint(directory: str | Path, model: keras.Model) -> int:
    """Sets a compiled model's training state to a checkpoint's, and returns its step.

    Nothing is changed unless every array is there, fits, and has its digest.

    Raises:
        CheckpointError: If the checkpoint is incomplete, damaged or another model's.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    state = training_state(model)
    try:
        arrays = load_file(directory / ARRAYS)
    except Exception as error:
        raise CheckpointError(f"Cannot read {directory / ARRAYS}: {error}") from error
    problems = [f"{name} is missing" for name in state if name not in arrays]
    problems += [f"{name} is unknown to the model" for name in arrays if name not in state]
    for name in state.keys() & arrays.keys():
        array, variable = arrays[name], state[name]
        if tuple(array.shape) != tuple(variable.shape):
            problems.append(f"{name} is {array.shape}, the model's {tuple(variable.shape)}")
        if manifest["arrays"].get(name, {}).get("blake2b") != _digest(array):
            problems.append(f"{name} does not have the digest it was saved with")
    if problems:
        raise CheckpointError(
            f"The checkpoint {directory} cannot be restored: " + "; ".join(sorted(problems))
        )
    for name, variable in state.items():
        variable.assign(arrays[name])
    return manifest["step"]


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        CheckpointError: If there is none, or it is of a later format.
    """
    path = Path(directory) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"No readable checkpoint in {directory}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"This version reads checkpoints of format {FORMAT_VERSION}. "
            f"Received: {manifest.get('format') if isinstance(manifest, dict) else manifest!r} "
            f"in {directory}"
        )
    return manifest


def is_complete(directory: str | Path) -> bool:
    """Whether a checkpoint was written to its end."""
    return (Path(directory) / MANIFEST).is_file()


def write_text(path: Path, text: str) -> None:
    """Replaces a file by `text` at once: readers and crashes see the old or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(array: np.ndarray) -> str:
    return hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
