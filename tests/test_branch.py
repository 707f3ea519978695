"""Branches of a run: the same end as a run that was never one, whatever it changes told."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import as_numpy
from test_run import CONFIG, StopAt, assert_same_end, damage, weights_of

from keras_vit_scale.data import train_batches
from keras_vit_scale.runs import RunError, TrainConfig, branch, load_run_config, train
from keras_vit_scale.runs.origin import read_origin
from keras_vit_scale.runs.ownership import owning
from keras_vit_scale.runs.run import make_optimizer, open_data
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.recipe import loss_function
from keras_vit_scale.runs.start import build_model
from keras_vit_scale.training import CheckpointStore, Stopped, Stopping

#: Longer than `CONFIG`, and the same up to where that begins its cooldown, at step 10.
TRUNK = dataclasses.replace(CONFIG, steps=31, cooldown=4, keep_last=1, keep_every=5)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A finished run that kept its checkpoints of steps 5, 10, ... 30 and 31."""
    out = tmp_path_factory.mktemp("trunk") / "run"
    train(TRUNK, out)
    return out


@pytest.fixture(scope="module")
def cooled(trunk):
    """Its cooldown from step 10 on."""
    out = trunk.parent / "cooled"
    return out, branch(trunk, out, at=10, cooldown=7, keep_last=9)


def test_a_cooled_branch_is_the_run_of_that_length(trunk, cooled, tmp_path):
    """Bit for bit, averages, dropout, mixed images and evaluations included."""
    out, results = cooled
    train(CONFIG, tmp_path / "run")
    for a, b in zip(weights_of(out), weights_of(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(a, b)
    rows, whole = (json.loads((f / "evaluations.json").read_text()) for f in (out, tmp_path / "run"))
    assert rows == [row for row in whole if row["step"] > 10]
    for name, value in json.loads((tmp_path / "run/results.json").read_text()).items():
        if name != "format":
            assert results[name] == value, name
    assert results["branch"]["steps"] == 7
    assert results["branch"]["flops"] == pytest.approx(results["flops"] * 7 / 17)
