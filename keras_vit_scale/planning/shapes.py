"""Which shapes fit one device under which settings, and how fast they are: the paper's Figure 8."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from keras_vit_scale.checks import check_one_of, check_positive_integers
from keras_vit_scale.formats import with_format, without_format
from keras_vit_scale.models.config import ViTConfig, image_grid
from keras_vit_scale.ownership import owning
from keras_vit_scale.planning.accelerators import Accelerator
from keras_vit_scale.planning.estimate import Estimator, memory_to_fill
from keras_vit_scale.planning.exact import needed
from keras_vit_scale.planning.largest_batch import METHODS
from keras_vit_scale.planning.trial import run_trial

#: The file of a search's folder: a line that says what is sought, then one a trial.
TRIALS = "shapes.jsonl"

WIDTHS = tuple(range(512, 2049, 128))
DEPTHS = (8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 100)
MLP_DIMS = (2048, 3072, 4096, 6144, 8192, 12288)
HEADS = (8, 16)


@dataclass(frozen=True)
class Setting:
    """How a shape is trained, as far as it decides whether it fits.

    Args:
        optimizer: "adafactor", "adamw", "momentum" or "adam", as in `estimate`.
        pooling, dtype, remat: As in `ViT`.
    """

    optimizer: str = "adafactor"
    pooling: str = "map"
    dtype: str = "mixed_bfloat16"
    remat: str | None = "full"


#: The paper's three, from the one that needs most: as ViT was trained before; the first moment
#: in bfloat16, and no [class] token; Adafactor.
FIGURE_8 = {
    "Adam, [class] token": Setting("adam", "token"),
    "bfloat16-momentum Adam, MAP": Setting("adamw"),
    "Adafactor, MAP": Setting("adafactor"),
}


def search_shapes(
    memory: float | None = None,
    *,
    patch: int = 14,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    mlp_dims: Sequence[int] = MLP_DIMS,
    heads: Sequence[int] = HEADS,
    settings: Mapping[str, Setting] = FIGURE_8,
    device: str | Accelerator | None = "TPU v3 core",
    batch_size: int = 8,
    num_classes: int = 29_593,
    image_size: int = 224,
    method: str = "estimate",
    steps: int = 3,
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Whether each shape of a grid fits one device, under each of some settings, and how fast.

    Args:
        memory: Bytes that the device has for it; by default 96 % of the device's. With "run"
            by default all that it has.
        patch: Side of the patches.
        widths, depths, mlp_dims, heads: The grid; where heads do not divide the width there
            is no shape.
        settings: By name, from the one that needs most.
        device: As in `estimate`. With "run" it is what is here.
        batch_size, num_classes, image_size: Of a step; by default the paper's classes, JFT's.
        method: "estimate", for thousands of shapes in seconds; "compile", on JAX, which asks the
            compiler for each, some seconds long; "run", which trains for a few steps, each
            trial in a process of its own.
        steps: That are run after the first.
        folder: Where trials are written as they are made. A search that was
            interrupted goes on there; it must be the same but for its grid.

    Returns:
        A row a shape and setting: "width", "depth", "mlp_dim", "heads", "setting"; "parameters"
        in all; "needed", bytes of the device, missing where it was run; "fits"; and
        "images_per_second", which is missing where it did not fit when it was run.

    Raises:
        ValueError: If a number is no positive integer, no heads divide any width, the memory is
            unknown, or the folder has another search.
        OwnedError: If another search works in the folder.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Figure 8.

    Example:

    >>> from keras_vit_scale.planning import search_shapes
    >>> table = search_shapes(widths=[1408], depths=[40], mlp_dims=[6144], heads=[16], batch_size=4)
    >>> dict(zip(table.setting, table.fits))
    {'Adam, [class] token': False, 'bfloat16-momentum Adam, MAP': True, 'Adafactor, MAP': True}
    """
    shapes = list(grid(patch, widths, depths, mlp_dims, heads))
    check_one_of(METHODS, method=method)
    check_positive_integers(
        batch_size=batch_size, num_classes=num_classes, image_size=image_size, steps=steps
    )
    image_grid(image_size, patch)
    if not settings:
        raise ValueError("`settings` must name at least one. Received: settings={}")
    step: dict[str, Any] = {"num_classes": num_classes, "image_size": image_size}
    estimators = {
        name: Estimator(**asdict(setting), **step, device=device)
        for name, setting in settings.items()
    }
    found = next(iter(estimators.values())).device
    have = memory_to_fill(found, memory, method)

    def trial(config: ViTConfig, name: str) -> dict[str, Any]:
        told = estimators[name](config, batch_size)
        row = {
            **{key: value for key, value in asdict(config).items() if key != "patch_size"},
            "setting": name,
            "parameters": sum(told.parameters.values()),
        }
        if method == "run":
            options = {**asdict(settings[name]), **step}
            limit = None if memory is None else int(memory)
            ran = run_trial(config, batch_size, steps=steps, memory=limit, **options)
            speed = batch_size / ran.seconds if ran.seconds else None
            return {**row, "needed": None, "fits": ran.fits, "images_per_second": speed}
        size = told.needed
        if method == "compile":
            options = {**asdict(settings[name]), **step, "optimizer": estimators[name].optimizer}
            size = needed(config, batch_size, found, None, **options)
        fits = have is None or size <= have
        return {**row, "needed": size, "fits": fits, "images_per_second": told.images_per_second}

    pairs = [(config, name) for config in shapes for name in settings]
    if folder is None:
        return pd.DataFrame([trial(*pair) for pair in pairs])
    sought = {
        "memory": memory,
        "patch": patch,
        "settings": {name: asdict(setting) for name, setting in settings.items()},
        "device": None if found is None else found.name,
        "batch_size": batch_size,
        **step,
        "method": method,
    }
    with owning(folder):
        return pd.DataFrame(list(_kept(Path(folder) / TRIALS, sought, pairs, trial)))


