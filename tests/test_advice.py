"""Advice against planted truths, the paper's tables, and a study's folder; the command."""

import json
import math
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone

from keras_vit_scale import cli
from keras_vit_scale.cli.entry import VERBS, parser
from keras_vit_scale.scaling import (
    StudyError,
    advise,
    budget_for,
    load_config,
    paper_results,
    parse_budget,
)
from keras_vit_scale.scaling.advice import advice_of
from keras_vit_scale.scaling.basis import PAPER_TASKS, gather
from keras_vit_scale.scaling.config import dump_config
from keras_vit_scale.scaling.planner import Planner

pytestmark = numpy_alone

#: Parameters of the planted sizes; an image takes 2 FLOPs for each and 64 tokens.
PARAMETERS = np.geomspace(1e5, 1e8, 7)
TOKENS = 64


def truth(parameters, images, dataset=np.inf):
    """Chinchilla's form with a floor, and what repeats cost."""
    repeats = np.maximum(images / dataset - 1, 0)
    cost = 5e-6 * parameters**0.5 * repeats**0.8
    return (6.0 * parameters**-0.25 + 60.0 * images**-0.35 + 0.05) * (1 + cost)


def planted(noise=0.0, seed=0, datasets=(np.inf,), sizes=PARAMETERS):
    """A study of the planted law, its noise that of single results."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"size{i}", images, n, 6 * TOKENS * n * images, truth(n, images, u), u)
        for i, n in enumerate(sizes)
        for images in np.geomspace(1e6, 1e9, 7)
        for u in datasets
    ]
    columns = ["size", "images_seen", "parameters", "flops", "error", "images_in_dataset"]
    table = pd.DataFrame(rows, columns=columns)
    table["error"] *= np.exp(noise * rng.standard_normal(len(table)))
    return table if len(datasets) > 1 else table.drop(columns="images_in_dataset")


def best_true(flops, dataset=np.inf):
    """The least true error among the sizes for a budget, by trying durations."""
    least = []
    for n in PARAMETERS:
        most = flops / (6 * TOKENS * n)
        if most >= 1e6:
            least.append(truth(n, np.geomspace(1e6, most, 200), dataset).min())
    return min(least)


@pytest.mark.parametrize("flops", [1e15, 3e16, 1e18, 2e19, 3e20])
def test_advised_run_is_nearly_the_best_there_is(flops):
    """The last two budgets are 1 and 8 times the most compute of the study."""
    advice = advise(flops, planted(noise=0.01), batch_size=10)
    run = advice.best
    n = PARAMETERS[int(run.size.removeprefix("size"))]
    reached = truth(n, run.images_seen)
    assert run.flops <= flops * (1 + 1e-9)
    assert run.images_seen == run.steps * 10
    assert reached < 1.015 * best_true(flops)
    assert run.error == pytest.approx(reached, rel=0.04 if advice.extrapolation > 1 else 0.02)
    assert advice.doubled.error < run.error


def test_intervals_hold_the_truth():
    """7 studies with 2 % noise, at 4 budgets, the last beyond: 90 % intervals of a new run."""
    rng, held = np.random.default_rng(1), []
    for seed in range(7):
        planner = Planner(gather(planted(0.02, seed), None, None, 1), None, 0.9)
        for flops in (1e16, 1e17, 3e18, 2e20):
            run = planner.plans(flops)[0]
            n = PARAMETERS[int(run.size.removeprefix("size"))]
            new = truth(n, run.images_seen) * math.exp(0.02 * rng.standard_normal())
            low, high = run.interval
            held.append(low <= new <= high)
    assert np.mean(held) >= 0.8


def test_a_longer_run_on_few_images_is_not_advised():
    table = planted(0.01, datasets=(1e7, 1e8, 1e9))
    few, many = (advise(1e19, table, images=u, batch_size=10) for u in (1e7, 1e9))
    for advice, dataset in ((few, 1e7), (many, 1e9)):
        n = PARAMETERS[int(advice.best.size.removeprefix("size"))]
        reached = truth(n, advice.best.images_seen, dataset)
        assert reached < 1.03 * best_true(1e19, dataset)
        assert advice.best.error == pytest.approx(reached, rel=0.04)
    assert few.best.flops < 0.9e19
    assert any("is left, for more data" in w for w in few.warnings)
    assert few.repeats_cost > 5 * many.repeats_cost
    # What is enough: there the true cost of repeats is near the noise.
    n = PARAMETERS[int(many.best.size.removeprefix("size"))]
    enough = truth(n, many.best.images_seen, many.enough_images) / truth(n, many.best.images_seen)
    assert 0.002 < enough - 1 < 0.03


def test_the_inverse_inverts():
    table = planted(0.005)
    for error in (0.5, 0.3, 0.18):
        inverse = budget_for(error, table, batch_size=1)
        assert inverse.best.error == pytest.approx(error, rel=0.01)
        again = advise(inverse.budget, table, batch_size=1)
        assert again.best == inverse.best
        low, high = inverse.budget_interval
        assert low < inverse.budget.flops < high
        assert best_true(high) <= error <= best_true(low) * 1.001


def test_never_below_the_floor():
    floor = truth(PARAMETERS[-1], 1e18)
    with pytest.raises(ValueError, match=r"Never: .* frontier's law ends at") as never:
        budget_for(0.06, planted(0.005), batch_size=1)
    told = float(str(never.value).split("get below ")[1].split()[0])
    assert told == pytest.approx(floor, rel=0.1)
    assert told > 0.06


REFUSED = {
    "twice": ({"budget": 1e30}, "times the most compute"),
    "too little": ({"budget": 1e10}, "shortest run of the smallest size"),
    "images": ({"budget": 1e21, "images": 0}, "number of images"),
    "nan images": ({"budget": 1e21, "images": math.nan}, "number of images"),
    "batch": ({"budget": 1e21, "batch_size": 0}, "number of images"),
    "level": ({"budget": 1e21, "level": 1.0}, "between 0 and 1"),
    "task": ({"budget": 1e21, "task": "imagnet"}, "imagenet_10shot"),
    "shots": ({"budget": 1e21, "shots": 10}, "give `task`"),
    "no size": (
        {"budget": 1e21, "results": pd.DataFrame({"error": [0.1]})},
        "must have the columns",
    ),
    "one size": ({"budget": 1e16, "results": planted().query("size == 'size0'")}, "more than one"),
    "few": ({"budget": 1e16, "results": planted().iloc[[0, 1, 7, 8]]}, "at least 6"),
    "an error": ({"budget": 1e16, "results": planted().assign(error=1.5)}, "in (0, 1]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    options, told = REFUSED[case]
    with pytest.raises(ValueError, match="Received: ") as refused:
        advise(**options)
    assert told in str(refused.value)


@pytest.mark.parametrize("error", [0, 1, -0.1, math.nan])
def test_no_error_refused(error):
    with pytest.raises(ValueError, match="between 0 and 1"):
        budget_for(error)


# The paper's tables


def test_hidden_results_of_the_paper_are_foretold():
    """G/14's 0.151 without it, and the advice for its budget: a size as large or larger."""
    printed = paper_results("fewshot")
    table = printed.assign(size=printed["model"], error=printed["imagenet_10shot"])
    advice = advise(5.9e22, table[table["model"] != "G/14"])
    assert advice.extrapolation > 1
    low, high = advice.best.interval
    assert low < 0.151 < high or advice.best.error == pytest.approx(0.151, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("task", PAPER_TASKS)
def test_every_task_is_answered_inside_its_intervals(task):
    """At budgets of the tables, the error printed for the best run is near."""
    printed = paper_results(PAPER_TASKS[task][0])
    planner = Planner(gather(None, task, None, None), None, 0.9)
    for flops in (1e19, 1e20, 1e21):
        advice = advice_of(planner, parse_budget(flops * 1.02))
        near = printed[(printed["flops"] < flops * 1.05) & (printed["flops"] > flops / 1.8)]
        assert advice.best.error < near[task].min() * 1.03
        assert advice.best.interval[0] < advice.best.error < advice.best.interval[1]


def test_extrapolation_is_told():
    planner = Planner(gather(None, None, None, None), None, 0.9)
    inside, beyond, far = (advice_of(planner, parse_budget(c)) for c in (1e21, 2e23, 2e24))
    assert not any("xtrapolation" in w for w in inside.warnings)
    assert any(w.startswith("Extrapolation: 3.4 times") for w in beyond.warnings)
    assert any(w.startswith("Far extrapolation") for w in far.warnings)
    few = advise(1e21, images=14e6)
    assert any("fewer than the smallest data set" in w for w in few.warnings)
    assert few.best.error > inside.best.error


# The command


@pytest.fixture
def study(tmp_path):
    """A folder as `study run` leaves it, with planted results, without the models."""
    config = load_config("digits")
    (tmp_path / "study.yaml").write_text(dump_config(config))
    rng = np.random.default_rng(3)
    for i, size in enumerate(config.sizes):
        for steps in config.durations:
            n, images = 500 * 4**i, steps * config.recipe.batch_size
            folder = tmp_path / "runs" / f"size-{i}" / "seed-0" / f"steps-{steps}"
            folder.mkdir(parents=True)
            error = 2.0 * n**-0.4 + 60.0 * images**-0.6 + 0.02
            probes = [
                {
                    "task": "held-out", "test_images": 400, "shots": shots, "seed": 0,
                    "error": error * (1.3 if shots == 5 else 1) * math.exp(rng.normal(0, 0.02)),
                }
                for shots in (5, 10)
            ]  # fmt: skip
            result = {
                "size": size, "seed": 0, "steps": steps, "images_seen": images, "parameters": n,
                "flops": 96.0 * n * images, "tpuv3_core_days": 1e-12 * n * images,
                "upstream_error": None, "probes": probes,
            }  # fmt: skip
            (folder / "result.json").write_text(json.dumps(result))
    return tmp_path


def parsed(command):
    """What the command's parser makes of a line that advice printed."""
    words = shlex.split(command)
    assert words[0] == "keras-vit-scale"
    return parser(VERBS).cli(prog="keras-vit-scale", args=words[1:])


def test_advice_from_a_study_names_its_next_run(study):
    ten = advise("2e12 FLOPs", study)
    five = advise("2e12 FLOPs", study, shots=5)
    assert ten.batch_size == 64
    assert five.best.error > 1.15 * ten.best.error
    assert (ten.enough_images, ten.repeats_cost) == (None, None)
    assert any("cannot tell" in w for w in advise(2e12, study, images=1200).warnings)
    call = parsed(ten.command)
    assert call.keywords["sizes"] == (ten.best.size,)
    assert call.keywords["durations"] == (ten.best.steps,)
    config = load_config(call.args[0])
    assert config.shape(ten.best.size) == load_config("digits").shape(ten.best.size)
    for options, told in (({"shots": 3}, "[5, 10]"), ({"task": "digits"}, "held-out")):
        with pytest.raises(ValueError, match="must be one of the study's") as refused:
            advise(2e12, study, **options)
        assert told in str(refused.value)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError):
        advise(1e12, tmp_path)
    (tmp_path / "study.yaml").write_text(dump_config(load_config("digits")))
    with pytest.raises(StudyError, match="no finished result"):
        advise(1e12, tmp_path)


