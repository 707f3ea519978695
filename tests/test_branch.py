"""Branches of a run: the same end as a run that was never one, and all that changes told."""

import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import as_numpy
from test_run import CONFIG, StopAt, damage, weights_of

from keras_vit_scale.data import train_batches
from keras_vit_scale.runs import RunError, branch, branching, load_run_config, train
from keras_vit_scale.runs.branching import FIXED, as_it_went, begin_branch, branched_config
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.runs.origin import images_seen, read_origin
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.recipe import loss_function, make_optimizer
from keras_vit_scale.runs.settings import settings_text
from keras_vit_scale.runs.start import build_model
from keras_vit_scale.training import CheckpointStore, Stopped
from keras_vit_scale.training.averaging import averaged
from keras_vit_scale.training.checkpoints import CheckpointError, copying
from keras_vit_scale.training.checkpoints.storage import read_bytes

# Of runs, whose steps every backend's own tests cover.
pytestmark = pytest.mark.slow

#: Longer than `CONFIG`, and the same up to step 10, where that begins its cooldown.
TRUNK = dataclasses.replace(CONFIG, steps=31, cooldown=4, keep_last=1, keep_every=5)
COOLED = {"cooldown": 7, "keep_last": 9}


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A finished run that kept its checkpoints of steps 5, 10, ... 30 and 31."""
    out = tmp_path_factory.mktemp("trunk") / "run"
    train(TRUNK, out)
    return out


@pytest.fixture(scope="module")
def cooled(trunk):
    """Its cooldown from step 10 on, and what that returned."""
    out = trunk.parent / "cooled"
    return out, branch(trunk, out, at=10, **COOLED)


def read(path):
    return json.loads(path.read_text())


def assert_same_weights(out, other):
    for a, b in zip(weights_of(out), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_cooled_branch_is_the_run_of_that_length(cooled, tmp_path):
    """Bit for bit, with averages, dropout, mixed images and evaluations."""
    (out, results), run = cooled, tmp_path / "run"
    train(CONFIG, run)
    assert_same_weights(out, run)
    later = [row for row in read(run / "evaluations.json") if row["step"] > 10]
    assert read(out / "evaluations.json") == later
    assert read(run / "results.json").items() <= read(out / "results.json").items()
    assert results["branch"]["steps"] == 7
    assert results["branch"]["images_seen"] == 7 * 13
    assert results["branch"]["flops"] == pytest.approx(results["flops"] * 7 / 17)


def test_a_branch_without_changes_ends_as_its_trunk(trunk, tmp_path):
    branch(trunk, tmp_path / "run", at=20)
    assert_same_weights(tmp_path / "run", trunk)
    rows = [row for row in read(trunk / "evaluations.json") if row["step"] > 20]
    assert rows
    assert read(tmp_path / "run" / "evaluations.json") == rows


def test_the_branch_says_where_it_comes_from(trunk, cooled):
    origin = read_origin(cooled[0])
    assert (origin.trunk, origin.step, origin.images_seen) == (str(trunk.resolve()), 10, 130)
    assert origin.asked == COOLED
    assert origin.changed == {
        "steps": (31, None), "cool_down_at": (None, 10), "cooldown": (4, 7), "keep_last": (1, 9),
    }  # fmt: skip
    # By hand: peak / sqrt(1 + (t - warmup) / timescale); cooling down has just begun.
    assert origin.learning_rate == pytest.approx([0.01 / np.sqrt(1 + 8 / 10)] * 2)
    assert origin.saved_with == origin.versions
    assert origin.trunk_branch is None
    for out in (trunk, cooled[0]):
        manifest = (out / "checkpoints" / "step-00000010" / "manifest.json").read_bytes()
        assert origin.blake2b == hashlib.blake2b(manifest, digest_size=16).hexdigest()


def test_with_another_batch_size_and_recipe_it_sees_the_images_that_come_next(trunk, tmp_path):
    """Against steps by hand, on batches stacked from a stream of single images."""
    changes = {"batch_size": 11, "mixup": 0.0, "loss": "softmax", "peak": 0.02, "steps": 15}
    changes |= {"cooldown": 3, "evaluate_every": None, "clip_norm": 0.7}
    results = branch(trunk, tmp_path / "run", at=10, **changes)
    assert results["images_seen"] == 10 * 13 + 5 * 11
    assert results["branch"]["images_seen"] == 5 * 11

    config = dataclasses.replace(TRUNK, **changes)
    source, _ = open_data(config)
    plan = config.plan(len(source))
    model = build_model(config, source.class_names)
    schedule = make_schedule(config, plan)
    model.compile(
        make_optimizer(config, plan, schedule, ema_at_end=False), loss_function("softmax", 0.0)
    )
    CheckpointStore(trunk / "checkpoints").restore(model, 10)
    stream = iter(train_batches(source, config.train_transform(), 1, start=130, stop=185))
    for _ in range(5):
        images, labels = zip(*(next(stream) for _ in range(11)), strict=True)
        model.train_on_batch(np.concatenate(images), np.concatenate(labels))
    with averaged(model):
        for a, b in zip(weights_of(tmp_path / "run"), model.weights, strict=True):
            # The key bias has a gradient of zero, whose rounding the optimizer makes steps of. On
            # TensorFlow rounding came to 8e-6 elsewhere, in one number of a kernel.
            if "key_bias" not in b.path:
                np.testing.assert_allclose(a, as_numpy(b), rtol=1e-4, atol=2e-5, err_msg=b.path)


def test_what_is_dropped_may_change(trunk, tmp_path):
    """Without dropout a model has no random seeds: its trunk has one, and a branch of it again."""
    none, more = tmp_path / "none", tmp_path / "more"
    branch(trunk, none, at=25, steps=32, dropout=0.0, evaluate_every=None)
    assert branch(none, more, steps=34, dropout=0.2, cooldown=2)["steps"] == 34
    origin = read_origin(more)
    assert origin.step == 32
    assert (origin.trunk_branch["step"], origin.trunk_branch["trunk"]) == (25, str(trunk.resolve()))


@pytest.mark.parametrize("on_spike", ["warn", "rewind"])
def test_a_branch_may_begin_to_look_for_leaps_of_its_loss(on_spike, trunk, tmp_path):
    changes = {"on_spike": on_spike, "steps": 18, "cooldown": 2, "checkpoint_every": 3}
    branch(trunk, tmp_path / "watched", at=10, **changes)
    branch(trunk, tmp_path / "unwatched", at=10, **{**changes, "on_spike": "ignore"})
    assert_same_weights(tmp_path / "watched", tmp_path / "unwatched")


def test_of_a_branch_with_another_batch_size_the_images_are_counted_on(trunk, tmp_path):
    """Nothing is trained: config and origin are there before."""
    first = {"batch_size": 26, "steps": "10 epochs"}
    config = begin_branch(trunk, tmp_path / "one", 10, first)
    # By hand: 14,000 images, 130 of them before: 533.46 steps of 26.
    assert config.steps == 10 + 533
    store = CheckpointStore(tmp_path / "one" / "checkpoints")
    shutil.copytree(store.folder_of(10).path, store.folder_of(13).path)
    config = begin_branch(tmp_path / "one", tmp_path / "two", 13, {"batch_size": 7, "cooldown": 2})
    assert (config.cool_down_at, config.steps, config.warmup, config.average) == (13, None, 2, 4)
    origin = read_origin(tmp_path / "two")
    assert origin.images_seen == 10 * 13 + 3 * 26
    assert images_seen(origin, 15, 7) == 10 * 13 + 3 * 26 + 2 * 7
    assert origin.trunk_branch["asked"] == first


def test_interrupted_it_goes_on_without_its_trunk(trunk, cooled, tmp_path):
    """By the same call, with what no weight depends on changed."""
    shutil.copytree(trunk, tmp_path / "trunk")
    out = tmp_path / "branch"
    for stop in (11, 16):
        with pytest.raises(Stopped) as stopped:
            branch(tmp_path / "trunk", out, at=10, **COOLED, stopping=StopAt(out, stop))
        assert stopped.value.step == stop
        if stop == 11:
            shutil.rmtree(tmp_path / "trunk")
    branch(tmp_path / "trunk", out, cooldown=7, checkpoint_every=2)
    assert_same_weights(out, cooled[0])
    assert read(out / "results.json") == read(cooled[0] / "results.json")
    assert list(pd.read_csv(out / "log.csv")["step"])[-1] == 17


def begun(trunk, out, **changes):
    """The config with which a branch goes on; nothing is trained."""
    given = {"batch_size": 26, "cooldown": 2, **changes}
    begin = branching._going_on if (out / "config.yaml").exists() else begin_branch
    config = begin(trunk, out, 10, given)
    (out / "config.yaml").write_text(settings_text(config, "run"))
    return config


@pytest.mark.parametrize("unit", ["images", "epochs"])
def test_interrupted_its_cooldown_begins_where_it_would_have(unit, trunk, tmp_path):
    """Of 1,400 images 130 were seen in batches of 13; also if another point was given between."""
    points = {"images": ("1400 images", "2100 images"), "epochs": ("1 epoch", "1.5 epochs")}[unit]
    for point, by_hand in zip((*points, points[0]), (10 + 49, 10 + 76, 10 + 49), strict=True):
        for _ in range(2):
            assert begun(trunk, tmp_path / "run", cool_down_at=point).cool_down_at == by_hand
    # In another life without it, as with whatever no weight depends on.
    assert begun(trunk, tmp_path / "run").cool_down_at == 10 + 49


@pytest.mark.parametrize("end", ["1.002 epochs", "1.006 epochs"])
def test_a_part_of_a_step_is_rounded_as_in_a_run(end):
    """Of 13 images: 107.9 and 108.3 steps."""
    ended = at_step_10(steps=end)
    assert ended.steps == dataclasses.replace(TRUNK, steps=end).plan(1400).total_steps == 108


def test_what_another_process_did_meanwhile_stays(trunk, tmp_path, monkeypatch):
    """It begins the same branch, trains and is stopped while this one opens the data."""
    out, opened = tmp_path / "run", []

    def slowly(config):
        if not opened:
            opened.append(True)
            with pytest.raises(Stopped):
                branch(trunk, out, at=10, **COOLED, stopping=StopAt(out, 13))
        return open_data(config)

    monkeypatch.setattr(branching, "open_data", slowly)
    config = begin_branch(trunk, out, 10, COOLED)
    assert CheckpointStore(out / "checkpoints").steps()[-1] == 13
    assert config == load_run_config(out)


def test_a_checkpoint_that_is_replaced_while_it_is_copied_is_no_copy(tmp_path, monkeypatch):
    """Between the reading of its manifest and of its arrays."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    store, other = CheckpointStore(tmp_path / "a"), CheckpointStore(tmp_path / "b")
    store.save(model, 7)
    store.wait()

    def replaced(folder, file):
        said = read_bytes(folder, file)
        monkeypatch.undo()
        model.set_weights([w + 1 for w in model.get_weights()])
        store.save(model, 7)
        store.wait()
        return said

    monkeypatch.setattr(copying, "read_bytes", replaced)
    with pytest.raises(CheckpointError, match="cannot be copied"):
        copying.copy_checkpoint(store.folder_of(7), other.folder_of(7))
    assert other.steps() == []
    copying.copy_checkpoint(store.folder_of(7), other.folder_of(7))
    assert other.restore(model).step == 7


