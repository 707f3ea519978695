"""The recipe, its choice of a rate, its runs, and what they reach on digits that no trunk saw."""

import dataclasses
import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import as_numpy
from safetensors.numpy import load_file

from keras_vit_scale import FineTune, ViT, cli, save_weights_as
from keras_vit_scale.cli.finetune import _edge
from keras_vit_scale.data import EvalTransform, digits, hold_out, hold_out_classes, open_source
from keras_vit_scale.evaluation import load_classifier, save_classifier
from keras_vit_scale.models import Architecture, architecture, preset
from keras_vit_scale.runs import (
    RunError,
    TrainConfig,
    fine_tune,
    load_run_config,
    load_tasks,
    train,
)
from keras_vit_scale.runs.fine_tune_run import best_rate
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.recipe import make_optimizer
from keras_vit_scale.runs.settings import read_settings, settings_text
from keras_vit_scale.runs.start import build_model, open_start
from keras_vit_scale.weights import resample_positions

# Made of runs, whose own tests cover each backend.
pytestmark = pytest.mark.slow

SHAPE = "width=16,depth=2,mlp_dim=32,heads=2,patch_size=2"
B16 = Architecture(preset("B/16"), (14, 14), "map", "learned", "tanh", 1e-6, 21_843)


def write(source, path):
    images = np.stack([source[i][0] for i in range(len(source))])
    np.savez(path, images=images, labels=source.labels, class_names=source.class_names)
    return str(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A trunk of the digits 0 to 4 at 8 pixels, and few images of 5 to 9 to fine-tune on."""
    root = tmp_path_factory.mktemp("world")
    upstream, downstream = hold_out_classes(digits(), list("56789"))
    testing, training = hold_out(downstream, 101, stratified=True)
    up, data, test = (
        write(source, root / f"{name}.npz")
        for name, source in (("up", upstream), ("data", training), ("test", testing))
    )
    config = TrainConfig(
        SHAPE, up, steps=400, image_size=8, batch_size=64, crop="shift", flip=False,
        resize="none", peak=0.016, head_decay=0.3, timescale=100.0,
    )  # fmt: skip
    train(config, root / "trunk")
    return root / "trunk", data, test


#: Small and quick; at 16 pixels, twice the trunk's.
QUICK = FineTune(
    rates=(0.03,), steps=5, warmup=2, image_size=16, batch_size=13, validation=17, crop="shift",
    flip=False, resize="none", checkpoint_every=2, log_every=1,
)  # fmt: skip


# The recipe


def test_the_papers_protocol_is_the_default():
    config = FineTune().run("b16", B16, "photos", 0.03, held_out=True)
    expected = {
        "size": "B/16", "pooling": "map", "init": "b16", "new_head": True, "data": "photos",
        "image_size": 384, "batch_size": 512, "crop": "inception", "flip": True,
        "rand_augment": 0, "mixup": 0.0, "cutmix": 0.0, "resize": "short", "margin": 448 / 384,
        "loss": "softmax", "label_smoothing": 0.0, "optimizer": "momentum", "peak": 0.03,
        "head_decay": 0.0, "body_decay": 0.0, "clip_norm": 1.0, "schedule": "cosine",
        "validation": 0.02, "stratified": True, "images": None, "average": 0,
        "dropout": 0.0, "stochastic_depth": 0.0,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    plan = config.plan(images=1_255_545)
    assert (plan.warmup_steps, plan.total_steps, plan.cooldown) == (500, 20_000, 0)
    # Half of the cosine is done half-way from 500 to 20,000.
    rates = [float(as_numpy(make_schedule(config, plan)(t))) for t in (0, 250, 500, 10_250, 20_000)]
    np.testing.assert_allclose(rates, [0, 0.015, 0.03, 0.015, 0], atol=1e-8)
    whole = FineTune().run("b16", B16, "photos", 0.03, held_out=False)
    assert dataclasses.replace(whole, validation=0.02) == config
    # The published test: short side 448, central crop 384.
    assert config.eval_transform()(np.zeros((896, 999, 3), "uint8")).shape == (384, 384, 3)


def test_vtab_is_one_setting_of_1000_images():
    recipe = FineTune(protocol="vtab")
    assert recipe.rates == (0.01,)
    config = recipe.run("b16", B16, "photos", 0.01, held_out=False)
    assert (config.images, config.steps, config.validation) == (1000, 2500, 0)
    assert (config.crop, config.flip, config.resize) == ("none", False, "none")
    assert FineTune(protocol="vtab", steps=99, rates=[0.1]).steps == 99


def test_g14_has_518_pixels_and_a_flat_rate_with_averages():
    config = FineTune(schedule="constant").run(
        "g", dataclasses.replace(B16, config=preset("G/14")), "photos", 0.01, held_out=False
    )
    plan = config.plan(images=1000)
    assert (config.size, config.image_size, plan.average) == ("G/14", 518, 2000)
    optimizer = make_optimizer(config, plan, make_schedule(config, plan), ema_at_end=False)
    assert optimizer.use_ema
    assert optimizer.ema_momentum == pytest.approx(1 - 1 / 2000)
    assert float(as_numpy(make_schedule(config, plan)(19_999))) == pytest.approx(0.01)


def test_recipe_survives_yaml():
    recipe = FineTune(schedule="constant", average="3 epochs", rates=(0.1, 0.2), validation=7)
    assert read_settings(FineTune, settings_text(recipe), "recipe") == recipe


BAD = {
    "protocol": ({"protocol": "papr"}, "`protocol` must be one of"),
    "no rates": ({"rates": ()}, "`rates` must be one or more"),
    "rate twice": ({"rates": (0.1, 0.1)}, "each once"),
    "rate": ({"rates": (0.1, -1.0)}, r"`rates\[1\]` must be positive"),
    "nothing held out": ({"validation": 0}, "`validation` must be positive"),
    "part": ({"validation": 1.5}, "or a part of the data"),
    "crop": ({"crop": "centre"}, "`crop` must be one of"),
    "margin": ({"margin": 0.5}, "`margin` must be at least 1"),
    "images": ({"images": 0}, "`images` must be a positive integer"),
    "size": ({"image_size": 0}, "`image_size` must be a positive integer"),
    "schedule": ({"schedule": "flat"}, "`schedule` must be one of"),
    "clip": ({"clip_norm": 0.0}, "`clip_norm` must be positive"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        FineTune(**changes)


# For users of `fit`


def test_any_keras_model_is_compiled_with_the_recipe(rng):
    recipe = FineTune(steps="3 epochs", warmup="1 epoch", batch_size=7, schedule="constant")
    with pytest.raises(ValueError, match="number of training images"):
        recipe.optimizer(0.1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    recipe.compile(model, rate=0.5, images=21)
    rates = [float(as_numpy(model.optimizer._learning_rate(t))) for t in (0, 1, 3, 8)]
    np.testing.assert_allclose(rates, [0, 0.5 / 3, 0.5, 0.5], rtol=1e-6)
    x = rng.normal(size=(21, 3)).astype("float32")
    history = model.fit(x, (x[:, 0] > 0).astype(int), batch_size=7, epochs=9, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.history["accuracy"][-1] > 0.8


def test_it_is_the_optimizer_of_the_runs():
    recipe = FineTune(steps=40, warmup=4, schedule="constant", clip_norm=2.0)
    config = recipe.run("", B16, "", 0.01, held_out=False)
    plan = config.plan(images=1000)
    run = make_optimizer(config, plan, make_schedule(config, plan))
    assert recipe.optimizer().get_config() == run.get_config()


# Data and weights


def test_held_out_images_are_a_share_of_each_class_and_train_no_rate(world):
    """By the pixels of the images, of which no two are the same."""
    trunk, _, _ = world
    recipe = dataclasses.replace(QUICK, images=1000, validation=0.02)
    start = architecture(open_start(trunk)[0])
    parts = [
        open_data(recipe.run(str(trunk), start, "digits", rate, held_out=True))
        for rate in (0.1, 0.2)
    ]
    all_of_it, nothing = open_data(recipe.run(str(trunk), start, "digits", 0.1, held_out=False))
    assert nothing is None

    def pixels(source):
        return {source[i][0].tobytes() for i in range(len(source))}

    (training, held_out), (same, alike) = parts
    assert (len(training), len(held_out), len(all_of_it)) == (980, 20, 1000)
    assert not pixels(training) & pixels(held_out)
    assert pixels(training) | pixels(held_out) == pixels(all_of_it)
    assert (pixels(same), pixels(alike)) == (pixels(training), pixels(held_out))
    assert np.bincount(held_out.labels).tolist() == [2] * 10


def test_a_start_has_a_zero_head_and_resampled_positions(world):
    trunk, _, _ = world
    other, _ = open_start(trunk)
    config = QUICK.run(str(trunk), architecture(other), "data", 0.1, held_out=False)
    # Even for the trunk's own classes.
    model = build_model(config, open_start(trunk)[1])
    for weight in model.weights:
        value, path = as_numpy(weight), weight.path
        theirs = next(as_numpy(w) for w in other.weights if w.path == path)
        if path.startswith("head/"):
            assert theirs.any()
            assert not value.any()
        elif path.startswith("position_embedding/"):
            np.testing.assert_allclose(value, resample_positions(theirs, (4, 4), (8, 8)), rtol=1e-6)
        else:
            np.testing.assert_array_equal(value, theirs)


def test_a_start_keeps_its_gelu_and_positions(tmp_path):
    model = ViT("mu/4", 2, image_size=8, pooling="gap", gelu="exact", positions="sincos")
    save_classifier(model, tmp_path / "m.keras", EvalTransform(8), ["a", "b"])
    found = architecture(open_start(tmp_path / "m.keras")[0])
    assert found == architecture(model)
    tuned = dataclasses.replace(found, grid=(4, 4), num_classes=10)
    config = QUICK.run(str(tmp_path / "m.keras"), found, "digits", 0.1, held_out=False)
    assert architecture(build_model(config, digits().class_names)) == tuned
    with pytest.raises(ValueError, match="must be one that `ViT` builds"):
        architecture(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


def test_a_folder_with_a_classifier_alone_is_a_start(world, tmp_path):
    trunk, _, _ = world
    shutil.copy(Path(trunk) if Path(trunk).is_file() else Path(trunk) / "model.keras",
                tmp_path / "model.keras")  # fmt: skip
    (tmp_path / "notes.txt").write_text("beside it")
    assert open_start(tmp_path)[1] == open_start(trunk)[1]


def test_another_projects_weights_are_a_start(world, tmp_path):
    trunk, _, _ = world
    other, _ = open_start(trunk)
    save_weights_as(other, tmp_path / "trunk.npz", format="big_vision")
    starts = []
    for source in (trunk, tmp_path / "trunk.npz"):
        config = QUICK.run(str(source), architecture(other), "data", 0.1, held_out=False)
        starts.append(build_model(config, ("a", "b")).get_weights())
    for ours, theirs in zip(*starts, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Choosing and training


def test_the_best_rate_wins_and_all_images_are_trained_on(world, tmp_path):
    """Of a rate that float32 has as 0, one that learns, and one whose weights overflow."""
    trunk, data, test = world
    recipe = dataclasses.replace(QUICK, rates=(1e-46, 0.1, 1e30))
    told = []
    out = tmp_path / "tuned"
    found = fine_tune(recipe, trunk, data, out, test=test, on_progress=told.append)
    assert found["rate"] == 0.1
    table = pd.read_csv(out / "rates.csv")
    assert list(table["rate"]) == [1e-46, 0.1, 1e30]
    # A head that stays zero says the first class.
    _, held_out = open_data(load_run_config(out / "rates" / "0.1"))
    assert table["accuracy"][0] == pytest.approx((held_out.labels == 0).mean())
    assert table["accuracy"].isna().tolist() == [False, False, True]
    for row in found["rates"][:2]:
        result = json.loads((out / "rates" / f"{row['rate']:g}" / "results.json").read_text())
        assert result["validation"]["accuracy"] == row["accuracy"]
        assert (result["training_images"], result["validation_images"]) == (84, 17)
    assert found["run"]["training_images"] == 101
    assert load_run_config(out).peak == 0.1
    judged = load_classifier(out / "model.keras").evaluate(open_source(test))
    assert found["test"]["accuracy"] == pytest.approx(judged["accuracy"])
    assert any(p.doing.startswith("rate 0.1, ") for p in told)
    assert told[-1].doing.startswith("final run at 0.1, ")
    # Again: nothing is done, nothing differs. Another setting is refused.
    before = (out / "model.keras").stat().st_mtime_ns
    assert (
        fine_tune(dataclasses.replace(recipe, rates=(1e-46, 0.1)), trunk, data, out, test=test)[
            "test"
        ]
        == found["test"]
    )
    assert (out / "model.keras").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="steps was 5, now 13"):
        fine_tune(dataclasses.replace(recipe, steps=13), trunk, data, out)


def test_rates_are_ordered_by_accuracy_then_loss():
    rows = [(0.1, 0.5, 0.2), (0.2, 0.75, 0.9), (0.3, 0.75, 0.8), (0.4, None, None)]
    rows = [dict(zip(("rate", "accuracy", "loss"), row, strict=True)) for row in rows]
    assert best_rate(rows) == 0.3
    with pytest.raises(RunError, match="diverged at every rate"):
        best_rate(rows[3:])


def test_a_best_rate_at_the_edge_of_those_tried_is_told():
    rows = [{"rate": rate} for rate in (0.03, 0.1, 0.01)]
    assert [bool(_edge(rows, rate)) for rate in (0.1, 0.03, 0.01)] == [True, False, True]
    assert not _edge(rows[:2], 0.1)


#: Averages, and the images mixed; what is held out is judged.
AVERAGED = dataclasses.replace(QUICK, schedule="constant", average=3, warmup=1, mixup=0.2)


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A run with averages, its folder, and what its checkpoint after every step held."""
    trunk, data, _ = world
    recipe = dataclasses.replace(AVERAGED, checkpoint_every=1, keep_last=9)
    found = fine_tune(recipe, trunk, data, tmp_path_factory.mktemp("whole"), check=True)
    steps = {
        int(folder.name.removeprefix("step-")): load_file(folder / "arrays-0000-000.safetensors")
        for folder in Path(found["folder"], "checkpoints").glob("step-*")
    }
    return found, Path(found["folder"]), steps


def test_the_kept_model_is_the_average_of_the_weights(whole):
    found, folder, steps = whole
    assert sorted(steps) == [1, 2, 3, 4, 5]
    kept = load_classifier(folder / "model.keras")
    moved = []
    for weight in kept.model.weights:
        name = f"model/{weight.path}"
        expected = steps[1][name]
        for step in (2, 3, 4, 5):
            expected = 2 / 3 * expected + 1 / 3 * steps[step][name]
        np.testing.assert_allclose(as_numpy(weight), expected, rtol=1e-5, atol=1e-6)
        moved.append(np.abs(expected - steps[5][name]).max())
    assert max(moved) > 1e-4
    # What was judged is the average too.
    judged = kept.evaluate(open_data(load_run_config(folder))[1])
    assert found["run"]["validation"]["loss"] == pytest.approx(judged["loss"], rel=1e-6)


KILLED = """
import os, pickle, signal, sys
from keras_vit_scale.runs import fine_tune

def kill(progress):
    if progress.doing.endswith("evaluation"):
        os.kill(os.getpid(), signal.SIGKILL)

with open(sys.argv[1], "rb") as file:
    arguments = pickle.load(file)
fine_tune(*arguments, sys.argv[2], check=True, on_progress=kill)
"""


def test_killed_and_run_again_it_ends_the_same(world, whole, tmp_path):
    """Weights and averages go on from the last checkpoint; how many there were is no matter."""
    arguments, out = (AVERAGED, str(world[0]), world[1]), tmp_path / "killed"
    (tmp_path / "call").write_bytes(pickle.dumps(arguments))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "call"), str(out)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "rates" / "0.03" / "results.json").exists()
    told = []
    found = fine_tune(*arguments, out, check=True, on_progress=told.append)
    assert told[0].done_steps in (4, 5)
    assert {**found, "folder": ""} == {**whole[0], "folder": ""}
    folders = (out / "rates" / "0.03", whole[1])
    models = [load_classifier(folder / "model.keras").model for folder in folders]
    for a, b in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(as_numpy(a), as_numpy(b))


