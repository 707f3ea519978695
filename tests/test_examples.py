"""The examples run, in miniature."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

MINIATURES = {
    "one_trunk_many_lengths.py": (["--lengths", "30", "40"], "40 steps, the last 12"),
    "choose_rates.py": (
        ["digits", "--steps", "30", "--sizes", "4x1/4", "--rates", "0.01", "0.02", "--seeds", "0"],
        "peaks:",
    ),
}


def test_every_example_has_a_miniature():
    assert {p.name for p in EXAMPLES.glob("*.py")} == set(MINIATURES)


@pytest.mark.parametrize("name", MINIATURES)
def test_example_runs(name):
    arguments, expected = MINIATURES[name]
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