KILLED = """
import os, signal, sys
from pathlib import Path
from keras_vit_scale.runs import branching

name = sys.argv[3]
original = getattr(branching, name)

def kill(*arguments, **options):
    if sys.argv[4] == "after":
        original(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(branching, name, kill)
branching.begin_branch(Path(sys.argv[1]), Path(sys.argv[2]), 15, {"cooldown": 2})
"""


@pytest.mark.parametrize("moment", ["before the copy", "after the copy"])
def test_killed_while_it_begins_it_begins_again(moment, trunk, tmp_path):
    """With another checkpoint, so that what was left would be taken for the newest."""
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, trunk, out, "copy_checkpoint", moment.split()[0]],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_origin(out).step == 15
    assert CheckpointStore(out / "checkpoints").steps() == [15] * moment.startswith("after")
    with pytest.raises(RunError, match="the beginning of a branch"):
        train(TRUNK, out)
    begin_branch(trunk, out, 10, {"cooldown": 2})
    assert CheckpointStore(out / "checkpoints").steps() == [10]
    assert read_origin(out).step == 10


ROTATING = """
import sys
import keras
from keras_vit_scale.training import CheckpointStore, Keep

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("adam", "mse")
store, step = CheckpointStore(sys.argv[1], Keep(last=1)), 31
while True:
    step += 1
    store.save(model, step)
    store.wait()
    print(step, flush=True)
"""