def test_fine_tuning_beats_training_from_scratch(world, tmp_path):
    """101 images of five digits that the trunk never saw, at twice its resolution.

    In trials with three other seeds: 0.64 to 0.70 tuned, 0.21 to 0.37 from scratch.
    """
    trunk, data, test = world
    recipe = dataclasses.replace(QUICK, steps=30, warmup=3, batch_size=23)
    tuned = fine_tune(recipe, trunk, data, tmp_path / "tuned", test=test)["test"]["accuracy"]
    config = recipe.run("", architecture(open_start(trunk)[0]), data, 0.03, held_out=False)
    train(dataclasses.replace(config, init=None, new_head=False), tmp_path / "scratch")
    scratch = load_classifier(tmp_path / "scratch" / "model.keras").evaluate(open_source(test))
    assert tuned > 0.45
    assert tuned > scratch["accuracy"] + 0.1


LATE = {
    "other classes": ({"test": "digits"}, "Test images must have the classes"),
    "too many images": ({"images": 102}, "at most the number of images"),
    "warm-up": ({"warmup": 9}, "needs steps after the warm-up"),
    "no multiple": ({"image_size": 15}, "multiple of the patch size"),
    "no model": ({"model": "none.keras"}, "an existing .keras file"),
    "no data": ({"data": "digit"}, "digits"),
}


