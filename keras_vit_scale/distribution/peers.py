"""Processes that notice when another one is gone, and leave so that the job can go on later.

A process whose peer died waits in the next collective operation for ever: on a GPU it hangs, on
CPUs it may or may not raise. JAX's own heartbeat ends it after 100 seconds, by an abort that no
scheduler takes for a reason to start it again.
"""

import contextlib
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any

from keras_vit_scale.processes import place, store

#: Seconds between two signs of life, and without one after which a process is gone.
EVERY, GONE = 1.0, 15.0

#: Exit code of a process that the same command lets go on: `training.stopping` has it too.
RESUMABLE = 75

#: Seconds that a process has for an error of its own when another has left by one.
OWN_ERROR = 5.0

_ALIVE, _LEFT = "keras_vit_scale/alive/", "keras_vit_scale/left/"


class Peers:
    """Within its context, the death of another process of the job ends this one resumably.

    It says which one is gone and leaves with the exit code `RESUMABLE`, at most half a minute
    after; what was saved before is whole. A process that leaves the context by an error tells the
    others why. With one process it does nothing.

    Example:

    >>> from keras_vit_scale.distribution.peers import Peers
    >>> with Peers():
    ...     pass
    """

    def __init__(self) -> None:
        self._done = threading.Event()

    def __enter__(self) -> "Peers":
        self.process, self.processes = place()
        if self.processes > 1:
            self.store = store()
            self._done.clear()
            self._watcher = threading.Thread(target=self._watch, name="peers", daemon=True)
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.processes == 1:
            return
        if error is not None and _is_of_jax(error):
            # Most likely another process is gone: the watcher sees it, and leaves.
            time.sleep(2 * GONE)
        self._done.set()
        said = "done" if error is None else f"{type(error).__name__}: {error}"
        # Where the service is gone there is nobody to tell.
        with contextlib.suppress(Exception):
            self.store.key_value_set(f"{_LEFT}{self.process}", said[:1000], allow_overwrite=True)

    def _watch(self):
        seen: dict[str, tuple[str, float]] = {}
        beats = 0
        while not self._done.wait(EVERY):
            beats += 1
            try:
                self.store.key_value_set(
                    f"{_ALIVE}{self.process}", str(beats), allow_overwrite=True
                )
                alive = dict(self.store.key_value_dir_get(_ALIVE))
                left = dict(self.store.key_value_dir_get(_LEFT))
            except Exception as error:
                # The service runs within the first process.
                self._leave(0, f"its coordination service does not answer: {error}"[:200])
                return
            now = time.monotonic()
            for process in range(self.processes):
                why = left.get(f"{_LEFT}{process}")
                if why not in (None, "done"):
                    self._leave(process, why)
                beat = alive.get(f"{_ALIVE}{process}", "")
                known = seen.get(str(process))
                if known is None or known[0] != beat:
                    seen[str(process)] = (beat, now)
                elif why is None and process != self.process and now - known[1] > GONE and beat:
                    self._leave(process, f"no sign of life for {GONE:.0f} seconds")

    def _leave(self, process: int, why: Any) -> None:
        # What went wrong there may go wrong here too, and is then told in its own words.
        if self._done.wait(OWN_ERROR):
            return
        print(
            f"keras-vit-scale: process {self.process} of {self.processes} leaves, because process "
            f"{process} is gone ({why}); the same command goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(RESUMABLE)


def _is_of_jax(error: BaseException) -> bool:
    """Whether an error came out of a computation, as that of a broken connection does."""
    from jax.errors import JaxRuntimeError

    return isinstance(error, JaxRuntimeError)