def test_a_trunk_may_delete_its_checkpoints_meanwhile(trunk, tmp_path):
    """A process that saves and deletes as fast as it can: a branch has a whole one, or says why."""
    running = tmp_path / "running"
    shutil.copytree(trunk, running)
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATING, running / "checkpoints"], stdout=subprocess.PIPE, text=True
    )
    begun, refused = [], []
    try:
        assert process.stdout.readline() == "32\n"
        for i in range(20):
            out = tmp_path / f"branch {i}"
            try:
                begin_branch(running, out, None, {"steps": 10**6})
            except RunError as error:
                refused.append(str(error))
                continue
            begun.append(read_origin(out).step)
            assert CheckpointStore(out / "checkpoints").steps() == [begun[-1]]
    finally:
        process.kill()
        process.wait()
    assert len(begun) >= 5
    assert begun == sorted(begun)
    assert all("one that it keeps, by `keep_every`" in reason for reason in refused)


def test_of_damaged_checkpoints_the_one_before_is_taken(trunk, tmp_path):
    shutil.copytree(trunk, tmp_path / "trunk")
    damage(tmp_path / "trunk" / "checkpoints" / "step-00000031")
    with pytest.warns(UserWarning, match=r"step-00000031 cannot be copied.*digest"):
        begin_branch(tmp_path / "trunk", tmp_path / "new", None, {"steps": 40})
    assert read_origin(tmp_path / "new").step == 30
    with pytest.raises(RunError, match=r"step-00000031 cannot be copied"):
        begin_branch(tmp_path / "trunk", tmp_path / "other", 31, {"steps": 40})
    assert not (tmp_path / "other" / "config.yaml").exists()


