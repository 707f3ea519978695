"""A cooldown that an event begins: what waits for the event, and what is written down of it.

By the record a run that goes on, or a branch, begins the cooldown where the event did.
"""

import datetime
from pathlib import Path
from typing import Any

from keras_vit_scale.formats import read_json, write_json
from keras_vit_scale.runs.config import TrainConfig
from keras_vit_scale.runs.plan import Plan
from keras_vit_scale.training.callbacks import Cooldown

#: The file of the record, in the run's folder.
RECORD = "cooldown.json"


def make_event(config: TrainConfig, plan: Plan, out: Path) -> Cooldown | None:
    """The callback that begins the cooldown when an event says so; `None` if none may, or one has.

    Raises:
        ValueError: If the deadline is past.
    """
    if not plan.by_event or (out / RECORD).is_file():
        return None
    deadline = None if config.deadline is None else config.deadline_time()
    if deadline is not None and deadline <= datetime.datetime.now(datetime.UTC):
        raise ValueError(
            "`deadline` must lie in the future: give a later one, or none. "
            f"Received: deadline={config.deadline!r}"
        )
    return Cooldown(
        plan.cooldown,
        at_step=plan.planned_cooldown(),
        deadline=deadline,
        when_file=config.cool_down_file,
    )


def read_cooldown(out: Path) -> dict[str, Any] | None:
    """Where an event began the cooldown of a run and where that ends, if one did."""
    record = out / RECORD
    if not record.is_file():
        return None
    return read_json("cooldown", record)


def write_cooldown(out: Path, event: Cooldown) -> None:
    """Writes down at which step an event has begun the cooldown, and where that ends."""
    write_json("cooldown", out / RECORD, {"begins": event.start, "ends": event.total})
