"""Searches with KerasTuner: spaces, trials as runs, processes that die, tables and pictures."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import as_numpy

from keras_vit_scale.cli.entry import run as run_command
from keras_vit_scale.data import Subset
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.models import preset
from keras_vit_scale.planning import forward_flops, parameters
from keras_vit_scale.runs import TrainConfig, train
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.training import TensorBoardLog
from keras_vit_scale.tuning import (
    Budget,
    Probe,
    RecipeHyperModel,
    RunHyperModel,
    RunTuner,
    SearchError,
    ViTHyperModel,
    draw_search,
    importance,
    largest_shape,
    search_results,
)
from keras_vit_scale.tuning.trial import Rung, climb

keras_tuner = pytest.importorskip("keras_tuner", reason="needs KerasTuner, the extra `tuner`")

RUN = TrainConfig(
    "width=6,depth=1,mlp_dim=7,heads=2,patch_size=4", "digits", steps=5, image_size=8,
    batch_size=13, crop="none", flip=False, resize="none", validation=397, warmup=2,
    timescale=7.0, cooldown=0.4, checkpoint_every=2,
)  # fmt: skip


def random_search(**options):
    return keras_tuner.oracles.RandomSearchOracle(seed=3, **options)


@pytest.fixture
def search(tmp_path):
    """Makes a tuner in the test's own folder."""

    def make(oracle, space, **options):
        return RunTuner(oracle, space, directory=tmp_path, project_name="search", **options)

    make.folder = tmp_path / "search"
    return make


# Shapes under a budget


@pytest.mark.parametrize("name", ["Ti/16", "S/16", "B/32", "B/16", "L/16", "g/14", "G/14"])
@pytest.mark.parametrize(("unit", "count"), [("flops", forward_flops), ("parameters", parameters)])
def test_a_shape_of_the_paper_is_found_from_what_it_costs(name, unit, count):
    shape = preset(name)
    budget = Budget(**{unit: count(shape, 224, pooling="gap")})
    found = largest_shape(
        budget, 224, patch_size=shape.patch_size, aspect=shape.width / shape.depth,
        mlp_ratio=shape.mlp_dim / shape.width, head_dim=shape.head_dim, pooling="gap",
    )  # fmt: skip
    assert found == shape


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
@pytest.mark.parametrize("aspect", [0.5, 3.0, 40.0, 1e4])
@pytest.mark.parametrize("budget", [Budget(flops=3e6), Budget(parameters=50_000)], ids=str)
def test_shapes_hold_to_the_budget_and_use_it_up(budget, aspect, pooling):
    options = {"pooling": pooling, "num_classes": 10}
    found = largest_shape(budget, 24, patch_size=3, aspect=aspect, head_dim=5, **options)
    assert budget.holds(found, 24, **options)
    wider = dataclasses.replace(
        found, width=found.width + 5, heads=found.heads + 1, mlp_dim=4 * (found.width + 5)
    )
    deeper = dataclasses.replace(found, depth=found.depth + 1)
    assert not budget.holds(wider, 24, **options)
    assert not budget.holds(deeper, 24, **options)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "give one of them. Received: flops=None"),
        ({"flops": 1, "parameters": 1}, "give one of them"),
        ({"flops": 0}, "`flops` must be positive. Received: flops=0"),
        ({"parameters": -3}, "`parameters` must be positive"),
        ({"flops": float("nan")}, "`flops` must be positive"),
    ],
)
def test_bad_budgets_are_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        Budget(**arguments)


# Spaces


