"""One study by several processes: each piece done once, whoever is killed, and the same results."""

import dataclasses
import json
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import keras
import numpy as np
import pytest
from test_study import STUDY, results_of

from keras_vit_scale.ownership import owning
from keras_vit_scale.scaling import load_config, run_study, write_report
from keras_vit_scale.scaling.study import claim_folder
from keras_vit_scale.scaling.study_data import open_data
from keras_vit_scale.scaling.study_run import StudyRun
from keras_vit_scale.training import CheckpointStore, Stopping

#: Takes part in a study, and writes down when it does what.
WORKER = """
import json, sys, time
from keras_vit_scale.scaling import load_config, run_study

def say(progress):
    print(json.dumps([time.time(), progress.doing, progress.done_steps]), file=log, flush=True)

with open(sys.argv[3], "w") as log:
    run_study(load_config(sys.argv[1]), sys.argv[2], say)
"""


def read_log(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("]")]


def pieces_of(log):
    """When a process was at which piece: the spans between what it said first and last of it."""
    spans = {}
    for when, doing, _ in log:
        if "trunk" in doing or "cooldown" in doing:
            spans.setdefault(doing, [when, when])[1] = when
    return spans


def steps_of(piece):
    """Steps of a trunk, or of the cooldown to so many: the latter half of them."""
    return 10 if "trunk" in piece else {6: 3, 10: 5, 20: 10}[int(piece.split()[-1])]


def digests_of(out):
    """Of every array of every checkpoint that a trunk keeps."""
    return {
        str(path.relative_to(out)): json.loads(path.read_text())["arrays"]
        for path in out.glob("runs/*/*/trunk/*/manifest.json")
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The study by one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "study.yaml").write_text(STUDY)
    run_study(load_config(folder / "study.yaml"), folder / "out")
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["B seed 0: trunk", "cooldown to 10"])
def test_of_three_processes_one_is_killed_and_each_piece_is_done_once(moment, alone, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    out, logs = tmp_path / "out", [tmp_path / f"{i}.log" for i in range(3)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, tmp_path / "study.yaml", out, log],
            stderr=subprocess.PIPE,
            text=True,
        )
        for log in logs
    ]
    killed, reports = None, 0
    while any(worker.poll() is None for worker in workers):
        for i, log in enumerate(logs):
            told = read_log(log) if log.exists() else []
            here = any(moment in doing for _, doing, _ in told) and workers[i].poll() is None
            if killed is None and here:
                workers[i].kill()
                workers[i].wait()
                killed = i
        if killed is not None and results_of(out):
            reports += len(write_report(out)) > 0
        time.sleep(0.01)
    assert killed is not None
    assert reports > 0
    for i, worker in enumerate(workers):
        assert (worker.returncode == 0) == (i != killed), worker.stderr.read()

    assert results_of(out) == results_of(alone)
    assert digests_of(out) == digests_of(alone)
    for path in alone.glob("runs/*/*/*/model.keras"):
        models = [keras.saving.load_model(f / path.relative_to(alone)) for f in (alone, out)]
        for a, b in zip(*(model.weights for model in models), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())

    told = [read_log(log) for log in logs]
    spans = defaultdict(dict)
    for i, log in enumerate(told):
        for piece, span in pieces_of(log).items():
            spans[piece][i] = span
    assert len(spans) == 2 * (1 + 3)
    unfinished = list(pieces_of(told[killed]))[-1]
    for piece, by in spans.items():
        others = [span for i, span in by.items() if i != killed]
        assert len(others) <= 1, piece
        if killed in by:
            # Done by the killed process, and only what it was at by another after it.
            assert not others or (piece == unfinished and by[killed][1] <= others[0][0]), piece
    # Each step of a piece once, but for what the killed process had not saved. How many pieces that
    # one had done depends on how much sooner than the others it came to begin.
    steps = sum(log[-1][2] for i, log in enumerate(told) if i != killed)
    by_others = sum(steps_of(piece) for piece, by in spans.items() if by.keys() - {killed})
    assert by_others - steps_of(unfinished) <= steps <= by_others


def test_nobody_loses_what_another_adds_to_the_study(tmp_path):
    """By threads, whose locks of a file keep each other out as those of processes do."""
    (tmp_path / "study.yaml").write_text(STUDY)
    config = load_config(tmp_path / "study.yaml")
    together = Barrier(3)

    def claim(first):
        for duration in range(first, 60, 3):
            together.wait(timeout=60)
            claim_folder(dataclasses.replace(config, durations=(duration,)), tmp_path / "out")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(claim, (21, 22, 23)))
    assert load_config(tmp_path / "out" / "study.yaml").durations == tuple(range(21, 60))


@pytest.mark.slow
def test_while_another_grows_the_trunk_branches_are_cooled_that_can_be(alone, tmp_path):
    """And nothing is begun that another process is at."""
    import shutil

    out = tmp_path / "out"
    shutil.copytree(alone, out)
    config = load_config(out / "study.yaml")
    config = dataclasses.replace(config, sizes=("a",))
    run = StudyRun(config, "a", 0, out, open_data(config), Stopping())
    for duration in (6, 10, 20):
        shutil.rmtree(run.branch(duration))
    shutil.rmtree(run.trunk.folder.path / "step-00000010")
    clock = Steps()
    with owning(run.folder / "trunk"), owning(run.branch(6)):
        assert run.execute(clock)
        assert not run.execute(clock)
    assert clock.doing == {"a seed 0: cooldown to 10", "a seed 0: probe at 10"}
    assert run.unfinished() == [6, 20]
    assert run.steps_left() == (10 - 5) + (20 - 10) + (6 - 3)
    assert run.execute(clock)
    assert not run.unfinished()
    assert CheckpointStore(run.folder / "trunk").steps() == [3, 5, 10]
    assert results_of(out) == results_of(alone)


class Steps:
    """A clock that remembers what was done."""

    def __init__(self):
        self.doing = set()

    def callback(self, doing):
        self.doing.add(doing)
        return keras.callbacks.Callback()

    def say(self, doing):
        self.doing.add(doing)
