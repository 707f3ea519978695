"""One trial of a search: a run in a folder, or a rung, whose run is its trunk's cooldown.

trial_07/
  trial.json             KerasTuner's: hyperparameters, state, score
  trunk/                 of a rung: the run that is cooled down, and that a longer rung goes on with
  run/                   the run that is judged
  result.json            what it came to; written last: the trial is done
  failure.json           why it failed
  process.log            what its process said
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.formats import read_json, write_json
from keras_vit_scale.ownership import owning
from keras_vit_scale.runs import TrainConfig, branch, train
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.training.stopping import Stopping
from keras_vit_scale.tuning.probe import Probe

#: What a trial came to, written last.
RESULT = "result.json"


@dataclass(frozen=True)
class Rung:
    """A trial of successive halving, whose trunk goes on from that of a shorter one."""

    before: str | None
    """Folder of the shorter trial, or `None` for the first rung."""


@dataclass(frozen=True)
class Job:
    """A trial as another process can do it."""

    config: TrainConfig
    folder: str
    probe: Probe | None = None
    rung: Rung | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()


def run_job(job: Job, stopping: Stopping | None = None) -> None:
    """Does a trial, from wherever its folder stands; `metrics` then has what it came to.

    Raises:
        Stopped: If `stopping` said so; the same call goes on from there.
        Exception: As `train` and `branch`.
    """
    folder = Path(job.folder)
    # A process whose search died may still be saving there.
    with owning(folder, wait=True):
        if (folder / RESULT).is_file():
            return
        options: dict[str, Any] = {"stopping": stopping, "callbacks": job.callbacks}
        if job.rung is None:
            results = train(job.config, folder / "run", **options)
        else:
            results = climb(job.config, folder, job.rung, **options)
        found: dict[str, float] = {}
        if results["validation"] is not None:
            for name in ("loss", "accuracy"):
                found[f"val_{name}"] = results["validation"][name]
        if job.probe is not None:
            model = folder / "run" / "model.keras"
            found["fewshot_accuracy"] = job.probe.accuracy(job.config, model)
        about = ("size", "steps", "images_seen", "parameters", "flops")
        told = {name: results[name] for name in about}
        write_json("trial", folder / RESULT, {"metrics": found, **told, "process": os.getpid()})


def metrics(folder: str | Path) -> dict[str, float]:
    """The metrics of a finished trial: "val_loss" and "val_accuracy" of the validation images, and
    "fewshot_accuracy", as far as there are such.
    """
    return read_json("trial", Path(folder) / RESULT)["metrics"]


def climb(
    config: TrainConfig,
    folder: Path,
    rung: Rung,
    *,
    stopping: Stopping | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Trains a trunk as far as a rung's cooldown begins, and cools it down in a branch.

    The trunk of a longer rung is a branch of the shorter one's trunk, before its cooldown: so
    no step of a trunk is trained twice, and each rung ends as a run of its length would.

    Args:
        config: The run of the rung's length.
        folder: The trial's, in which "trunk" and "run" are made.
        rung: Where the trunk comes from.
        stopping, callbacks: As in `train`.

    Returns:
        What the results.json of the cooled-down run holds.

    Raises:
        ValueError: If the schedule has no trunk, or the run no cooldown.
        RunError, Stopped: As `train` and `branch`.
    """
    plan = config.plan(len(open_data(config)[0]))
    total, cooldown = plan.total_steps or 0, int(plan.cooldown)
    check_trunk(config)
    begins = total - cooldown
    options: dict[str, Any] = {"stopping": stopping, "callbacks": callbacks}
    trunk = folder / "trunk"
    if rung.before is None:
        # The warm-up in steps: a part of this run's would be another part of a longer one's.
        alone = dataclasses.replace(
            config, steps=begins, cooldown=0, warmup=min(plan.warmup_steps, begins)
        )
        train(alone, trunk, **options)
    else:
        branch(Path(rung.before) / "trunk", trunk, steps=begins, cooldown=0, **options)
    return branch(trunk, folder / "run", cooldown=cooldown, **options)


def check_trunk(config: TrainConfig) -> None:
    """Refuses a run that is no trunk with a cooldown.

    Raises:
        ValueError: If its schedule knows its end, or it has no cooldown.
    """
    if config.schedule not in ("rsqrt", "constant") or not config.cooldown_length():
        raise ValueError(
            "Successive halving cools trunks down, so the run needs the schedule 'rsqrt' or "
            "'constant' and a cooldown. "
            f"Received: schedule={config.schedule!r}, cooldown={config.cooldown!r}"
        )
