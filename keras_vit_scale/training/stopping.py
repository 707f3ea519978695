"""Leaving in time: on a signal, or before a limit, with the present step saved.

Python runs a signal's handler between two of its own instructions, so not while a backend
compiles or computes in C++. A thread therefore reads the signals where the interpreter's C
code writes them, and sees to it that the process leaves, if need be without the main thread.
"""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from keras_vit_scale.training.time_spans import seconds

#: Exit code of a process that was asked to leave, and that the same command lets go on.
RESUMABLE = 75
#: Exit code after an interrupt from the keyboard, as shells have it.
INTERRUPTED = 130
#: Exit code of one whose last save failed: not to be started again before that is mended.
FAILED = 2


class Stopped(Exception):  # noqa: N818  (nothing went wrong)
    """Training that was asked to stop and can go on from where it stands.

    Args:
        reason: "SIGTERM", "SIGINT" or "the time limit".
        step: The step that was saved; `None` if none was under way.
    """

    def __init__(self, reason: str, step: int | None = None):
        saved = "all that was done" if step is None else f"step {step}"
        super().__init__(f"stopped by {reason}; {saved} is saved, the same command goes on")
        self.reason, self.step = reason, step

    @property
    def exit_code(self) -> int:
        """What the process should end with."""
        return exit_code(self.reason)


def exit_code(reason: str) -> int:
    """The exit code for a reason to stop.

    Example:

    >>> from keras_vit_scale.training.stopping import exit_code
    >>> exit_code("SIGTERM"), exit_code("SIGINT")
    (75, 130)
    """
    return INTERRUPTED if reason == "SIGINT" else RESUMABLE


class Stopping:
    """Within its context, SIGTERM and SIGINT ask training to stop, as a time limit does.

    Training asks `reason()` between two steps, saves, and leaves with `Stopped`. A second
    signal ends the process at once. So does a first one if the step has not ended and been
    saved `grace` seconds later; and without waiting while all is saved, as while a model is
    compiled or evaluated. What was saved before is whole in each of these cases, and the exit
    code is `RESUMABLE`, or `INTERRUPTED` for SIGINT.

    Signals are only heard by the main thread's context; in another thread only the time
    limit is. One that is ignored, as SIGINT is in what a script starts in the background, stays
    so. Handlers that were there before do not act within the context, and are back after it.

    Args:
        grace: Seconds between a signal and the process' end. Schedulers kill it themselves
            after 30 by custom.
        time_limit: Seconds that the process may take from now, or a text: "90m", "1h30m",
            "11:30:00". It stops early enough to save.

    Raises:
        ValueError: If a time cannot be read or is not positive.

    Example:

    >>> from keras_vit_scale.training import Stopping
    >>> with Stopping(time_limit="2h") as stopping:
    ...     print(stopping.reason())
    None
    """

    def __init__(self, *, grace: float = 25.0, time_limit: float | str | None = None):
        self.grace = seconds(grace, "grace")
        self.limit = None if time_limit is None else seconds(time_limit, "time_limit")
        self._began = time.monotonic()
        self._signalled: str | None = None
        # A signal that nobody has asked about.
        self._unheeded: signal.Signals | None = None
        self._reserve = 0.0
        # Nothing is lost before training begins.
        self._wait: Callable[[], BaseException | None] | None = lambda: None
        self._lock = threading.Lock()
        self._done = threading.Event()

    def reason(self) -> str | None:
        """Why to stop now: "SIGTERM", "SIGINT", "the time limit"; or `None`."""
        if self._signalled is not None:
            self._unheeded = None
            return self._signalled
        if self._left() <= self._reserve:
            return "the time limit"
        return None

    def request(self, reason: str) -> None:
        """Asks training to stop, for a reason of one's own."""
        self._signalled = reason

    def reserve(self, seconds: float) -> None:
        """Says how long saving and leaving takes, which the time limit leaves room for."""
        self._reserve = max(self._reserve, seconds)

    def all_saved(self, wait: Callable[[], BaseException | None]) -> None:
        """Says that from here on nothing would be lost: until `unsaved`, a signal ends the
        process as soon as `wait`, for a save under way, returns: with what kept it from its
        end, if anything did.
        """
        self._wait = wait

    def unsaved(self) -> None:
        """Says that from here on there is something to save again."""
        with self._lock:
            self._wait = None

    def _left(self) -> float:
        """Seconds until the time limit."""
        return math.inf if self.limit is None else self._began + self.limit - time.monotonic()

    def __enter__(self) -> "Stopping":
        self._done.clear()
        if threading.current_thread() is threading.main_thread():
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._earlier_fd = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
            self._listener.start()
            # Last, when there is somebody to hear what these handlers ignore.
            self._earlier = {
                number: signal.signal(number, lambda *_: None)
                for number in (signal.SIGTERM, signal.SIGINT)
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        if self.limit is not None:
            threading.Thread(target=self._watch_limit, name="time limit", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if hasattr(self, "_earlier"):
            for number, handler in self._earlier.items():
                # Python does not know a handler that another language installed.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            signal.set_wakeup_fd(self._earlier_fd)
            os.close(self._pipe[1])
            self._listener.join()
            if kind is None and self._unheeded is not None:
                # It came after the last step: what is next has to act on it.
                signal.raise_signal(self._unheeded)

    def _listen(self):
        """Acts on each signal; ends when the pipe is closed."""
        heard = (signal.SIGTERM, signal.SIGINT)
        with os.fdopen(self._pipe[0], "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] not in heard:
                    continue
                self._unheeded = signal.Signals(number[0])
                name = self._unheeded.name
                if self._signalled is not None:
                    self._leave(name, "at once")
                self._signalled = name
                say(f"{name}: stopping after this step")
                threading.Thread(target=self._see_to_it, args=(name,), daemon=True).start()

    def _watch_limit(self):
        """Ends the process at the limit if the main thread has not."""
        while not self._done.wait(max(0.0, min(1.0, self._left()))):
            if reason := self.reason():
                if reason == "the time limit":
                    self._see_to_it(reason, self._left())
                return

    def _see_to_it(self, reason, grace=None):
        """Ends the process when there is nothing to lose, or no time left."""
        end = time.monotonic() + (self.grace if grace is None else max(grace, 1.0))
        while not self._done.wait(0.05):
            with self._lock:
                if self._wait is not None:
                    self._leave_when_saved(reason, self._wait, end)
            if time.monotonic() > end:
                self._leave(reason, "without the present step, which took too long")

    def _leave_when_saved(self, reason, wait, end):
        ended: list[BaseException | None] = []
        waiter = threading.Thread(target=lambda: ended.append(wait()), daemon=True)
        waiter.start()
        waiter.join(max(0.0, end - time.monotonic()))
        if not ended:
            self._leave(reason, "without the last save, which took too long")
        if ended[0] is not None:
            say(f"error: {reason}, and the last save failed: {ended[0]}")
            os._exit(FAILED)
        self._leave(reason, "between two steps, with all saved")

    def _leave(self, reason, how):
        say(f"{reason}: leaving {how}; the same command goes on from the last checkpoint")
        os._exit(exit_code(reason))


def say(line: str) -> None:
    """Tells the terminal, from any thread."""
    print(f"keras-vit-scale: {line}", file=sys.stderr, flush=True)
