"""What KerasTuner's oracles need so that a search goes on wherever it was killed.

Their files are written in place, a trial that was just begun may be in its own file and not in the
oracle's, and the grid search of KerasTuner 1.4.8 keeps its place in no file at all. Here is all
that this package knows of the inside of an oracle.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any

from keras_vit_scale.atomic import write_text


def write_at_once(oracle: Any) -> None:
    """Lets an oracle replace its files at once: a kill while it writes one must lose no search."""

    def write(path, state):
        write_text(Path(path), json.dumps(state))

    def save():
        write(oracle._get_oracle_fname(), oracle.get_state())

    def save_trial(trial):
        folder = oracle._get_trial_dir(trial.trial_id)
        write(os.path.join(folder, "trial.json"), trial.get_state())

    oracle.save, oracle._save_trial = save, save_trial


def take_up(oracle: Any) -> None:
    """Makes an oracle that was loaded know all trials, those that were running to be run again."""
    known = {*oracle._retry_queue, *(trial.trial_id for trial in oracle.ongoing_trials.values())}
    for name, trial in sorted(oracle.trials.items()):
        if name not in oracle.start_order:
            oracle.start_order.append(name)
        if trial.status == "RUNNING" and name not in known:
            oracle._retry_queue.append(name)
    if hasattr(oracle, "_ordered_ids") and not oracle._populate_next:
        _find_place_in_grid(oracle)


def _find_place_in_grid(oracle):
    """The order of a grid's trials, each of which may have a neighbour that was not tried."""

    def compare(a, b):
        return oracle._compare(*(oracle.trials[name].hyperparameters.values for name in (a, b)))

    before = None
    for name in sorted(oracle.trials, key=functools.cmp_to_key(compare)):
        oracle._ordered_ids.insert(name, before)
        before = name
    oracle._populate_next = list(oracle.start_order)
