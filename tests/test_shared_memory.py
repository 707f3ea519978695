"""Arrays through memory that two processes have: what comes out is what went in."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.data import ArraySource, TrainTransform, train_batches, workers
from keras_vit_scale.data.shared_memory import AVAILABLE, SharedMemory
from keras_vit_scale.data.workers import Workers

pytestmark = [
    numpy_alone,
    pytest.mark.skipif(not AVAILABLE, reason="this system has no memory without a name"),
]


def other_end(memory):
    """The same memory, as a process that is started gets it."""
    return SharedMemory(os.dup(memory._number))


def values(rng):
    """Growing, shrinking, of odd sizes, without any array, and with one that is in no order."""
    yield rng.integers(0, 256, (3, 7, 11, 3), dtype=np.uint8), np.arange(3)
    yield {"images": rng.normal(size=(37, 1031)).astype(np.float32), "name": "a", "none": None}
    yield rng.integers(0, 256, (2, 1, 3), dtype=np.uint8), rng.normal(size=(2, 5)), np.zeros((0, 4))
    yield "no arrays", 3
    yield rng.normal(size=(129, 131)).T, rng.integers(0, 9, (64, 64))[::2, ::3]
    yield np.asfortranarray(rng.normal(size=(5, 7))), np.float64(0.1), np.array(b"abc")


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        found, expected = list(found.items()), list(expected.items())
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            assert_same(f, e)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


def test_what_comes_out_is_what_went_in(rng):
    memory = SharedMemory()
    written = other_end(memory)
    for value in values(rng):
        found = memory.view(written.write(value))
        assert_same(found, value)


def test_arrays_are_aligned_and_are_those_of_the_next_value(rng):
    memory = SharedMemory()
    ones = np.ones((3, 5), np.uint8), np.ones(7, np.int64), np.ones(2)
    found = memory.view(memory.write(ones))
    assert all(array.flags.aligned and array.flags.writeable for array in found)
    memory.write([array * 3 for array in ones])
    assert [array.max() for array in found] == [3, 3, 3]


def test_memory_goes_with_what_has_it():
    memory = SharedMemory()
    number = memory._number
    found = memory.view(memory.write(np.arange(1000)))
    del memory
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert found.sum() == 499500


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_batches_of_processes_are_kept(monkeypatch, shared, rng):
    """Also when others were made since, where results come through memory and through pipes."""
    monkeypatch.setattr(workers, "AVAILABLE", shared)
    images = rng.integers(0, 256, (23, 9, 8, 3), dtype=np.uint8)
    soft = rng.dirichlet(np.ones(3), 23).astype(np.float32)
    source, transform = ArraySource(images, soft, "abc"), TrainTransform(7)
    one, several = (
        list(train_batches(source, transform, 5, seed=3, stop=19, workers=n)) for n in (0, 1)
    )
    for batch, other in zip(one, several, strict=True):
        for a, b in zip(batch, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert (a.dtype, b.flags.writeable) == (b.dtype, True)


@pytest.mark.slow
def test_more_calls_at_once_than_processes():
    from concurrent.futures import ThreadPoolExecutor

    made = Workers(np.arange, 1, lambda number, result: (number, len(result), result.sum()))
    with ThreadPoolExecutor(7) as pool:
        for number, length, total in pool.map(made, range(60)):
            assert (length, total) == (number, number * (number - 1) // 2)


@pytest.mark.slow
def test_a_script_ends_without_a_word():
    """And with its pool still there, as of an iterator that was not read to its end."""
    script = (
        "from keras_vit_scale.data import TrainTransform, digits, train_batches\n"
        "if __name__ == '__main__':\n"
        "    batches = iter(train_batches(digits(), TrainTransform(8), 64, workers=1))\n"
        "    print(next(batches)[0].shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "(64, 8, 8, 3)\n")
    assert not any(word in done.stderr for word in ("Exception", "Traceback"))