@pytest.mark.parametrize(
    ("space", "arguments", "told"),
    [
        (RecipeHyperModel, {}, "needs something to choose"),
        (RecipeHyperModel, {"peak": []}, "must have some"),
        (RecipeHyperModel, {"peak": [1e-3, 1e-3]}, "each once"),
        (RecipeHyperModel, {"peak": (0, 1e-2)}, "0 < low < high"),
        (RecipeHyperModel, {"peak": (1e-2, 1e-3)}, "0 < low < high"),
        (RecipeHyperModel, {"peak": 1e-3}, "list of choices"),
        (RecipeHyperModel, {"peak": [0.0, 1e-3]}, "`peak` must be positive. Received: peak=0.0"),
        (RecipeHyperModel, {"head_decay": [-1.0, 1.0]}, "must not be negative"),
        (RecipeHyperModel, {"cooldown": (0.1, 1.5)}, "parts of the run, below 1"),
        (RecipeHyperModel, {"warmup": (0.1, 2)}, "parts of the run, below 1"),
        (RecipeHyperModel, {"batch_size": (8, 64)}, "list of whole numbers"),
        (RecipeHyperModel, {"batch_size": [8, 64]}, "in images or epochs"),
        (ViTHyperModel, {}, "give one of them"),
        (ViTHyperModel, {"flops": 1000}, "must hold the smallest model"),
        (ViTHyperModel, {"parameters": 10}, "Received: a budget of 10 parameters, the model costs"),
        (ViTHyperModel, {"parameters": 1e6, "patch_size": [3]}, "multiple of the patch size"),
        (ViTHyperModel, {"parameters": 1e6, "patch_size": []}, "must have some"),
        (ViTHyperModel, {"parameters": 1e6, "patch_size": [0, 4]}, "must be a positive integer"),
        (ViTHyperModel, {"parameters": 1e6, "head_dim": [-8]}, "must not be negative"),
        (ViTHyperModel, {"parameters": 1e6, "head_dim": [0]}, "must be a positive integer"),
        (ViTHyperModel, {"parameters": 1e6, "pooling": ["tokn"]}, "must be one of"),
        (ViTHyperModel, {"parameters": 1e6, "aspect": [16.0]}, "needs something to choose"),
        (ViTHyperModel, {"parameters": 1e6, "aspect": (8, -1)}, "0 < low < high"),
    ],
)
def test_bad_spaces_are_refused(space, arguments, told):
    with pytest.raises(ValueError, match=told):
        space(RUN, **arguments)


def test_a_search_needs_something_to_judge_by():
    with pytest.raises(ValueError, match="needs images to judge by"):
        RecipeHyperModel(dataclasses.replace(RUN, validation=0), peak=[1e-3, 1e-2])
    with pytest.raises(ValueError, match="must end alike"):
        RecipeHyperModel(dataclasses.replace(RUN, cool_down_file="now"), peak=[1e-3, 1e-2])
    with pytest.raises(ValueError, match="must be a TrainConfig"):
        RecipeHyperModel("S/16", peak=[1e-3, 1e-2])


def test_two_spaces_are_searched_at_once():
    long = dataclasses.replace(RUN, steps="1 epochs")
    shape = ViTHyperModel(
        long, Probe(shots=2), parameters=9_000, aspect=(2.0, 30.0), head_dim=[3, 5],
        patch_size=[2, 4], pooling=["map", "gap"],
    )  # fmt: skip
    space = RecipeHyperModel(shape, peak=(1e-3, 1e-1), warmup=(0.02, 0.2), batch_size=[10, 30])
    assert space.objective.name == "fewshot_accuracy"
    seen = set()
    for i in range(20):
        hp = keras_tuner.HyperParameters()
        space.config(hp)
        for j, parameter in enumerate(hp.space):
            hp.values[parameter.name] = parameter.random_sample(11 * i + j)
        config = space.config(hp)
        made = config.shape()
        assert parameters(made, 8, pooling=config.pooling, num_classes=10) <= 9_000
        assert 1e-3 <= config.peak <= 1e-1
        # Each batch size sees the images once.
        assert config.plan(1400).total_steps == round(1400 / config.batch_size)
        assert 0.02 <= float(config.warmup.removesuffix("%")) / 100 <= 0.2
        seen.add((made.patch_size, config.pooling, made.head_dim, config.batch_size))
    assert len(seen) > 8


