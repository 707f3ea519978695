"""What advice rests on: the paper's tables, a study's folder or a table of results."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_vit_scale.models import TABLE_2, preset
from keras_vit_scale.planning import forward_flops, parameters
from keras_vit_scale.planning.flops import TRAINING_OVER_FORWARD
from keras_vit_scale.scaling.config import StudyError, load_config
from keras_vit_scale.scaling.frontier import check_points
from keras_vit_scale.scaling.published import BATCH, TABLES, paper_results
from keras_vit_scale.scaling.results import collect_results, study_points

#: Sizes between and above those of Table 2, which advice may name beside them.
LATER = ("M/16", "So400m/14", "H/14", "e/14")

#: Columns that results must have.
NEEDED = ("size", "images_seen", "parameters", "flops", "error")

#: Test sets as they are written.
WRITTEN = {
    "imagenet": "ImageNet", "imagenet_v2": "ImageNet-v2", "imagenet_real": "ImageNet-ReaL",
    "cifar100": "CIFAR-100", "pets": "Pets", "birds": "Birds",
}  # fmt: skip


def _measure(table: str, task: str) -> str:
    """A column of the paper's tables in words: "10-shot error on Pets"."""
    if table == "finetune":
        return f"error on {WRITTEN[task]} after fine-tuning"
    name, _, shots = task.rpartition("_")
    return f"{shots.replace('shot', '-shot')} error on {WRITTEN[name]}"


#: The paper's errors: table and words, by the name of the task.
PAPER_TASKS = {
    task: (table, _measure(table, task))
    for table, columns in TABLES.items()
    for task in columns.values()
}


@dataclass(frozen=True)
class Basis:
    """Results to advise from.

    Args:
        results: One row a result: `NEEDED`, and `images_in_dataset` where that is known.
        sizes: FLOPs of one image, forward, and parameters of every size that may be advised.
        measure: What the error is, in words.
        batch_size: Images a step.
        source: Where the results come from, in words.
        study: The study's folder, or `None`.
        caveat: What to know of the source, a sentence, or `None`.
    """

    results: pd.DataFrame
    sizes: dict[str, tuple[float, float]]
    measure: str
    batch_size: int
    source: str
    study: Path | None = None
    caveat: str | None = None

    @property
    def dataset(self) -> np.ndarray | None:
        """Images in the data set of each result, where that is known."""
        if "images_in_dataset" in self.results:
            return self.results["images_in_dataset"].to_numpy(float)
        return None


def gather(
    results: str | Path | pd.DataFrame | None,
    task: str | None,
    shots: int | None,
    batch_size: int | None,
) -> Basis:
    """What a table holds, a study's folder, or (of `None`) the paper's tables.

    Raises:
        ValueError: If there is no such task, or a table lacks a column or holds values out of
            range.
        StudyError: If the folder holds no study, or none of its runs has finished.
    """
    if results is None:
        found = paper_basis(task or "imagenet_10shot")
        if shots is not None:
            raise ValueError(
                "`shots` chooses among a study's probes; of the paper's tables give `task`, such "
                f"as 'imagenet_5shot'. Received: shots={shots}"
            )
    elif isinstance(results, pd.DataFrame):
        if task is not None or shots is not None:
            raise ValueError(
                "A table has one error: `task` and `shots` are for studies. "
                f"Received: task={task!r}, shots={shots}"
            )
        found = table_basis(results)
    else:
        found = study_basis(Path(results), task, shots)
    if batch_size is None:
        return found
    return dataclasses.replace(found, batch_size=batch_size)


def paper_basis(task: str) -> Basis:
    """The paper's tables for one of their errors."""
    if task not in PAPER_TASKS:
        raise ValueError(
            f"`task` must be one of the paper's, {list(PAPER_TASKS)}. Received: task={task!r}"
        )
    table, measure = PAPER_TASKS[task]
    printed = paper_results(table)
    printed = printed.assign(size=printed["model"], error=printed[task])
    sizes = {name: _cost(name, 224) for name in (*TABLE_2, *LATER)}
    return Basis(
        printed[[*NEEDED, "images_in_dataset"]],
        sizes,
        measure,
        BATCH,
        "the paper's tables",
        caveat="These are results of pre-training on JFT-3B; your images and recipe have a level "
        "of their own, which a small study tells (keras-vit-scale study run)."
        + (" The cost of fine-tuning is not counted." if table == "finetune" else ""),
    )


def study_basis(folder: Path, task: str | None, shots: int | None) -> Basis:
    """The finished results of a study's folder."""
    config = load_config(folder / "study.yaml")
    results = collect_results(folder)
    if results.empty:
        raise StudyError(f"{folder} holds no finished result yet.")
    probes: dict[str, Any] = {"task": task, "shots": shots}
    for name, choose in (("task", lambda v: v.iloc[0]), ("shots", lambda v: v.max())):
        known = results[name].unique().tolist()
        probes[name] = choose(results[name]) if probes[name] is None else probes[name]
        if probes[name] not in known:
            raise ValueError(
                f"`{name}` must be one of the study's, {known}. Received: {name}={probes[name]!r}"
            )
    points = study_points(results, **probes)
    sizes = _measured_sizes(points)
    if not config.shapes:
        for name in (*TABLE_2, *LATER):
            if config.image_size % preset(name).patch_size == 0:
                sizes.setdefault(name, _cost(name, config.image_size, pooling="map"))
    return Basis(
        points[list(NEEDED)],
        sizes,
        f"{probes['shots']}-shot error ({probes['task']})",
        config.recipe.batch_size,
        f"the study {folder}",
        study=folder,
    )


def table_basis(results: pd.DataFrame) -> Basis:
    """Results of any origin."""
    missing = [column for column in NEEDED if column not in results]
    if missing:
        raise ValueError(
            f"`results` must have the columns {list(NEEDED)}. Received: no {missing}, but "
            f"{list(results.columns)}"
        )
    check_points(results["flops"], results["error"])
    for column in ("images_seen", "parameters", "images_in_dataset"):
        if column in results:
            check_points(results[column], np.ones(len(results)))
    return Basis(results, _measured_sizes(results), "error", BATCH, "the table of results")


def _measured_sizes(points):
    first = points.groupby("size", sort=False).first()
    forward = first["flops"] / first["images_seen"] / TRAINING_OVER_FORWARD
    return dict(zip(first.index, zip(forward, first["parameters"], strict=True), strict=True))


def _cost(name, image_size, **head):
    shape = preset(name)
    return float(forward_flops(shape, image_size, **head)), parameters(shape, image_size, **head)