@pytest.mark.parametrize(("changes", "message"), LATE.values(), ids=LATE)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    changes, message, world, tmp_path
):
    trunk, data, test = world
    changes = dict(changes)
    arguments = [changes.pop("model", trunk), changes.pop("data", data), tmp_path / "out"]
    test = changes.pop("test", test)
    with pytest.raises(ValueError, match=message):
        fine_tune(dataclasses.replace(QUICK, **changes), *arguments, test=test)
    assert not (tmp_path / "out").exists()


# Several tasks, and the command

TASKS = """
- {name: pets, data: DATA, test: TEST}
- {name: Seven, data: DATA, test: TEST, group: own}
"""
COMMAND = [
    "--steps", "4", "--warmup", "1", "--image-size", "16", "--batch-size", "13",
    "--crop", "shift", "--images", "101", "--validation", "17",
]  # fmt: skip


def test_command_fine_tunes_tasks_and_gives_their_means(world, tmp_path, capsys):
    trunk, data, test = world
    (tmp_path / "tasks.yaml").write_text(TASKS.replace("DATA", data).replace("TEST", test))
    out = tmp_path / "vtab"
    arguments = ["finetune", str(trunk), "--protocol", "vtab", *COMMAND, "--out", str(out)]
    arguments += ["--tasks", str(tmp_path / "tasks.yaml")]
    assert cli.run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = pd.read_csv(out / "tasks.csv")
    assert list(table["group"]) == ["natural", "own"]
    assert found["means"]["all"] == pytest.approx(table["accuracy"].mean())
    assert list(found["means"]) == ["natural", "own", "all"]
    assert (out / "pets" / "model.keras").exists()
    assert cli.run(arguments) == 0
    assert "mean of all tasks" in capsys.readouterr().out


