"""Processes that read: the same batches, errors as they are, and no process that stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale.data import (
    Augmentation,
    BadImageError,
    EvalTransform,
    ImageFolder,
    TrainTransform,
    digits,
    eval_batches,
    train_batches,
)
from keras_vit_scale.data.workers import Workers

# Each process imports the package anew.
pytestmark = [numpy_alone, pytest.mark.slow]


def assert_same(one, other):
    one, other = list(one), list(other)
    assert len(one) == len(other)
    for arrays in zip(one, other, strict=True):
        for a, b in zip(*arrays, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_training_batches_are_those_of_one_process():
    options = {"seed": 3, "start": 2, "stop": 13, "offset": 5, "shard": (1, 2)}
    options["augmentation"] = Augmentation(rand_augment=0, mixup=0.2, cutmix=0.0)
    made = [
        train_batches(digits(), TrainTransform(7), 6, workers=workers, **options)
        for workers in (0, 2)
    ]
    assert_same(*made)
    # An iterator's place counts batches, so that any number of processes goes on from it.
    places = []
    for batches in made:
        iterator = iter(batches)
        for _ in range(3):
            next(iterator)
        places.append(iterator.get_state())
    assert places[0] == places[1]


def test_evaluation_batches_are_those_of_one_process_and_errors_what_they_are(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(7):
        Image.new("RGB", (9, 8), (30 * i, 0, 0)).save(tmp_path / "a" / f"{i}.png")
    source, transform = ImageFolder(tmp_path), EvalTransform(5)
    one = eval_batches(source, transform, 4, pad=True)
    several = eval_batches(source, transform, 4, pad=True, workers=1)
    assert_same(one, several)
    (tmp_path / "a" / "5.png").write_bytes(b"")
    with pytest.raises(BadImageError, match=r"5\.png.*the file is empty"):
        list(several)


def test_a_dead_process_is_told():
    with pytest.raises(RuntimeError, match=r"has died: memory.*Received: workers=1"):
        Workers(os._exit, 1, max)(3)


def test_no_process_outlives_its_parent():
    """One that is killed, as by a cluster or for want of memory."""
    script = (
        "import math, sys, time\n"
        "from keras_vit_scale.data.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers(math.sqrt, 1, lambda number, root: root)\n"
        "    print(workers(9), flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"3.0\n"
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert listed
        parent.send_signal(signal.SIGKILL)
    for _ in range(600):
        if not any(is_running(child) for child in listed):
            return
        time.sleep(0.1)
    pytest.fail(f"still there: {listed}")


def is_running(process):
    """Whether it is there, and not merely not yet waited for."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2"])
def test_impossible_numbers_are_refused(workers):
    for make in (train_batches, eval_batches):
        transform = TrainTransform(8) if make is train_batches else EvalTransform(8)
        with pytest.raises(ValueError, match="`workers` must be a number of processes"):
            make(digits(), transform, 4, workers=workers)
