"""A model's variables set to the arrays of a checkpoint, once all of them are known to be right."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_vit_scale.processes import from_all, place
from keras_vit_scale.sharding import assign_shares
from keras_vit_scale.training.checkpoints.chunks import read_region
from keras_vit_scale.training.checkpoints.manifest import (
    CheckpointError,
    DamagedError,
    Entry,
    Manifest,
    check_arrays,
    read_manifest,
)
from keras_vit_scale.training.checkpoints.state import SEEDS, training_state
from keras_vit_scale.training.checkpoints.storage import Folder

#: Problems of a checkpoint that are told one by one.
TOLD = 50


@dataclass(frozen=True)
class Restored:
    """What was restored beside the model's variables."""

    step: int
    metrics: dict[str, np.ndarray]
    """Sums and counts of the metrics in the epoch under way: see `set_metrics`."""
    extra: dict[str, Any]


def restore_folder(folder: Folder, model: keras.Model, other_seeds: bool = False) -> Restored:
    """Gives a compiled model the state of the checkpoint in a folder.

    Args:
        folder, model, other_seeds: As in `CheckpointStore.restore`.

    Raises:
        DamagedError: If it is incomplete or damaged; the model is as it was then.
        CheckpointError: If it is another model's, as well. And if it was deleted meanwhile:
            the model may have a part of it.
    """
    manifest = read_manifest(folder)
    state = training_state(model)
    entries = {n: e for n, e in manifest.arrays.items() if not n.startswith("metrics/")}
    if other_seeds:
        apart = {name for name in state.keys() ^ entries.keys() if name.startswith(SEEDS)}
        state = {name: variable for name, variable in state.items() if name not in apart}
        entries = {name: entry for name, entry in entries.items() if name not in apart}
    if entries.keys() != state.keys() and _unnumbered(entries) == _unnumbered(state):
        # Layers without names of their own, in a process that made others before.
        entries = dict(zip(state, entries.values(), strict=True))
    problems = [f"{name} is missing" for name in state if name not in entries]
    problems += [f"{name} is unknown to the model" for name in entries if name not in state]
    for name in state.keys() & entries.keys():
        entry, variable = entries[name], state[name]
        if entry.shape != tuple(variable.shape):
            problems.append(f"{name} is {entry.shape}, the model's {tuple(variable.shape)}")
        elif not _same_kind(entry.dtype, np.dtype(variable.dtype)):
            problems.append(f"{name} is {entry.dtype.name}, the model's {variable.dtype}")
    if problems:
        raise CheckpointError(_told(folder, problems))
    damages = _damages(folder, manifest)
    damages += [n for n, e in manifest.arrays.items() if not _covers(e.chunks, e.shape)]
    if damages:
        raise DamagedError(_told(folder, damages))
    try:
        for name, variable in state.items():
            _assign(variable, folder, entries[name])
        metrics = {
            name: read_region(folder, e.chunks, e.dtype, (0,) * len(e.shape), e.shape)
            for name, e in manifest.arrays.items()
            if name.startswith("metrics/")
        }
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} was deleted while it was restored") from error
    return Restored(manifest.step, metrics, manifest.extra)


def _damages(folder: Folder, manifest: Manifest) -> list[str]:
    """What is wrong with the arrays, of which each of several processes reads its part."""
    found = from_all([manifest.step, check_arrays(folder, manifest, part=place())])
    if len(steps := {step for step, _ in found}) > 1:
        raise CheckpointError(
            "All processes must restore the same checkpoint; is the folder one that they share? "
            f"Received: {folder}, and the steps {sorted(steps)}"
        )
    return list(dict.fromkeys(damage for _, damages in found for damage in damages))


def _told(folder: Folder, problems: list[str]) -> str:
    more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
    first = "; ".join(sorted(problems)[:TOLD])
    return f"The checkpoint {folder} cannot be restored: {first}{more}"


def _unnumbered(arrays: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Names without the numbers that Keras gives, and shapes, in their order."""
    return [(re.sub(r"_\d+", "", name), tuple(each.shape)) for name, each in arrays.items()]


def _same_kind(saved: np.dtype, wanted: np.dtype) -> bool:
    """Whether values keep all their bits; backends have their random seeds in other integers."""
    return saved == wanted or (saved.kind in "iu" and wanted.kind in "iu")


def _covers(chunks, shape):
    return sum(math.prod(chunk.shape) for chunk in chunks) == math.prod(shape)


def _assign(variable: keras.Variable, folder: Folder, entry: Entry) -> None:
    """Sets a variable; of one that is sharded, each device reads its share alone."""

    def share(index):
        bounds = [s.indices(n)[:2] for s, n in zip(index, entry.shape, strict=True)]
        start, shape = [a for a, _ in bounds], [b - a for a, b in bounds]
        return read_region(folder, entry.chunks, entry.dtype, start, shape)

    assign_shares(variable, share)