def test_a_cooldown_that_an_event_began_is_the_trunks_end(tmp_path):
    config = dataclasses.replace(TRUNK, steps=None, cool_down_file="now", cooldown=0.5, warmup=None)
    (tmp_path / "cooldown.json").write_text('{"format": 1, "begins": 20, "ends": 40}')
    went = as_it_went(config, tmp_path, images=1400)
    assert (went.steps, went.cooldown, went.cool_down_file, went.warmup) == (40, 20, None, 10_000)


def at_step_10(**changes):
    return branched_config(TRUNK, changes, step=10, seen=130, images=1400)


# By hand, from step 10 and 130 images, of 1,400 images.
ENDS = {
    "the trunk's": ({"peak": 0.5}, (31, 27)),
    "longer": ({"steps": 50}, (50, 46)),
    "here and now": ({"cooldown": 7}, (17, 10)),
    "a part": ({"cooldown": 0.5}, (20, 10)),
    "later": ({"cooldown": 7, "cool_down_at": 20}, (27, 20)),
    "before an end": ({"cooldown": 7, "steps": 20}, (20, 13)),
    "images": ({"steps": "200 images", "batch_size": 35, "cooldown": 1}, (12, 11)),
    "epochs": ({"steps": "2 epochs", "batch_size": 70}, (10 + 38, 10 + 34)),
    "cooldown in epochs": ({"cooldown": "2 epochs", "batch_size": 140}, (30, 10)),
}


@pytest.mark.parametrize(("changes", "expected"), ENDS.values(), ids=ENDS)
def test_a_branch_ends_where_it_is_told_to(changes, expected):
    plan = at_step_10(**changes).plan(images=1400)
    assert (plan.total_steps, plan.planned_cooldown()) == expected
    assert plan.warmup_steps == 2


REFUSED = {
    **{name: ({name: "another"}, f"from its trunk: .*Received: {name}$") for name in sorted(FIXED)},
    "misspelt": ({"cool_down": 3}, "did you mean 'cooldown'"),
    "averages": ({"average": 0}, "averages weights if its trunk does"),
    "over before it begins": ({"steps": 10}, "must end after the step at which it begins, 10"),
    "cooled before it begins": ({"steps": 20, "cooldown": 11}, "not begin before the branch"),
    "two ends": ({"steps": 20, "cool_down_at": 11}, "where the cooldown ends, or"),
    "no such choice": ({"crop": "sift"}, "must be one of"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_branch_cannot_change_is_refused_by_name(changes, message, trunk, tmp_path):
    with pytest.raises(ValueError, match=message):
        branch(trunk, tmp_path / "new", at=10, **changes)
    assert not (tmp_path / "new").exists()


def test_folders_that_do_not_serve_are_refused(trunk, cooled, tmp_path):
    refused = {
        r"There must be a checkpoint of that step.*12.*`keep_every`": (trunk, tmp_path, 12, {}),
        "a run that is no branch": (trunk, trunk, 10, {}),
        r"another branch: it began at 10, now 15; cooldown was 7, now 'not given'; peak was "
        "'not given', now 1.0": (trunk, cooled[0], 15, {"peak": 1.0}),
        "another branch: its trunk was": (cooled[0], cooled[0], 10, {"cooldown": 7}),
    }
    for message, (source, out, at, changes) in refused.items():
        with pytest.raises(RunError, match=message):
            branch(source, out, at=at, **changes)
    (tmp_path / "other").mkdir()
    shutil.copytree(trunk / "checkpoints", tmp_path / "other" / "checkpoints")
    with pytest.raises(RunError, match="checkpoints of something else"):
        branch(trunk, tmp_path / "other", at=10, cooldown=2)
    with pytest.raises(ValueError, match=r"must hold a config\.yaml"):
        branch(tmp_path, tmp_path / "new")
    assert load_run_config(trunk) == TRUNK
