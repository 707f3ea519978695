"""The command as a user meets it: real processes, exit codes, one-line errors."""

import importlib.metadata
import json
import os
import subprocess
import sys
import venv

import numpy as np
import pytest

import keras_vit_scale_command
from keras_vit_scale import TABLE_2, cli


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "keras_vit_scale_command", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def test_console_script_is_the_starter():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="keras-vit-scale")
    assert {s.value for s in scripts} == {"keras_vit_scale_command:main"}


def test_models_as_a_table_and_as_json():
    done = command("models")
    assert done.returncode == 0, done.stderr
    for name in (*TABLE_2, "So400m/14"):
        assert name in done.stdout
    done = command("models", "--image-size", 384, "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["L/16"]["forward_flops"] / 1e9 == pytest.approx(382.8, rel=0.01)
    assert rows["G/14"]["width"] == 1664


HELP = {
    (): ["models", "train", "branch", "evaluate", "fewshot", "predict", "embed", "study", "law"],
    ("train",): ["SIZE", "--steps DURATION", "{rsqrt,constant,linear,cosine}", "train S/16 --data"],
    ("branch",): [
        "RUN[@STEP|@NAME]",
        "default: the trunk's",
        "{rsqrt,constant,linear,cosine}",
        "branch run@5000 --cooldown 1000 --out cooled",
    ],
    ("evaluate",): ["MODEL", "DATA", "evaluate run/ test_photos/"],
    ("fewshot",): ["--shots", "fewshot run/ pets/ --shots 1 5 10"],
    ("predict",): ["FILES", "--top", "predict run/ cat.jpg"],
    ("embed",): ["--out", ".parquet"],
    ("export",): ["--out", "export run/ --out vit.onnx", "--no-check"],
    ("models",): ["--image-size", "keras-vit-scale models --image-size 384"],
    ("study", "run"): [
        "--held-out-classes",
        "study run digits --out my_study",
        "default: CONFIG's",
    ],
    ("study", "report"): ["--json"],
    ("advise",): ["--budget BUDGET", "advise --error 0.15", "--images IMAGES", "--law STUDY"],
    ("law", "fit"): ["--compute", "--by COLUMN", "law fit runs.csv --compute gpu_hours"],
}


@pytest.mark.parametrize("verb", HELP)
def test_help_teaches(verb, capsys):
    assert cli.run([*verb, "--help"]) == 0
    printed = capsys.readouterr().out
    for text in HELP[verb]:
        assert text in printed


@pytest.fixture
def table(tmp_path):
    compute = np.geomspace(1, 1e4, 9)
    lines = [f"{c},{0.6 * (c + 2) ** -0.4 + 0.1},{g}" for g in "ab" for c in compute]
    (tmp_path / "r.csv").write_text("\n".join(["hours,top1,kind", *lines]))
    return tmp_path / "r.csv"


def test_law_fit_predicts_and_draws(table, tmp_path, capsys):
    options = ["--compute", "hours", "--error", "top1"]
    figure = tmp_path / "law.png"
    assert (
        cli.run(["law", "fit", str(table), *options, "--at", "100", "1e6", "--figure", str(figure)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "E = 0.1 + 0.6 (C + 2)^-0.4" in printed
    assert f"at 100: {0.6 * 102**-0.4 + 0.1:.4f}   (0.1" in printed
    assert f"at 1e+06: {0.6 * (1e6 + 2) ** -0.4 + 0.1:.4f}   (0." in printed
    assert printed.count("(extrapolation)") == 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    options += ["--by", "kind", "--figure", str(figure)]
    assert cli.run(["law", "fit", str(table), *options, "--json"]) == 0
    laws = json.loads(capsys.readouterr().out)
    # Of several groups, a figure each.
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "law.png", "law-kind-a.png", "law-kind-b.png"
    }  # fmt: skip
    assert [law["group"] for law in laws] == ["kind a", "kind b"]
    assert laws[1]["b"] == pytest.approx(0.4, rel=1e-3)


def test_law_fit_takes_the_frontier_or_all_points(tmp_path, capsys):
    """Of two models one has twice the error: the law is the better one's, or between the two."""
    compute = np.geomspace(1, 1e4, 9)
    lines = [f"{c},{s * (0.4 * (c + 2) ** -0.4 + 0.1)}" for s in (1, 2) for c in compute]
    (tmp_path / "r.csv").write_text("\n".join(["flops,error", *lines]))
    floors = []
    for options in ([], ["--all-points"]):
        assert cli.run(["law", "fit", str(tmp_path / "r.csv"), *options, "--json"]) == 0
        (law,) = json.loads(capsys.readouterr().out)
        floors.append((law["points"], law["c"]))
    assert floors == [
        (9, pytest.approx(0.1, rel=1e-3)),
        (18, pytest.approx(0.1 * 2**0.5, rel=1e-3)),
    ]


MISTAKES = {
    "unknown verb": (["modles"], "no command 'modles': did you mean models?"),
    "no verb": ([], "Expected one of {models, estimate, "),
    "misspelt option": (
        ["models", "--imge-size", "4"],
        "did you mean --image-size? (see keras-vit-scale models --help)",
    ),
    "missing options": (["train"], "Missing from keras-vit-scale train: SIZE, --data STR (see"),
    "wrong type": (["study", "run", "--durations", "long"], "--durations"),
    "unknown study": (["study", "run", "nothing"], "one of ['digits']. Received: 'nothing', which"),
    "misspelt study": (["study", "run", "digit"], "Did you mean 'digits'?"),
    "unknown size": (["study", "run", "--sizes", "b/16"], "Did you mean 'B/16'"),
    "contradictory durations": (["study", "run", "--durations", "10"], "must not be longer"),
    "no images a step": (["study", "run", "--batch-size", "0"], "`batch_size` must be a positive"),
    "no pixels": (["study", "run", "--image-size", "0"], "`image_size` must be a positive"),
    "no rate": (["study", "run", "--peak", "0"], "`peak` must be positive"),
    "none held out": (["study", "run", "--held-out", "0"], "so that the probe has images"),
    "no patch": (["models", "--image-size", "3"], "at least one patch"),
    "unknown upstream": (["study", "run", "--upstream", "imagenet"], "must be 'digits'"),
    "too many held out": (["study", "run", "--held-out", "1797"], "leave some on both sides"),
    "no such file": (["law", "fit", "none.csv"], "none.csv"),
    "no such folder": (["study", "report", "none"], "none"),
    "no results": (["law", "fit"], "Name a CSV file or a study's folder"),
    "an axis of words": (
        ["law", "fit", "r.csv", "--compute", "hours", "--error", "top1", "--axes", "kind"],
        "Each kind must be positive to be an axis. Received: 'a'",
    ),
    "missing axis": (
        ["law", "fit", "r.csv", "--compute", "hours", "--error", "top1", "--axes", "days"],
        "columns of --axes. Received: no ['days']",
    ),
    "missing column": (["law", "fit", "r.csv"], "no ['flops', 'error']"),
    "misspelt column": (
        ["law", "fit", "r.csv", "--compute", "Hours", "--error", "top_1"],
        "name yours with --compute, --error (did you mean 'hours', 'top1'?)",
    ),
    "error in words": (["advise", "--error", "low"], "--error: could not convert string to float"),
    "error in percent": (["advise", "--error", "15"], "in percent, it is 0.15"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, table, monkeypatch, capsys):
    monkeypatch.chdir(table.parent)
    assert cli.run(arguments) == 2
    printed = capsys.readouterr()
    line, *more = printed.err.strip().splitlines()
    assert line.startswith("keras-vit-scale: error: ")
    assert message in line
    assert not more
    assert not printed.out


def test_too_few_points_say_so(table, capsys):
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:4]))
    assert cli.run(["law", "fit", str(table), "--compute", "hours", "--error", "top1"]) == 2
    assert "3 points on the frontier of 3: A law with four parameters" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python without any backend, to see what the starter does about it."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


STARTER = """
import sys, types, importlib.machinery
sys.path.insert(0, {folder!r})
import keras_vit_scale_command as starter
for name in {installed!r}:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module
import os
print(starter.choose_backend(), os.environ.get("KERAS_BACKEND"), sep="|")
"""


@pytest.mark.parametrize(
    ("chosen", "configured", "installed", "expected"),
    [
        (None, None, ["jax", "torch"], "jax"),  # Keras' own default is TensorFlow
        (None, "torch", ["jax", "torch"], None),
        (None, "jax", ["torch"], "torch"),
        (None, None, ["tensorflow", "jax"], None),
        ("torch", "tensorflow", ["jax"], "torch"),  # what the user says stands
    ],
)
def test_backend_is_changed_only_if_unset_and_missing(
    chosen, configured, installed, expected, bare_python, tmp_path
):
    if configured:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": configured}))
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path)} | ({"KERAS_BACKEND": chosen} if chosen else {})
    folder = os.path.dirname(keras_vit_scale_command.__file__)
    done = subprocess.run(
        [bare_python, "-c", STARTER.format(folder=folder, installed=installed)],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    note, backend = done.stdout.strip().split("|")
    assert backend == str(expected)
    if chosen is None and expected is not None:
        assert f"is not installed: using {expected}" in note
    else:
        assert note == "None"


def test_without_any_backend_it_says_what_to_install(bare_python, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [bare_python, keras_vit_scale_command.__file__, "models"],
        capture_output=True, text=True, check=False,
        env=environment | {"KERAS_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install jax" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
