"""One setting on several data sets, and its mean over groups of them, as VTAB reports."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_vit_scale.atomic import write_text
from keras_vit_scale.models import architecture
from keras_vit_scale.runs.fine_tune import FineTune
from keras_vit_scale.runs.fine_tune_run import check_data, csv_text, fine_tune, open_test
from keras_vit_scale.runs.settings import STRICT, read_settings
from keras_vit_scale.runs.start import open_start
from keras_vit_scale.training.progress import Progress
from keras_vit_scale.training.stopping import Stopping

#: VTAB's groups and the names of their tasks.
VTAB = {
    "natural": (
        "caltech101", "cifar100", "dtd", "flowers102", "pets", "sun397", "svhn",
    ),
    "specialized": ("camelyon", "eurosat", "resisc45", "retinopathy"),
    "structured": (
        "clevr-count", "clevr-distance", "dmlab", "dsprites-location", "dsprites-orientation",
        "kitti-distance", "smallnorb-azimuth", "smallnorb-elevation",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A data set to fine-tune on and the images that judge it.

    Raises:
        ValueError: If the name cannot be a folder's.

    Example:

    >>> from keras_vit_scale.runs import Task
    >>> Task("dtd", data="tfds:dtd@train", test="tfds:dtd@test").group
    'natural'
    """

    __pydantic_config__ = STRICT

    name: str
    """Name of its folder and its row: letters, digits, dots, dashes and underscores."""
    data: str
    """Training images: digits, a folder of class folders, an .npz file, tfds:NAME@SPLIT."""
    test: str
    """Test images, of the same classes."""
    group: str | None = None
    """What its accuracy is averaged with; of VTAB's own tasks their group is known."""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                "A task's name must be of letters, digits, dots, dashes and underscores. "
                f"Received: name={self.name!r}"
            )
        if self.group is None:
            groups = (group for group, names in VTAB.items() if self.name in names)
            object.__setattr__(self, "group", next(groups, ""))


def load_tasks(path: str | Path) -> list[Task]:
    """The tasks of a YAML file: a list of `name`, `data`, `test` and perhaps `group`.

    Raises:
        ValueError: If it cannot be read, or a task breaks a rule.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Tasks must be a YAML file. Received: {str(path)!r} ({error})") from error
    return read_settings(list[Task], text, path)


def fine_tune_tasks(
    recipe: FineTune,
    model: str | Path,
    tasks: list[Task],
    out: str | Path,
    *,
    check: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    stopping: Stopping | None = None,
) -> list[dict[str, Any]]:
    """Fine-tunes a model on each task, in a folder of its name within `out`.

    Finished tasks are not done again. `tasks.csv` in `out` has a row for each that is.

    Args:
        recipe: The one setting for all.
        model, check, on_progress, stopping: As in `fine_tune`.
        tasks: The tasks, of different names.
        out: Folder, made if need be.

    Returns:
        For each task its `name`, `group`, learning `rate`, and the `accuracy` and number
        of `images` that it is of: test images, or the held-out ones where `check` is true.

    Raises:
        ValueError: If there is no task, two have names that differ by case alone, or one
            does not go with model and recipe; nothing is written then.
        RunError: As in `fine_tune`.
    """
    names = [task.name.casefold() for task in tasks]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "There must be tasks, of names that differ by more than case. "
            f"Received: {[task.name for task in tasks]}"
        )
    start = architecture(open_start(model)[0])
    for task in tasks:  # before the first of them begins
        run = recipe.run(str(model), start, task.data, recipe.peak_rates()[0], held_out=True)
        open_test(task.test, check_data(run), recipe)
    rows = []
    for task in tasks:
        found = fine_tune(
            recipe,
            model,
            task.data,
            Path(out) / task.name,
            test=task.test,
            check=check,
            on_progress=on_progress,
            stopping=stopping,
        )
        judged = found["run"]["validation"] if check else found["test"]
        rows.append(
            {
                "name": task.name,
                "group": task.group,
                "rate": found["rate"],
                "accuracy": judged["accuracy"],
                "images": judged["images"],
            }
        )
        write_text(Path(out) / "tasks.csv", csv_text(rows))
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean accuracy of each group, in the order of its first task, and of "all" tasks.

    The mean of all is over tasks and not over groups, as in VTAB's own score.

    Example:

    >>> from keras_vit_scale.runs import summary
    >>> rows = [("pets", "natural", 0.9), ("svhn", "natural", 0.8), ("dmlab", "structured", 0.4)]
    >>> means = summary([dict(zip(("name", "group", "accuracy"), row)) for row in rows])
    >>> {group: round(mean, 3) for group, mean in means.items()}
    {'natural': 0.85, 'structured': 0.4, 'all': 0.7}
    """
    groups = {group: None for group in (row["group"] for row in rows) if group}
    chosen = {group: [r["accuracy"] for r in rows if r["group"] == group] for group in groups}
    chosen["all"] = [row["accuracy"] for row in rows]
    return {group: sum(values) / len(values) for group, values in chosen.items()}