def test_command_answers_in_words_and_in_json(capsys):
    assert cli.run(["advise", "--budget", "8 H100 days", "--images", "14M"]) == 0
    printed = capsys.readouterr().out
    for told in ("40% of its peak", "14 M images", "Twice the budget", "advised", "Next:"):
        assert told in printed
    advice = advise("8 H100 days", images=14e6)
    assert f"Train {advice.best.size} for {advice.best.steps:,} steps" in printed
    train = parsed(printed.splitlines()[-1].strip()).keywords["config"]
    assert (train.size, train.steps) == (advice.best.size, advice.best.steps)
    assert train.batch_size == 4096


@pytest.mark.slow
def test_command_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "keras_vit_scale_command", "advise", "--error", "0.2", "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    stored = json.loads(done.stdout)
    assert stored["best"]["error"] == pytest.approx(0.2, rel=0.01)
    low, high = stored["budget_interval"]
    assert low < stored["budget"]["flops"] < high


MISTAKES = {
    (): "Give --budget or --error",
    ("--budget", "1e21 FLOPs", "--error", "0.2"): "Received: both",
    ("--budget", "1e21"): "needs a unit",
    ("--budget", "1e21 FLOPs", "--images", "many"): "14M",
    ("--error", "0.2", "--mfu", "0.5"): "give it with --budget",
    ("--error", "0.001"): "Never",
    ("--budget", "1e21 FLOPs", "--law", "nowhere"): "study.yaml",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_told_in_a_line(arguments, capsys):
    assert cli.run(["advise", *arguments]) == 2
    told = capsys.readouterr().err
    assert MISTAKES[arguments] in told
    assert told.count("\n") == 1
