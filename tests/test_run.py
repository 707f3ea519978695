"""One run, one directory: trained, killed, continued, cooled down by events, refused."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import ViT
from keras_vit_scale.data import ArraySource, digits, hold_out, train_batches
from keras_vit_scale.data.identity import digest_of_labels
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.optimizers.decay import decays_by_path
from keras_vit_scale.ownership import owning
from keras_vit_scale.runs import RunError, TrainConfig, load_run_config, train
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.recipe import head_bias, loss_function, make_optimizer
from keras_vit_scale.runs.run import Run
from keras_vit_scale.runs.start import build_model, start_from
from keras_vit_scale.training import CheckpointStore, Stopped, Stopping
from keras_vit_scale.training.loop import train_steps
from keras_vit_scale.weights import resample_positions

CONFIG = TrainConfig(
    "width=6,depth=1,mlp_dim=7,heads=2,patch_size=4",
    "digits",
    steps=17,
    validation=397,
    evaluate_every=7,
    image_size=8,
    batch_size=13,
    crop="shift",
    flip=False,
    resize="none",
    dropout=0.1,
    mixup=0.2,
    peak=0.01,
    warmup=2,
    timescale=10.0,
    cooldown=0.4,
    average=4,
    checkpoint_every=5,
    log_every=5,
)


def weights_of(out):
    return [w.numpy() for w in load_classifier(out / "model.keras").model.weights]


def assert_same_end(out, other):
    for a, b in zip(weights_of(out), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("evaluations.json", "results.json"):
        assert (out / name).read_text() == (other / name).read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run without interruption, and the progress that it told."""
    out = tmp_path_factory.mktemp("finished") / "run"
    told = []
    train(CONFIG, out, told.append)
    return out, told


def test_the_folder_holds_all_of_the_run(finished):
    out, told = finished
    assert load_run_config(out) == CONFIG
    assert CheckpointStore(out / "checkpoints").steps() == [15, 17]
    assert (told[-1].done_steps, told[-1].total_steps) == (17, 17)
    results = json.loads((out / "results.json").read_text())
    assert results["steps"] == 17
    assert results["images_seen"] == 17 * 13
    assert (results["training_images"], results["validation_images"]) == (1400, 397)
    # By hand: 4 patches of 4 x 4 x 3, one block with an MLP of 7, MAP, 10 classes.
    block = 4 * 4 * 6 * 6 + 2 * 4 * 4 * 6 + 2 * 4 * 6 * 7
    pool = (1 + 4 + 4 + 1) * 6 * 6 + 2 * 4 * 6 + 2 * 6 * 7
    assert results["flops"] == 3 * 2 * (4 * 48 * 6 + block + pool + 6 * 10) * 17 * 13
    rows = json.loads((out / "evaluations.json").read_text())
    assert [row["step"] for row in rows] == [7, 14, 17]
    assert results["validation"] == rows[-1]


def test_log_has_a_row_every_few_steps(finished):
    log = pd.read_csv(finished[0] / "log.csv")
    # Every five, and wherever something else was due.
    assert list(log["step"]) == [5, 7, 10, 14, 15, 17]
    assert log["loss"].between(0.1, 10).all()
    # By hand: peak / sqrt(1 + (t - warmup) / timescale), for the update that made step t.
    np.testing.assert_allclose(log["learning_rate"][0], 0.01 / np.sqrt(1 + (4 - 2) / 10), rtol=1e-6)


def test_the_saved_model_is_the_judged_one(finished):
    out, _ = finished
    _, held_out = open_data(CONFIG)
    classifier = load_classifier(out / "model.keras")
    assert classifier.class_names == digits().class_names
    judged = json.loads((out / "results.json").read_text())["validation"]
    for name, value in classifier.evaluate(held_out).items():
        assert value == pytest.approx(judged[name], rel=1e-6)


def test_a_finished_run_is_not_trained_again(finished):
    out, _ = finished
    before = (out / "model.keras").stat().st_mtime_ns
    stored = json.loads((out / "results.json").read_text())
    assert {"format": 1, **train(CONFIG, out)} == stored
    assert (out / "model.keras").stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["", '{"format": 1, "steps"', "[1]"])
def test_damaged_results_are_named(text, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"run/results.json is damaged"):
        train(CONFIG, tmp_path / "run")


KILLED = """
import os, signal, sys
from keras_vit_scale.runs import load_run_config, train

def kill(progress):
    if progress.doing == "evaluation" and progress.done_steps == 14:
        os.kill(os.getpid(), signal.SIGKILL)

train(load_run_config(sys.argv[1]), sys.argv[2], kill)
"""