def test_the_probe_takes_images_that_no_run_trains_on():
    probe = Probe(shots=3, seeds=(0,)).opened(RUN)
    source = open_data(RUN)[0]
    training = {source[i][0].tobytes() for i in range(len(source))}
    assert isinstance(probe.test, Subset)
    assert not training & {probe.test[i][0].tobytes() for i in range(len(probe.test))}
    with pytest.raises(ValueError, match="must not be those of the training"):
        Probe("digits").opened(RUN)
    with pytest.raises(ValueError, match="give one of them"):
        Probe().opened(dataclasses.replace(RUN, validation=0))


# KerasTuner's tuners and oracles

SPACE = {"peak": [1e-3, 1e-2], "head_decay": [0.0, 3.0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tuner", "options"),
    [
        ("RandomSearch", {"max_trials": 2}),
        ("BayesianOptimization", {"max_trials": 4}),
        ("GridSearch", {}),
        ("Hyperband", {"max_epochs": 2, "factor": 2}),
    ],
)
def test_tuners_of_kerastuner_train_a_space(tuner, options, tmp_path):
    run = dataclasses.replace(RUN, batch_size=350, warmup=1)
    space = RecipeHyperModel(run, Probe(shots=5, seeds=(0,)), **SPACE)
    tuner = getattr(keras_tuner, tuner)(
        space, objective="val_loss", directory=tmp_path, project_name="search", **options
    )
    tuner.search(verbose=0)
    table = search_results(tmp_path / "search")
    assert set(table["status"]) == {"COMPLETED"}
    assert table["fewshot_accuracy"].between(0, 1).all() if "fewshot_accuracy" in table else True
    best = tuner.get_best_models()[0]
    assert best.input_shape == (None, 8, 8, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("oracle", "options", "peaks", "trials"),
    [
        ("RandomSearchOracle", {"max_trials": 3}, (1e-3, 1e-2), 3),
        (
            "BayesianOptimizationOracle",
            {"max_trials": 4, "num_initial_points": 2},
            (1e-3, 1e-2),
            4,
        ),
        ("GridSearchOracle", {}, [1e-3, 1e-2], 4),
    ],
)
def test_every_oracle_searches_over_runs(oracle, options, peaks, trials, search):
    space = RecipeHyperModel(RUN, peak=peaks, head_decay=[0.0, 3.0])
    oracle = getattr(keras_tuner.oracles, oracle)(objective=space.objective, **options)
    tuner = search(oracle, space, processes=False)
    tuner.search(verbose=0)
    table = search_results(search.folder)
    assert table["status"].tolist() == ["COMPLETED"] * trials
    assert len(table.drop_duplicates(list(SPACE))) == trials
    for _, row in table.iterrows():
        run = json.loads((search.folder / f"trial_{row['trial']}/run/results.json").read_text())
        assert row["score"] == run["validation"]["loss"]
    best = table.sort_values("score").iloc[0]
    found = tuner.get_best_hyperparameters()[0].values
    assert {name: found[name] for name in SPACE} == best[list(SPACE)].to_dict()
    saved = search.folder / f"trial_{best['trial']}/run/model.keras"
    for ours, theirs in zip(
        tuner.get_best_models()[0].weights, load_classifier(saved).model.weights, strict=True
    ):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs))


def test_data_belong_to_the_run():
    space = RecipeHyperModel(RUN, **SPACE)
    with pytest.raises(keras_tuner.errors.FatalError, match="`search` takes callbacks alone"):
        space.fit(keras_tuner.HyperParameters(), None, np.zeros(3), callbacks=[])
    with pytest.raises(ValueError, match="must be a space of runs"):
        RunTuner(random_search(), lambda hp: None)


# Successive halving


