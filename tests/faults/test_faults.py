"""The short part of the faults: real processes killed, refused and stopped, on one backend.

`run.py` beside this file is the long part; `docs/reliability.md` has what it reached. Victims are
forks of a process that has imported everything, which costs each of them seconds less.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import keras
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kills
import operations
import places
import stops
from processes import Server

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() != "torch",
        reason="one backend is enough: PyTorch, whose processes can be forked; run.py has all",
    ),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and strace of Linux"),
]
root_alone = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and chattr need root")
with_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def server():
    started = Server()
    yield started
    started.close()


@pytest.fixture(scope="module")
def twin(server, tmp_path_factory):
    """A run that nobody disturbed."""
    return kills.undisturbed("run", tmp_path_factory.mktemp("twin") / "run", "torch", server)


@pytest.mark.parametrize(("job", "count"), [("run", 5), ("study", 3), ("fit", 2)])
def test_killed_at_random_moments_it_ends_as_its_twin(job, count, server, tmp_path):
    """Ten in all. Weights, optimizer, averages, seeds, samples of each step, and logs."""
    figures = kills.campaign(job, tmp_path, "torch", seed=0, kills=count, server=server)
    assert figures.kills == count
    assert not figures.problems
    assert figures.exact == figures.runs


@with_strace
def test_killed_at_file_operations_of_a_save_an_old_or_the_new_one_loads(tmp_path):
    made, problems = operations.killed_at_each(operations.model(), tmp_path, every=13)
    assert not problems
    assert sum(made.values()) >= 10


@with_strace
def test_errors_of_the_disk_in_a_save_are_told_and_the_one_before_loads(tmp_path):
    errors = {"write": ("ENOSPC",), "fsync": ("EIO",), "rename": ("EIO",)}
    told, _, problems = operations.failing_at_each(
        operations.model(), tmp_path, errors=errors, every=4
    )
    assert not problems
    assert told >= 6


@root_alone
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_space(server, twin, tmp_path):
    assert places.full_disk(tmp_path, "torch", twin, server) == ""


@root_alone
def test_an_unwritable_folder_is_told(server, tmp_path):
    assert places.unwritable(tmp_path, "torch", server) == ""


def test_any_name_of_a_folder_serves(server, twin, tmp_path):
    assert places.odd_names(tmp_path, "torch", twin, server) == ""


def test_a_flipped_bit_is_told_and_the_checkpoint_before_is_taken(server, twin, tmp_path):
    assert places.damaged(tmp_path, "torch", twin, server=server) == ""


@pytest.mark.parametrize("phase", ["training", "evaluation", "save"])
def test_stopped_by_sigterm_it_goes_on_and_ends_as_its_twin(phase, server, tmp_path):
    held, _, problems = stops.stopped_in(
        tmp_path, "torch", 0, [("run", phase, signal.SIGTERM)], server, say=lambda line: None
    )
    assert not problems
    assert held == 1