@pytest.mark.slow
def test_killed_and_run_again_it_ends_the_same(finished, tmp_path):
    """Killed while step 14 is saved: there is that checkpoint, or the one before."""
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(finished[0]), str(out)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    steps = CheckpointStore(out / "checkpoints").steps()
    assert steps in ([7, 10], [7, 10, 14], [10, 14])
    assert not (out / "results.json").exists()
    # As a kill while these are written leaves them; and one that is somebody's.
    left = [out / ".model.keras.0a1b2c3d.keras", out / ".results.json.0a1b2c3d", out / ".note.txt"]
    for path in left:
        path.touch()
    told = []
    train(CONFIG, out, told.append)
    assert told[0].done_steps == steps[-1]
    assert_same_end(out, finished[0])
    assert [path.name for path in left if path.exists()] == [".note.txt"]


class StopAt(Stopping):
    """Asks to stop at a step, which it knows by being told what is saved and what is not."""

    def __init__(self, out, stop):
        super().__init__()
        self.out, self.stop, self.step = out, stop, 0

    def reason(self):
        return "the test" if self.step >= self.stop else None

    def all_saved(self, wait):
        wait()
        self.step = max(CheckpointStore(self.out / "checkpoints").steps(), default=0)

    def unsaved(self):
        self.step += 1


@pytest.mark.parametrize(
    "stops",
    [
        (3,),
        *(pytest.param(stops, marks=pytest.mark.slow) for stops in [(8,), (1, 2, 11, 16), (7, 15)]),
    ],
)
def test_stopped_at_any_step_and_run_again_it_ends_the_same(stops, finished, tmp_path):
    """Within an epoch of Keras, where means since its beginning go on."""
    out = tmp_path / "run"
    for stop in stops:
        with pytest.raises(Stopped) as stopped:
            train(CONFIG, out, stopping=StopAt(out, stop))
        assert stopped.value.step == stop
    train(CONFIG, out)
    assert_same_end(out, finished[0])


@pytest.mark.slow
def test_interrupted_in_a_cooldown_that_a_file_began_it_goes_on(tmp_path):
    """Every step is kept, and the cooldown stays where the file began it."""
    out, signal_file = tmp_path / "run", tmp_path / "cool"
    config = dataclasses.replace(
        CONFIG, steps=None, cooldown=6, cool_down_file=str(signal_file), checkpoint_every=3,
        log_every=1, validation=0, evaluate_every=None, dropout=0.0,
    )  # fmt: skip

    class Steering(Stopping):
        """Asked between any two steps, however fast they are."""

        def reason(self):
            if (out / "checkpoints" / "step-00000003").exists():
                signal_file.touch()
            return "enough" if (out / "cooldown.json").exists() else None

    with pytest.raises(Stopped, match="stopped by enough"):
        train(config, out, stopping=Steering())
    begun = json.loads((out / "cooldown.json").read_text())
    left_at = CheckpointStore(out / "checkpoints").steps()[-1]
    assert begun["begins"] <= left_at < begun["ends"] == begun["begins"] + 6
    signal_file.unlink()
    told = []
    # What no weight depends on may change on the way.
    results = train(dataclasses.replace(config, checkpoint_every=100), out, told.append)
    assert told[0].done_steps == left_at
    assert results["steps"] == begun["ends"]
    log = pd.read_csv(out / "log.csv")
    t = np.arange(begun["ends"])
    assert list(log["step"]) == list(t + 1)
    rates = 0.01 * np.minimum(1, t / 2) / np.sqrt(1 + np.maximum(0, t - 2) / 10)
    rates *= np.minimum(1, (begun["ends"] - t) / 6)
    np.testing.assert_allclose(log["learning_rate"], rates, rtol=1e-5)


def test_killed_between_its_last_checkpoint_and_its_results_it_keeps_its_evaluations(
    finished, tmp_path
):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "results.json").unlink()
    told = []
    train(CONFIG, out, told.append)
    # None is done again.
    assert "evaluation" not in {progress.doing for progress in told}
    assert_same_end(out, finished[0])


def test_another_run_in_the_folder_is_refused(finished):
    other = dataclasses.replace(CONFIG, batch_size=11, peak=0.02)
    with pytest.raises(RunError, match=r"batch_size was 13, now 11; peak was 0.01, now 0.02"):
        train(other, finished[0])
    assert load_run_config(finished[0]) == CONFIG


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "results.json").unlink()
    damage(out / "checkpoints" / "step-00000017")
    told = []
    with pytest.warns(UserWarning, match=r"step-00000017.*digest.*The checkpoint of step 15 is"):
        train(CONFIG, out, told.append)
    assert told[0].done_steps == 15
    assert_same_end(out, finished[0])
    (out / "results.json").unlink()
    for folder in (out / "checkpoints").glob("step-*"):
        damage(folder)
    with pytest.raises(RunError, match=r"Delete .*checkpoints to train from the start"):
        train(CONFIG, out)