@pytest.mark.slow
def test_a_rung_is_the_run_of_its_length(tmp_path):
    """A trunk that was cooled down at 5 steps and trained on is cooled down at 10 as if never."""
    short, long = (dataclasses.replace(RUN, steps=steps) for steps in (5, 10))
    (tmp_path / "a").mkdir()
    first = climb(short, tmp_path / "a", Rung(None))
    second = climb(long, tmp_path / "b", Rung(str(tmp_path / "a")))
    assert (first["steps"], second["steps"]) == (5, 10)
    # The longer trunk began where the shorter one's cooldown did, 3 steps in.
    assert json.loads((tmp_path / "b/trunk/branch.json").read_text())["step"] == 3
    train(long, tmp_path / "whole")
    models = [load_classifier(tmp_path / f / "model.keras").model for f in ("b/run", "whole")]
    for ours, theirs in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs))


@pytest.mark.slow
def test_hyperband_climbs_from_trunk_to_trunk(search):
    run = dataclasses.replace(RUN, batch_size=350)
    space = RecipeHyperModel(run, peak=(1e-3, 1e-1))
    oracle = keras_tuner.oracles.HyperbandOracle(space.objective, max_epochs=3, factor=3, seed=1)
    search(oracle, space, processes=False).search(verbose=0)
    table = search_results(search.folder)
    assert set(table["status"]) == {"COMPLETED"}
    # 4 steps an epoch.
    assert (table["steps"] == 4 * table["tuner/epochs"]).all()
    promoted = table[table["tuner/trial_id"].notna()]
    assert len(promoted)
    for _, row in promoted.iterrows():
        origin = json.loads((search.folder / f"trial_{row['trial']}/trunk/branch.json").read_text())
        assert f"trial_{row['tuner/trial_id']}" in origin["trunk"]


@pytest.mark.parametrize("change", [{"schedule": "linear", "cooldown": None}, {"cooldown": 0}])
def test_halving_needs_a_trunk(change, search):
    space = RecipeHyperModel(dataclasses.replace(RUN, **change), peak=[1e-3, 1e-2])
    with pytest.raises(ValueError, match="Successive halving cools trunks down"):
        search(keras_tuner.oracles.HyperbandOracle(space.objective, max_epochs=3), space)


# Processes


class Dies(keras.callbacks.Callback):
    """Ends its process in the trial whose peak is the largest, as the kernel would."""

    def on_train_begin(self, logs=None):
        if float(self.model.optimizer.learning_rate) > 0.05:
            os.kill(os.getpid(), signal.SIGKILL)


class Sizes(RunHyperModel):
    """A space of one's own, of which one model is larger than any memory."""

    def config(self, hp):
        huge = "width=9999999,depth=9,mlp_dim=9999999,heads=1,patch_size=4"
        return dataclasses.replace(super().config(hp), size=hp.Choice("size", [RUN.size, huge]))

    def searched(self):
        return {"size": "two"}


@pytest.mark.slow
def test_a_killed_trial_is_recorded_and_the_search_goes_on(search):
    run = dataclasses.replace(RUN, warmup=0)
    space = RecipeHyperModel(run, peak=[0.1, 0.01, 0.001])
    oracle = keras_tuner.oracles.GridSearchOracle(space.objective)
    search(oracle, space).search(callbacks=[Dies()], verbose=0)
    table = search_results(search.folder).set_index("peak")
    assert table["status"].to_dict() == {0.1: "FAILED", 0.01: "COMPLETED", 0.001: "COMPLETED"}
    assert "killed by signal 9, as the kernel does where memory is short" in table["error"][0.1]
    pids = [json.loads(path.read_text())["process"] for path in search.folder.glob("*/result.json")]
    assert len({*pids, os.getpid()}) == 3


@pytest.mark.slow
def test_a_model_larger_than_memory_fails_alone(search):
    space = Sizes(RUN)
    oracle = keras_tuner.oracles.GridSearchOracle(space.objective)
    search(oracle, space).search(verbose=0)
    table = search_results(search.folder)
    assert sorted(table["status"]) == ["COMPLETED", "FAILED"]
    assert table.loc[table["status"] == "FAILED", "error"].item()


