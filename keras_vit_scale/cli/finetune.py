"""`finetune`: a model made one for other images, by the paper's protocol."""

import shlex
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg

from keras_vit_scale.cli.output import PROGRAM, print_json, tell, tell_metrics
from keras_vit_scale.cli.progress import StepBar
from keras_vit_scale.runs import FineTune, fine_tune, fine_tune_tasks, load_tasks, summary
from keras_vit_scale.training.stopping import Stopping


def finetune(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    recipe: Annotated[FineTune, OmitArgPrefixes],
    data: str = "",
    test: str = "",
    tasks: str = "",
    check: bool = False,
    out: Path = Path("fine-tuned"),
    time_limit: str | None = None,
    grace: float = 25.0,
    json: bool = False,
) -> None:
    """Fine-tune a trained model on your images, by the paper's protocol.

    Of several learning rates the best on held-out images is taken, and a run at that rate is
    done on all images. The folder is that run's: it holds the model, with its preprocessing and
    class names, and in rates/ the runs that chose the rate. Interrupted, the same command goes
    on where it stopped and ends the same.

    The protocol "vtab" is VTAB-1k's: 1,000 random images, 2,500 steps, one rate; with --check it
    trains on 800 of them and judges on the other 200. Several data sets, with one setting, are a
    YAML file of tasks, each a name, data, test and perhaps a group; their mean accuracy is given
    by group.

    For example:

      keras-vit-scale finetune run --data pets/train --test pets/test --out pets-run
      keras-vit-scale finetune run --data pets/train --rates 0.03 0.01 0.003 --steps "20 epochs"
        --warmup "1 epoch" --batch-size 128 --image-size 384
      keras-vit-scale finetune run --data pets/train --schedule constant --average "2000 steps"
      keras-vit-scale finetune run --protocol vtab --data pets/train --check --rates 0.03 0.01
      keras-vit-scale finetune run --protocol vtab --tasks tasks.yaml --out vtab

    with tasks.yaml:

      - {name: dtd, data: "tfds:dtd@train", test: "tfds:dtd@test"}
      - {name: pets, data: pets/train, test: pets/test, group: natural}

    Args:
        model: What to start from: a run's folder, a model.keras that a run wrote, or another
            project's weights: a file, a folder, hf://owner/name, https://...
        recipe: The setting.
        data: Training images: digits, a folder of class folders, an .npz file, tfds:NAME@SPLIT.
        test: Test images of the same classes, on which the final model is evaluated.
        tasks: Instead of both: a YAML file of several data sets.
        check: Only judge the rates on held-out images.
        out: Folder, made if need be.
        time_limit: Stop early enough to have saved by then: 3600, 90m, 1h30m, 11:30:00.
        grace: Seconds from a signal to the end of the process, saved or not.
        json: Print the results as JSON; nothing else goes to standard output.
    """
    if bool(data) == bool(tasks) or (test and tasks):
        raise ValueError(
            "Give `data`, perhaps with `test`, or `tasks` instead. "
            f"Received: data={data!r}, test={test!r}, tasks={tasks!r}"
        )
    with StepBar() as bar, Stopping(grace=grace, time_limit=time_limit) as stopping:
        options = {"check": check, "on_progress": bar.update, "stopping": stopping}
        if tasks:
            rows = fine_tune_tasks(recipe, model, load_tasks(tasks), out, **options)
            found = {"folder": str(out), "tasks": rows, "means": summary(rows)}
        else:
            found = fine_tune(recipe, model, data, out, test=test or None, **options)
    if json:
        print_json(found)
    elif tasks:
        _tell_tasks(found, check)
    else:
        _tell(found, check)


def _tell(found, check):
    rows = found["rates"]
    if rows:
        table = Table(title="On held-out images", title_justify="left")
        for title in ("rate", "accuracy", "loss"):
            table.add_column(title, justify="right")
        for row in rows:
            diverged = row["accuracy"] is None
            values = ("diverged", "") if diverged else _digits(row["accuracy"], row["loss"])
            table.add_row(f"{row['rate']:g}", *values)
        Console().print(table)
        tell(f"Best rate: {found['rate']:g}{_edge(rows, found['rate'])}")
    run, folder = found["run"], shlex.quote(found["folder"])
    tell(
        f"{run['size']}: {run['steps']:,} steps on {run['training_images']:,} images of "
        f"{run['classes']} classes"
    )
    if found["test"] is not None:
        tell(f"On {found['test']['images']:,} test images of {found['test']['data']}:")
        tell_metrics(found["test"])
    tell(f"Model: {found['folder']}/model.keras")
    tell("Next:")
    if check:
        tell(f"  the same command without --check, for a run on all images, with "
             f"--rates {found['rate']:g} if that is the one")  # fmt: skip
    elif found["test"] is None:
        tell(f"  {PROGRAM} evaluate {folder} TEST_IMAGES")
    tell(f"  {PROGRAM} predict {folder} PHOTO.jpg")


def _edge(rows, rate):
    """A warning where a better rate may lie beyond those that were tried."""
    rates = [row["rate"] for row in rows]
    if len(rates) < 3 or min(rates) < rate < max(rates):
        return ""
    return ", at the edge of those tried: a better one may lie beyond"


def _tell_tasks(found, check):
    judged = "held-out" if check else "test"
    table = Table(title=f"Accuracy on {judged} images", title_justify="left")
    table.add_column("task")
    table.add_column("group")
    for title in ("rate", "accuracy"):
        table.add_column(title, justify="right")
    for row in found["tasks"]:
        table.add_row(row["name"], row["group"], f"{row['rate']:g}", *_digits(row["accuracy"]))
    table.add_section()
    for group, mean in found["means"].items():
        name = "mean of all tasks" if group == "all" else "mean of the group"
        table.add_row(name, "" if group == "all" else group, "", *_digits(mean))
    Console().print(table)
    folder = found["folder"]
    tell(f"Written: {folder}/tasks.csv, and a folder for each task")
    tell("Next:")
    if check:
        tell("  the same command without --check, for runs on all images")
    else:
        first = shlex.quote(f"{folder}/{found['tasks'][0]['name']}")
        tell(f"  {PROGRAM} predict {first} PHOTO.jpg")


def _digits(*values):
    return tuple(f"{value:.4f}" for value in values)