def grid(
    patch: int,
    widths: Sequence[int],
    depths: Sequence[int],
    mlp_dims: Sequence[int],
    heads: Sequence[int],
) -> Iterator[ViTConfig]:
    """The shapes of a grid, those whose heads divide the width.

    Raises:
        ValueError: If a number is no positive integer, or there is no shape.
    """
    check_positive_integers(patch=patch)
    axes = {"widths": widths, "depths": depths, "mlp_dims": mlp_dims, "heads": heads}
    for name, values in axes.items():
        for value in values:
            check_positive_integers(**{name: value})
    found = False
    for width, depth, mlp_dim, number in itertools.product(widths, depths, mlp_dims, heads):
        if width % number == 0:
            found = True
            yield ViTConfig(width, depth, mlp_dim, number, patch)
    if not found:
        raise ValueError(
            "A grid must have a shape: one of each axis, with heads that divide the width. "
            f"Received: {axes}"
        )


def _kept(path, sought, pairs, trial):
    """The rows of a search: those that a file has, and the others, which it gets one by one."""
    rows = _read(path, sought)
    with open(path, "a", encoding="utf-8") as file:
        if not file.tell():
            _write(file, with_format("shape search", sought))
        for config, name in pairs:
            key = _key({**asdict(config), "setting": name})
            if key not in rows:
                rows[key] = trial(config, name)
                _write(file, rows[key])
            yield rows[key]


def _key(row):
    return tuple(row[name] for name in ("width", "depth", "mlp_dim", "heads", "setting"))


def _write(file, line):
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path, sought: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The trials that a file has; a last line that a kill cut short is taken off it.

    Raises:
        ValueError: If they are of another search.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        os.truncate(path, len(whole.encode("utf-8")))
    if not whole:
        return {}
    before, *rows = map(json.loads, whole.splitlines())
    before = without_format("shape search", before, path)
    differing = [n for n in sought if before.get(n) != sought[n]]
    if differing:
        raise ValueError(
            "A folder has the trials of one search, which goes on with another grid and nothing "
            f"else. Received: {path.parent} with "
            + ", ".join(f"{n}={before.get(n)!r}, now {sought[n]!r}" for n in sorted(differing))
            + ". Take another folder"
        )
    return {_key(row): row for row in rows}