SCRIPT = """
import sys
import keras_tuner
from test_tuning import *

folder, peaks, options = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
run = dataclasses.replace(RUN, **options)
space = RecipeHyperModel(run, peak=peaks)
oracle = keras_tuner.oracles.GridSearchOracle(space.objective)
RunTuner(oracle, space, directory=folder, project_name="search").search(verbose=0)
if keras.backend.backend() == "jax":
    from jax._src import xla_bridge
    print("devices held:", xla_bridge.backends_are_initialized())
"""


def start(folder, peaks, options=None, **environment):
    """A search in a process of its own."""
    paths = [Path(__file__).parent, Path(__file__).parent.parent, os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder, repr(peaks), repr(options or {})],
        env={
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(folder, pattern, process):
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_ends_the_same(tmp_path):
    peaks, options = [0.01, 0.02], {"steps": 400, "checkpoint_every": 20}
    killed = start(tmp_path / "a", peaks, options)
    run = tmp_path / "a/search/trial_0000/run"
    wait_for(run, "checkpoints/step-*/manifest.json", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # What the process of the trial saves when its search has died is gone on with.
    assert not (run / "results.json").exists()
    again = start(tmp_path / "a", peaks, options)
    assert again.wait() == 0, again.stdout.read()
    whole = start(tmp_path / "b", peaks, options)
    assert whole.wait() == 0, whole.stdout.read()
    tables = [search_results(tmp_path / name / "search") for name in "ab"]
    pd.testing.assert_frame_equal(*tables)
    if keras.backend.backend() == "jax":
        assert "devices held: False" in whole.stdout.read()


@pytest.mark.slow
def test_a_chief_and_two_workers_share_a_search(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    peaks = [0.01, 0.02, 0.03]
    together = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
    processes = [
        start(tmp_path, peaks, **together, KERASTUNER_TUNER_ID=name)
        for name in ("chief", "worker-0", "worker-1")
    ]
    for process in processes:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    table = search_results(tmp_path / "search")
    assert sorted(table["peak"]) == peaks
    assert set(table["status"]) == {"COMPLETED"}
    pids = [
        json.loads(path.read_text())["process"] for path in tmp_path.glob("search/*/result.json")
    ]
    assert len(set(pids)) == len(peaks)


# One folder, one search


def test_a_folder_holds_one_search(search):
    space = RecipeHyperModel(RUN, **SPACE)
    tuner = search(random_search(objective=space.objective, max_trials=1), space, processes=False)
    tuner.run_trial = lambda trial, **_: {"val_loss": 1.0}
    tuner.search(verbose=0)

    def refused(oracle, space):
        with pytest.raises(SearchError, match="holds another search") as error:
            search(oracle, space)
        return str(error.value)

    others = RecipeHyperModel(RUN, peak=[1e-3, 1e-1])
    assert "RecipeHyperModel was" in refused(random_search(objective=space.objective), others)
    longer = RecipeHyperModel(dataclasses.replace(RUN, steps=6), **SPACE)
    assert "steps was 5, now 6" in refused(random_search(objective=space.objective), longer)
    grid = keras_tuner.oracles.GridSearchOracle(space.objective)
    assert "oracle was 'RandomSearchOracle', now 'GridSearchOracle'" in refused(grid, space)
    # How often a run is saved decides nothing.
    often = RecipeHyperModel(dataclasses.replace(RUN, checkpoint_every=1), **SPACE)
    again = search(random_search(objective=space.objective, max_trials=1), often)
    assert len(again.oracle.trials) == 1
    again = search(random_search(objective=space.objective), others, overwrite=True)
    assert len(again.oracle.trials) == 0


def test_two_processes_do_not_search_one_folder_alone(search):
    space = RecipeHyperModel(RUN, **SPACE)
    tuners = [
        search(random_search(objective=space.objective, max_trials=1), space, processes=False)
        for _ in range(2)
    ]

    def meanwhile(trial, **_):
        with pytest.raises(SearchError, match=r"Another process works in .* chief and workers"):
            tuners[1].search(verbose=0)
        return {"val_loss": 1.0}

    tuners[0].run_trial = meanwhile
    tuners[0].search(verbose=0)
    assert search_results(search.folder)["status"].tolist() == ["COMPLETED"]


@pytest.mark.parametrize("cut", [1, 2, 4, 7])
@pytest.mark.parametrize(
    ("oracle", "options"),
    [
        ("GridSearchOracle", {}),
        ("RandomSearchOracle", {"max_trials": 6}),
        ("HyperbandOracle", {"max_epochs": 3, "factor": 3}),
    ],
)
def test_a_search_that_is_cut_off_anywhere_tries_the_same(oracle, options, cut, search):
    """Killed as its n-th file is written, and once more, it tries what it would have tried."""
    space = RecipeHyperModel(RUN, peak=[1e-3, 1e-2], head_decay=[0.0, 0.3, 3.0])

    class Killed(BaseException):
        pass

    def tried(kills):
        made = getattr(keras_tuner.oracles, oracle)(space.objective, seed=5, **options)
        tuner = search(made, space)
        tuner.run_trial = lambda trial, **_: {"val_loss": trial.hyperparameters.values["peak"]}
        left = [cut if kills else -1]

        def counted(write):
            def writing(*arguments):
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                write(*arguments)

            return writing

        made.save, made._save_trial = counted(made.save), counted(made._save_trial)
        tuner.search(verbose=0)
        table = search_results(search.folder)
        assert set(table["status"]) == {"COMPLETED"}
        return table[["peak", "head_decay"]].drop_duplicates().sort_values(["peak", "head_decay"])

    for _ in range(2):
        with pytest.raises(Killed):
            tried(kills=True)
    found = tried(kills=False)
    shutil.rmtree(search.folder)
    whole = tried(kills=False)
    # Of Hyperband it depends on the time that a random trial is drawn what it is.
    if oracle != "HyperbandOracle":
        np.testing.assert_array_equal(found, whole)


def test_failures_in_a_row_end_a_search_that_then_goes_on(search):
    space = RecipeHyperModel(RUN, peak=(1e-3, 1e-1))

    def tuner(run_trial):
        made = search(random_search(objective=space.objective, max_trials=4), space)
        made.run_trial = run_trial
        return made

    def fails(trial, **_):
        raise keras_tuner.errors.FailedTrialError("no images")

    with pytest.raises(SearchError, match=r"3 trials in a row failed, the last by: .*no images"):
        tuner(fails).search(verbose=0)
    tuner(lambda trial, **_: {"val_loss": 1.0}).search(verbose=0)
    # The third is done again, the fourth for the first time.
    assert search_results(search.folder)["status"].tolist() == ["FAILED"] * 2 + ["COMPLETED"] * 2


def test_another_kind_of_search_is_not_taken_over(search):
    search.folder.mkdir()
    (search.folder / "oracle.json").write_text("{}")
    space = RecipeHyperModel(RUN, **SPACE)
    with pytest.raises(SearchError, match="a search of another kind"):
        search(random_search(objective=space.objective), space)


# The command

COMMAND = [
    "tune", RUN.size, "--data", "digits", "--steps", "5", "--image-size", "8", "--batch-size", "13",
    "--crop", "none", "--no-flip", "--resize", "none", "--validation", "397",
]  # fmt: skip


@pytest.mark.slow
def test_the_command_searches_and_reports(tmp_path, capsys):
    out = tmp_path / "search"
    options = ["--search", "random", "--trials", "2", "--peaks", "1e-3", "1e-1", "--out", str(out)]
    assert run_command([*COMMAND, *options]) == 0
    said = capsys.readouterr().out
    assert f"Best: {out}/trial_" in said
    assert f"Written: {out}/results.csv, search.png" in said
    assert len(pd.read_csv(out / "results.csv")) == 2
    # All of it is done already.
    assert run_command([*COMMAND, *options, "--json"]) == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [trial["status"] for trial in trials] == ["COMPLETED"] * 2


def test_the_command_tells_mistakes_in_a_line(tmp_path, capsys):
    for options, told in (
        ([], "needs something to choose"),
        (["--flops", "10"], "must hold the smallest model"),
        (["--poolings", "map", "gap"], "give --flops or --parameters"),
    ):
        assert run_command([*COMMAND, *options, "--out", str(tmp_path / "s")]) == 2
        assert told in capsys.readouterr().err


# Logs, tables, pictures


@pytest.mark.slow
def test_every_trial_has_a_log_of_its_own(search, tmp_path):
    space = RecipeHyperModel(RUN, **SPACE)
    callbacks = [TensorBoardLog(tmp_path / "logs", every=1)]
    if keras.backend.backend() == "tensorflow":
        callbacks.append(keras.callbacks.TensorBoard(str(tmp_path / "keras")))
    oracle = random_search(objective=space.objective, max_trials=2)
    search(oracle, space, processes=False).search(callbacks=callbacks, verbose=0)
    for folder in {"logs": tmp_path / "logs", "keras": tmp_path / "keras"}.values():
        if folder.exists():
            assert [path.name for path in sorted(folder.iterdir())] == ["0", "1"]
            assert all(list(path.rglob("events.out.tfevents.*")) for path in folder.iterdir())


def test_importance_is_found_where_it_is():
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "peak": 10 ** rng.uniform(-4, -1, 60),
            "decay": rng.choice([0.0, 0.3, 3.0], 60),
            "pooling": rng.choice(["map", "gap"], 60),
            "status": "COMPLETED",
        }
    )
    table["score"] = (np.log10(table["peak"]) + 2) ** 2 + (table["pooling"] == "map")
    parts = importance(table, ["decay", "peak", "pooling"])
    assert parts.index.tolist() == ["peak", "pooling", "decay"]
    assert parts.sum() == pytest.approx(1)
    assert parts["decay"] < 0.05 < 0.1 < parts["pooling"]
    with pytest.raises(ValueError, match=r"at least 8 completed trials\. Received: 7"):
        importance(table[:7], ["peak"])


def test_a_search_is_drawn(search, tmp_path):
    space = RecipeHyperModel(RUN, peak=(1e-3, 1e-1), head_decay=[0.0, 3.0])
    tuner = search(random_search(objective=space.objective, max_trials=9), space, processes=False)

    def score(trial, **_):
        if trial.trial_id == "4":
            raise keras_tuner.errors.FailedTrialError("no reason")
        return {"val_loss": trial.hyperparameters.values["peak"]}

    tuner.run_trial = score
    with pytest.raises(ValueError, match="must hold trials"):
        draw_search(search.folder)
    tuner.search(verbose=0)
    figure = draw_search(search.folder)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == [
        "peak", "head_decay", "val_loss"
    ]  # fmt: skip
    assert left.get_title() == "8 of 9 trials completed; thick: the best"
    assert len(right.patches) == 2
    assert search_results(search.folder)["error"].notna().sum() == 1
    shutil.rmtree(search.folder)


@pytest.mark.slow
def test_without_kerastuner_it_is_told_how_to_get_it():
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['keras_tuner'] = None\n"
            "from keras_vit_scale import tuning\n"
            "from keras_vit_scale.runs import TrainConfig\n"
            "print(tuning.largest_shape(tuning.Budget(flops=1e9), 224, patch_size=16, aspect=20))\n"
            "run = TrainConfig('mu/4', 'digits', steps=9, image_size=8, validation=9)\n"
            "for make in (lambda: tuning.RecipeHyperModel(run, peak=[1e-3, 1e-2]),\n"
            "             lambda: tuning.RunTuner(None, None)):\n"
            "    try: make()\n"
            "    except ImportError as error: print(error)\n",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
    ).stdout
    assert said.count("pip install 'keras-vit-scale[tuner]'") == 2