def test_command_only_checks(world, tmp_path, capsys):
    trunk, data, _ = world
    out = tmp_path / "my check"
    arguments = ["finetune", str(trunk), *COMMAND, "--data", data, "--check", "--out", str(out)]
    assert cli.run([*arguments, "--rates", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "Best rate: 0.1\n" in printed
    assert "4 steps on 84 images of 5 classes" in printed
    assert f"predict '{out}/rates/0.1' PHOTO.jpg" in printed
    assert not (out / "model.keras").exists()


MISTAKES = {
    "no data": ([], "Give `data`, perhaps with `test`, or `tasks`"),
    "both": (["--data", "digits", "--tasks", "t.yaml"], "or `tasks` instead"),
    "no tasks": (["--tasks", "t.yaml"], "Tasks must be a YAML file"),
    "misspelt": (["--data", "digits", "--protocol", "vtap"], "vtab"),
    "rates": (["--data", "digits", "--rates", "-1"], "`rates[0]` must be positive"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["finetune", "model.keras", *arguments]) == 2
    line, *more = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not more
    assert not list(tmp_path.iterdir())


BAD_TASKS = {
    "no list": ("name: a", "valid list"),
    "misspelt": ("- {name: a, data: b, tset: c}", "tset: no such option"),
    "name": ("- {name: a/b, data: b, test: c}", "must be of letters"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TASKS.values(), ids=BAD_TASKS)
def test_bad_tasks_are_told(text, message, tmp_path):
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_tasks(tmp_path / "tasks.yaml")
