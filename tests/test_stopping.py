"""`Stopping` among the other users of a process' signals, with real signals."""

import inspect
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import numpy_alone

import keras_vit_scale_command
from keras_vit_scale.cli.entry import VERBS, Group
from keras_vit_scale.training import Stopping

pytestmark = numpy_alone


@pytest.fixture(autouse=True)
def handlers():
    """Whatever a test does, they are as before after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def heard(stopping):
    """The reason to stop, waited for if need be: the thread that hears takes a moment."""
    end = time.monotonic() + 10
    while stopping.reason() is None and time.monotonic() < end:
        time.sleep(0.005)
    return stopping.reason()


def test_handlers_of_others_do_not_act_within_and_are_back_after_it():
    called = []

    def theirs(*_):
        called.append(1)

    signal.signal(signal.SIGTERM, theirs)
    with Stopping() as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard(stopping) == "SIGTERM"
        assert not called
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_a_signal_that_is_ignored_stays_so():
    """As SIGINT is in what a script starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stopping() as stopping:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        # Heard in the order of their numbers: SIGINT would have been the reason.
        assert heard(stopping) == "SIGTERM"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_of_two_the_inner_one_hears():
    with Stopping() as outer:
        with Stopping() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard(inner) == "SIGTERM"
        assert outer.reason() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert heard(outer) == "SIGINT"


def test_it_can_be_entered_again():
    stopping = Stopping()
    with stopping:
        pass
    with stopping:
        assert not stopping._done.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard(stopping) == "SIGTERM"


SAVING = """
import os, signal, sys, time
from keras_vit_scale.training import Stopping

with Stopping(grace=20) as stopping:
    stopping.all_saved({wait})
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wait", "code", "told"),
    [
        ("lambda: None", 75, "SIGTERM: leaving between two steps, with all saved"),
        ("lambda: OSError(28, 'No space left on device')", 2, "the last save failed: [Errno 28]"),
        ("lambda: time.sleep(60)", 75, "SIGTERM: leaving without the last save"),
    ],
)
def test_between_two_steps_it_leaves_when_the_last_save_has_ended(wait, code, told):
    """A save that failed is not passed off as one that can be gone on from."""
    text = SAVING.format(wait=wait).replace("grace=20", f"grace={1 if '60' in wait else 20}")
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code
    assert told in done.stderr


def test_a_signal_that_nobody_asked_about_is_not_lost():
    """It came after the last step: whoever had its handler before is told."""
    called = []
    signal.signal(signal.SIGTERM, lambda *_: called.append("SIGTERM"))
    with Stopping() as stopping:
        stopping.unsaved()
        os.kill(os.getpid(), signal.SIGTERM)
        while stopping._signalled is None:
            time.sleep(0.001)
    assert called == ["SIGTERM"]
    with Stopping() as stopping:
        stopping.unsaved()
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard(stopping) == "SIGTERM"
    assert called == ["SIGTERM"]


def test_in_another_thread_signals_are_left_alone():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with Stopping(time_limit=1000):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def listens(verb):
    """Whether a verb of the command, or one of its group, trains within `Stopping`."""
    functions = verb.verbs.values() if isinstance(verb, Group) else [verb]
    return any("Stopping(" in inspect.getsource(function) for function in functions)


RESUMING = [word for word, verb in VERBS.items() if listens(verb)]

EARLY = """
import os, sys
import keras_vit_scale_command as starter

# Stands for the imports, which take seconds.
starter.choose_backend = lambda: os.kill(os.getpid(), int(sys.argv.pop()))
starter.main()
"""


@pytest.mark.parametrize("word", RESUMING)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_before_training_the_exit_code_says_that_the_same_command_goes_on(word, number, code):
    """Of every verb that listens while it trains."""
    assert {"train", "branch"} < set(RESUMING)
    folder = os.path.dirname(keras_vit_scale_command.__file__)
    done = subprocess.run(
        [sys.executable, "-c", EARLY, word, str(int(number))], cwd=folder, check=False,
        capture_output=True, text=True, timeout=60,
        # A script that starts tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_python_ends_changes_the_code_no_more(number):
    late = (
        "import atexit, os, keras_vit_scale_command as command\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "command.leave(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
