"""Several processes that train together: one result, one stop, and the death of one of them."""

import json
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from faults.exact import differences, left_by
from several.job import Job

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="keras.distribution is for JAX alone"
)

SHAPE = "width=20,depth=1,mlp_dim=28,heads=2,patch_size=2"
DATA = ["--data", "digits", "--image-size", "8", "--crop", "shift", "--no-flip", "--resize", "none"]
RUN = [
    "train", SHAPE, *DATA, "--batch-size", "16", "--steps", "60", "--checkpoint-every", "10",
    "--peak", "0.004", "--validation", "103", "--average", "10",
]  # fmt: skip
TOGETHER = ["--distributed", "--fully-sharded", "--min-size", "64"]


COMMAND = ["-m", "keras_vit_scale_command"]


def finish(words, out, **options):
    words = [*COMMAND, *words, "--out", str(out)]
    with Job(words, out.with_name(f"{out.name}-logs"), **options) as job:
        assert job.codes() == [0] * job.processes, job.said()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("twin") / "run"
    finish(RUN + TOGETHER, out)
    return out


def interrupt(out, act, *more):
    """Starts the run, lets `act` do something once there is a checkpoint, and returns the job."""
    job = Job([*COMMAND, *RUN, *TOGETHER, *more, "--out", str(out)], out.with_name("logs"))
    with job:
        job.wait_for(out / "checkpoints", "step-*/manifest.json")
        act(job)
        job.ended = job.codes()
    assert not (out / "results.json").exists()
    return job


@pytest.mark.slow
def test_one_is_told_to_stop_and_both_save_the_same_step(undisturbed, tmp_path):
    out = tmp_path / "run"
    job = interrupt(out, lambda job: job.running[1].send_signal(signal.SIGTERM))
    assert job.ended == [75, 75], job.said()
    assert job.said().count("the same command goes on") >= 2
    finish(RUN + TOGETHER, out)
    assert differences(left_by(undisturbed), left_by(out)) == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_dies_and_the_other_ends_in_time(undisturbed, tmp_path, victim):
    out, died = tmp_path / "run", []

    def kill(job):
        job.running[victim].kill()
        died.append(time.monotonic())

    job = interrupt(out, kill)
    assert time.monotonic() - died[0] < 30
    # JAX itself aborts the others when the first process is gone, whose service it needs.
    assert job.ended[1 - victim] in ({75} if victim else {75, -signal.SIGABRT}), job.said()
    said = job.said()
    assert "because process 1 is gone" in said if victim else "another task died" in said, said
    finish(RUN + TOGETHER, out)
    assert differences(left_by(undisturbed), left_by(out)) == []


@pytest.mark.slow
def test_four_devices_of_two_processes_agree_with_one(undisturbed, tmp_path):
    """Over so many steps rounding grows; what is trained, on what, and how well is the same."""
    finish(RUN, tmp_path / "one", processes=1, devices=1)
    one, two = (
        json.loads((folder / "results.json").read_text())
        for folder in (tmp_path / "one", undisturbed)
    )
    assert one.keys() == two.keys()
    for name in one.keys() - {"validation"}:
        assert one[name] == two[name], name
    assert one["validation"]["images"] == two["validation"]["images"] == 103
    assert abs(one["validation"]["loss"] - two["validation"]["loss"]) < 0.05
    losses = [
        np.loadtxt(folder / "log.csv", delimiter=",", skiprows=1, usecols=(0, 1))
        for folder in (tmp_path / "one", undisturbed)
    ]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-4)
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--shards", "2"]])
def test_a_run_goes_on_with_other_devices(tmp_path, more):
    """From two processes with four devices to one with two: the same images in the same order.

    With `--shards 2` each process holds a copy, of which one saves.
    """
    out = tmp_path / "run"
    interrupt(out, lambda job: job.running[0].send_signal(signal.SIGTERM), *more)
    finish([*RUN, "--mesh", "data=2"], out, processes=1, devices=2)
    assert json.loads((out / "results.json").read_text())["images_seen"] == 16 * 60


STUDY = [
    "study", "run", "digits", "--sizes", "8x1/2", "16x2/2", "--durations", "40", "80",
    "--checkpoint-every", "20",
]  # fmt: skip


@pytest.mark.slow
def test_a_study_and_its_probes(tmp_path):
    finish(STUDY + TOGETHER, tmp_path / "two")
    finish(STUDY, tmp_path / "one", processes=1, devices=1)
    results = [
        np.genfromtxt(tmp_path / name / "results.csv", delimiter=",", names=True, dtype=None)
        for name in ("one", "two")
    ]
    assert results[0].dtype == results[1].dtype
    assert len(results[0]) == len(results[1]) > 4
    np.testing.assert_allclose(results[0]["error"], results[1]["error"], atol=0.02)
    assert (tmp_path / "two" / "report.html").is_file()


@pytest.mark.slow
def test_no_process_ever_holds_much_more_than_its_share(tmp_path, monkeypatch):
    """A model of 860 MB on four processes, created, loaded, saved with its momentum and restored.

    Each may hold its share (215 MB, with momentum 323), once more while it changes, and one array
    (268 MB), beside what compiling takes (some 100 MB); the whole does not fit into that.
    """
    # What is let go of is given back at once, and counts no longer.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    script = str(Path(__file__).parent / "several" / "born.py")
    with Job([script, str(tmp_path)], tmp_path / "logs", processes=4, devices=1) as job:
        assert job.codes() == [0] * 4, job.said()
    for process in range(4):
        told = json.loads((tmp_path / f"{process}.json").read_text())
        assert told["model"] > 800e6
        assert told["share"] < 0.27 * told["model"]
        assert told["state"] > 1.49 * told["model"]  # momentum in bfloat16
        for phase in ("created", "loaded"):
            assert told[phase] < 0.85 * told["model"], (phase, told)
        for phase in ("saved", "restored"):
            assert told[phase] < 0.7 * told["state"], (phase, told)