def damage(folder):
    (arrays,) = folder.glob("*.safetensors")
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)


def test_a_folder_is_one_process_own(finished, tmp_path):
    with owning(tmp_path / "run"), pytest.raises(RunError, match=r"Another process works in.*on"):
        train(CONFIG, tmp_path / "run")
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == [".owner"]


@pytest.mark.slow
def test_images_that_others_were_held_out_of_are_refused(finished, tmp_path):
    """One that was added or removed changes the split and the order of all."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "results.json").unlink()
    manifest = out / "checkpoints" / "step-00000017" / "manifest.json"
    content = json.loads(manifest.read_text())
    source, held_out = open_data(CONFIG)
    assert content["extra"]["images"] == digest_of_labels(source, held_out)
    fewer = hold_out(source, 1, seed=0)[0]
    assert digest_of_labels(fewer, held_out) != digest_of_labels(source, held_out)
    model = build_model(CONFIG, source.class_names)
    run = Run(CONFIG, CONFIG.plan(len(source)), out, model, fewer, held_out, None, Stopping())
    with pytest.raises(RunError, match=r"run on other images: since its checkpoint of step 17"):
        run.execute(None)


class Unreadable:
    """Images that are their own labels, of which one cannot be read."""

    def __init__(self):
        images = np.zeros((97, 8, 8, 3), "uint8")
        self.source, self.bad = ArraySource(images, np.arange(97)), None
        self.met = threading.Event()

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        if index == self.bad:
            self.met.set()
            raise OSError("the disk is gone")
        return self.source[index]


@pytest.mark.slow
def test_what_is_read_ahead_does_not_hide_why_training_was_left():
    source, transform = Unreadable(), CONFIG.train_transform()
    batches = iter(train_batches(source, transform, 13, seed=0, stop=5))
    source.bad = [labels for _, labels in batches][4][0]  # batch 4's first
    model = build_model(CONFIG, source.class_names)
    model.compile("sgd", loss_function("softmax", 0.0), jit_compile=False)

    class Leave(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                assert source.met.wait(60)
                raise Stopped("SIGTERM", 2)

    rest = {"batch_size": 13, "seed": 0, "stop": 9}
    with pytest.raises(Stopped):
        train_steps(model, source, transform, callbacks=[Leave()], **rest)
    with pytest.raises(OSError, match="the disk is gone"):
        train_steps(model, source, transform, **rest)


@pytest.mark.slow
def test_an_end_before_the_step_it_stands_at_is_refused(tmp_path):
    out = tmp_path / "run"
    config = dataclasses.replace(CONFIG, steps=None, cool_down_at=6, cooldown=3)
    with pytest.raises(Stopped):
        train(config, out, stopping=StopAt(out, 8))
    with pytest.raises(RunError, match=r"an end at step 7, and .*run holds step 8"):
        train(dataclasses.replace(config, cool_down_at=4), out)


@pytest.mark.slow
def test_nothing_is_written_in_the_folder_once_it_is_let_go(tmp_path, monkeypatch):
    """An error leaves the run while a slow save is under way."""
    whole = CheckpointStore._write_checkpoint

    def slowly(store, *rest):
        time.sleep(1)
        whole(store, *rest)

    def interrupt(progress):
        if progress.doing == "evaluation":
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointStore, "_write_checkpoint", slowly)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path / "run", interrupt)
    assert not any(thread.name == "checkpoint" for thread in threading.enumerate())
    with owning(tmp_path / "run"):
        assert CheckpointStore(tmp_path / "run" / "checkpoints").steps()


BAD = {
    "unknown size": ({"size": "b/16"}, "Did you mean 'B/16'"),
    "half a shape": ({"size": "width=6,depth=1"}, "A shape must give width, depth"),
    "shape twice": ({"size": CONFIG.size + ",width=6"}, "each once"),
    "no multiple": ({"image_size": 10}, "multiple of the patch size"),
    "no end": ({"steps": None}, "A run needs an end"),
    "two ends": ({"cool_down_at": 3}, "where the cooldown ends, or"),
    "endless cosine": (
        {"steps": None, "cool_down_at": 3, "schedule": "cosine"},
        "decays over the whole run",
    ),
    "event without cooldown": ({"cooldown": 0, "deadline": "2030-01-01T00:00Z"}, "be positive"),
    "cooldown of all": ({"cooldown": 1.0}, r"in \[0, 1\)"),
    "time without zone": ({"deadline": "2030-01-01T00:00"}, "with its zone"),
    "no time": ({"deadline": "soon"}, "with its zone"),
    "unknown schedule": ({"schedule": "rsqr"}, "must be one of"),
    "unknown precision": ({"precision": "half"}, "must be one of"),
    "dropout": ({"dropout": 1.0}, "`dropout` must be in"),
    "rate": ({"peak": 0.0}, "`peak` must be positive"),
    "decay": ({"head_decay": -1.0}, "not negative"),
    "seed": ({"seed": -1}, "`seed`"),
    "workers": ({"workers": -1}, "`workers` must be a number of processes"),
    "no skipped update": ({"max_skipped": 0}, "`max_skipped`"),
    "unknown answer": ({"on_spike": "rewnd"}, "must be one of"),
    "validation": ({"validation": 1.5}, "number of images, or a part"),
    "nothing to evaluate": ({"validation": 0}, "give `validation` too"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


LATE = {
    "unknown data": ({"data": "digit"}, "digits"),
    "too much held out": ({"validation": 1797}, "both sides"),
    "unit": ({"steps": "9 epoks"}, "`steps`: The unit"),
    "part of no end": (
        {"steps": None, "cool_down_at": 9, "cooldown": "3 epochs", "warmup": "101%"},
        "`warmup`: ",
    ),
    "longer than the run": ({"warmup": 12}, "must not be longer than the run"),
    "never": ({"checkpoint_every": 0}, "`checkpoint_every` must be positive"),
    "empty window": ({"spike_window": 0}, "`spike_window` must be positive"),
    "past": ({"deadline": "2020-01-01T00:00Z"}, "must lie in the future"),
    "nowhere to start": ({"init": "none.keras"}, "an existing .keras file"),
    "another shape to start": ({"init": "FINISHED", "pooling": "gap"}, "pooling/probe is unknown"),
}


@pytest.mark.parametrize(("changes", "message"), LATE.values(), ids=LATE)
def test_what_does_not_serve_the_run_is_refused_before_anything_is_written(
    changes, message, finished, tmp_path
):
    changes = {k: str(finished[0]) if v == "FINISHED" else v for k, v in changes.items()}
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(CONFIG, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# By hand, for 1,000 images and batches of 10: 100 steps an epoch.
PLANS = {
    "steps": ({"steps": 500}, {"total_steps": 500, "cooldown": 200, "warmup_steps": 2}),
    "epochs": ({"steps": "3 epochs", "cooldown": "1 epoch"}, {"total_steps": 300, "cooldown": 100}),
    "default warm-up": ({"steps": "2000 images", "warmup": None}, {"warmup_steps": 20}),
    "longest default warm-up": ({"steps": 10**6, "warmup": None}, {"warmup_steps": 10_000}),
    "percent": ({"steps": 500, "warmup": "10%", "cooldown": "20%"},
                {"warmup_steps": 50, "cooldown": 100}),
    "begin and part": ({"steps": None, "cool_down_at": 300, "cooldown": 0.25},
                       {"total_steps": 400, "cooldown": 100}),
    "begin and length": ({"steps": None, "cool_down_at": "3 epochs", "cooldown": 50},
                         {"total_steps": 350, "cooldown": 50}),
    "open end": ({"steps": None, "cool_down_file": "now", "cooldown": "30%"},
                 {"total_steps": None, "cooldown": 0.3, "by_event": True}),
    "cosine": ({"steps": 500, "schedule": "cosine", "cooldown": None}, {"cooldown": 0}),
    "rsqrt": ({"steps": 500, "cooldown": None}, {"cooldown": 100}),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), PLANS.values(), ids=PLANS)
def test_durations_become_steps(changes, expected):
    plan = dataclasses.replace(CONFIG, batch_size=10, **changes).plan(images=1000)
    assert {name: getattr(plan, name) for name in expected} == expected


def test_config_survives_yaml(tmp_path):
    from keras_vit_scale.runs.settings import SettingsError, settings_text

    for config in (CONFIG, dataclasses.replace(CONFIG, steps="2.5 epochs", validation=0.125)):
        (tmp_path / "config.yaml").write_text(settings_text(config))
        assert load_run_config(tmp_path) == config
    (tmp_path / "config.yaml").write_text(settings_text(CONFIG) + "sede: 3\nbatch_size: many\n")
    with pytest.raises(SettingsError, match=r"batch_size: Input.*; sede: no such option"):
        load_run_config(tmp_path)


def test_optimizer_is_the_configs():
    config = dataclasses.replace(CONFIG, head_decay=0.5, body_decay=0.25, clip_norm=2.0, average=8)
    plan = config.plan(images=1000)
    for name in ("adafactor", "adamw", "momentum"):
        config = dataclasses.replace(config, optimizer=name)
        optimizer = make_optimizer(config, plan, make_schedule(config, plan))
        found = decays_by_path(optimizer.weight_decay, ["head/kernel", "encoder/out_kernel"])
        assert found == [0.5, 0.25]
        assert (optimizer.global_clipnorm, optimizer.ema_momentum) == (2.0, 1 - 1 / 8)
        assert optimizer.name == name


@pytest.mark.parametrize("classes", [2, 10, 29_593])
def test_a_new_head_gives_every_class_its_share(classes):
    assert 1 / (1 + np.exp(-head_bias("sigmoid", classes))) == pytest.approx(1 / classes)


def bilinear(grid, rows, columns):
    """The textbook's interpolation, corners on corners, one point at a time."""
    result = np.zeros((rows, columns, grid.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            y = i * (grid.shape[0] - 1) / (rows - 1)
            x = j * (grid.shape[1] - 1) / (columns - 1)
            y0, x0 = min(int(y), grid.shape[0] - 2), min(int(x), grid.shape[1] - 2)
            fy, fx = y - y0, x - x0
            result[i, j] = (
                (1 - fy) * (1 - fx) * grid[y0, x0] + (1 - fy) * fx * grid[y0, x0 + 1]
                + fy * (1 - fx) * grid[y0 + 1, x0] + fy * fx * grid[y0 + 1, x0 + 1]
            )  # fmt: skip
    return result


def test_positions_are_resampled_bilinearly(rng):
    grid = rng.normal(size=(3, 5, 7))
    found = resample_positions(grid.reshape(1, 15, 7), (3, 5), (11, 13))
    np.testing.assert_allclose(found[0], bilinear(grid, 11, 13).reshape(-1, 7), atol=1e-12)


@pytest.fixture(scope="module")
def start():
    """A model to start from, no weight of which is zero."""
    model = ViT(TINY, 5, image_size=6)
    randomise(model, np.random.default_rng(3))
    return model, {w.path: as_numpy(w) for w in model.weights}


def test_a_start_takes_all_but_another_head(start):
    """Another image size and other classes: positions resampled, the head new."""
    model, theirs = start
    larger = ViT(TINY, 3, image_size=10)
    start_from(larger, model, keep_head=False)
    for weight in larger.weights:
        value = as_numpy(weight)
        if weight.path.startswith("head/"):
            assert not value.any()
        elif weight.path.startswith("position_embedding/"):
            expected = resample_positions(theirs[weight.path], (3, 3), (5, 5))
            np.testing.assert_allclose(value, expected, rtol=1e-6)
        else:
            np.testing.assert_array_equal(value, theirs[weight.path])


def test_a_start_of_the_same_classes_takes_the_head_too(start):
    model, theirs = start
    same = ViT(TINY, 5, image_size=6)
    start_from(same, model, keep_head=True)
    for weight in same.weights:
        np.testing.assert_array_equal(as_numpy(weight), theirs[weight.path])


def test_a_start_of_another_shape_changes_nothing(start):
    model, before = start
    other = ViT(TINY, 5, image_size=6, pooling="gap")
    with pytest.raises(ValueError, match=r"must have the shape.*pooling/probe is missing"):
        start_from(model, other, keep_head=True)
    for weight in model.weights:
        np.testing.assert_array_equal(as_numpy(weight), before[weight.path])


def test_losses_are_the_textbooks(rng):
    logits = rng.normal(size=(5, 7)).astype("float32")
    labels = np.array([0, 6, 3, 3, 1])
    targets = np.eye(7)[labels] * 0.9 + 0.1 / 7
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = as_numpy(loss_function("softmax", 0.1)(labels[:, None], logits))
    np.testing.assert_allclose(found, -(targets * np.log(chances)).sum(-1), rtol=1e-5)
    shares = rng.dirichlet(np.ones(logits.shape[-1]), len(logits)).astype("float32")
    found = as_numpy(loss_function("softmax", 0.0)(shares, logits))
    np.testing.assert_allclose(found, -(shares * np.log(chances)).sum(-1), rtol=1e-5)
