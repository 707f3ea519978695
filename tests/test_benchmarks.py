"""The benchmarks run, in miniature; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_vit_scale.planning.topologies import find_libtpu

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

MINIATURES = {
    "first_step.py": (
        ["--width", "12", "--depth", "2", "--image-size", "16", "--steps", "1", "--rounds", "1"],
        "later step: unrolled / scanned",
    ),
    "compile_time.py": (
        [
            *("--presets", "mu/16", "--image-size", "32", "--classes", "3", "--batch", "2"),
            "--only-lower",
        ],
        "| mu/16 | unrolled |",
    ),
    "collectives.py": (
        ["--presets", "mu/16", "--topologies", "v5e:2x2", "--classes", "8", "--batch", "2"],
        "| mu/16 | v5e:2x2 | fully sharded x 2, 2 shards |",
    ),
    "estimates.py": (
        ["--presets", "mu/16", "--batches", "2", "--only-presets"],
        "| mu/16 | 2 | auto |",
    ),
    "step_memory.py": (
        ["--only-largest", "--largest", "mu/16", "--limit", "3e7", "--classes", "4"],
        "| mu/16 | full |",
    ),
    "fewshot.py": (
        ["--classes", "7", "--shots", "3", "--features", "13", "--tests", "29", "--rounds", "1"],
        "The same class for 100.00%",
    ),
    "advice.py": (["--tasks", "imagenet", "--budgets", "5"], "| imagenet | above half | surface |"),
    "load_weights.py": (
        ["--preset", "mu/8", "--image-size", "16", "--rounds", "1", "--forms", "npz"],
        "| npz | ours |",
    ),
    "checkpointing.py": (
        [
            *("--preset", "mu/8", "--image-size", "16", "--batch", "3"),
            *("--steps", "1", "--rounds", "1"),
        ],
        "| restoring needs beyond the model |",
    ),
    "input_pipeline.py": (
        [
            *("--images", "6", "--batch", "4", "--batches", "1", "--warm-up", "1"),
            *("--cores", "1", "--rounds", "1", "--image-size", "32"),
            *("--filters", "antialiased", "--peers", "grain_pillow", "torchvision"),
        ],
        "| antialiased | 1 | grain_pillow |",
    ),
    "image_folder.py": (["--images", "100", "--classes", "5"], "| listed | 100 |"),
    "workers.py": (["--images", "3", "--batches", "2", "--rounds", "1"], "| 3 | pipe |"),
    "near_duplicates.py": (
        ["--bank", "300", "--queries", "50", "--sample", "20", "--images", "3", "--no-costs"],
        "| hash alone: recall |",
    ),
    "law_coverage.py": (["--studies", "2", "--resamples", "20"], "| seeds |"),
    "curve_extrapolation.py": (["--curves", "1", "--no-paper"], "| fit_curve |"),
    "skip_nonfinite.py": (
        [
            *("--preset", "mu/8", "--image-size", "16", "--batch", "3"),
            *("--steps", "1", "--rounds", "1"),
        ],
        "| its processor time |",
    ),
    "step_floor.py": (
        ["--preset", "mu/16", "--batch", "2", "--image-size", "32", "--rounds", "1"],
        "| step, Adafactor |",
    ),
    "train_step.py": (
        [
            *("--preset", "mu/8", "--image-size", "16", "--batch", "3", "--matrix", "32"),
            *("--steps", "2", "--windows", "1", "--rounds", "1", "--peers", "keras_hub"),
        ],
        "| ours |",
    ),
}


#: Compiled by libtpu for devices that are not there.
FOR_TPUS = ("collectives.py", "estimates.py", "step_memory.py")


def run(name, *arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / name, *arguments], capture_output=True, text=True, check=False
    )


def scripts():
    """Files that are started by a person; the others are parts of these."""
    return {p.name for p in BENCHMARKS.glob("*.py")} - {
        "ahead.py",
        "contestants.py",
        "devices.py",
        "loaders.py",
        "pages.py",
        "peers.py",
        "pipelines.py",
    }


def test_every_benchmark_has_a_miniature():
    assert scripts() == set(MINIATURES)


@pytest.mark.parametrize("name", MINIATURES)
def test_benchmark_runs(name, tmp_path):
    arguments, expected = MINIATURES[name]
    if name in FOR_TPUS:
        if keras.backend.backend() != "jax" or find_libtpu() is None:
            pytest.skip("compiles for TPUs: on JAX where libtpu is installed (extra tpu)")
    elif name != "fewshot.py" and keras.backend.backend() != "torch":
        pytest.skip("NumPy alone, or processes that compile: once, on torch, is enough")
    if name in ("first_step.py", "train_step.py", "input_pipeline.py"):
        arguments = [*arguments, "--backend", keras.backend.backend()]
    outputs = [tmp_path / "results.md", tmp_path / "results.json"]
    if name == "train_step.py":
        arguments = [*arguments, "--out", *outputs]
    done = run(name, *arguments)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    if name == "train_step.py":
        # A peer takes part or is left out with the command that installs it.
        assert "| keras_hub |" in done.stdout or "pip install keras keras-hub" in done.stdout
        assert outputs[0].read_text(encoding="utf-8").startswith("# Training step")
        (measured,) = json.loads(outputs[1].read_text(encoding="utf-8"))["ours"]
        assert measured["first"] > 0
        assert len(measured["windows"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "q/16"], "invalid preset value"),
        (["--rounds", "0"], "--rounds must be positive"),
        (["--peers", "timn"], "invalid choice: 'timn'"),
        (["--python", "timm"], "'timm' is not PEER=PATH"),
        (["--python", "timn=python"], "Received: timn"),
        (["--out", "results.txt"], "Received: results.txt"),
    ],
)
def test_misspelt_options_are_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_step

    with pytest.raises(SystemExit):
        train_step.parse(arguments)
    assert message in capsys.readouterr().err
