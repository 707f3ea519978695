"""The step at which processes that train together stop, when one of them is asked to.

They dispatch the same steps, but not at the same time. One that stopped at a step of its own would
leave the others waiting in the next one. So each says where it is, and all go on to the furthest.
"""

import itertools
import time

from keras_vit_scale.distribution.processes import from_all, place, store
from keras_vit_scale.training.stopping import Stopping

#: Seconds between two looks at whether another process was asked to stop.
LOOK_AGAIN = 1.0

_fits = itertools.count()


class Agreement:
    """Why to stop, if all processes of one `fit` stop at this step.

    Args:
        stopping: What may ask this process to stop.

    Example:

    >>> from keras_vit_scale.training import Stopping
    >>> from keras_vit_scale.training.agreement import Agreement
    >>> stopping = Stopping()
    >>> agreement = Agreement(stopping)
    >>> stopping.request("SIGTERM")
    >>> agreement.reason_at(7)
    'SIGTERM'
    """

    def __init__(self, stopping: Stopping):
        self.stopping = stopping
        self.process, self.processes = place()
        self._prefix = f"keras_vit_scale/stop/{next(_fits)}"
        self._reason: str | None = None
        self._stop_at: int | None = None
        self._looked = 0.0

    def reason_at(self, step: int) -> str | None:
        """Why to stop, between two steps; `None` while some process has further to go."""
        if self.processes == 1:
            return self.stopping.reason()
        if self._reason is None:
            self._reason = self._asked()
        if self._reason is None:
            return None
        if self._stop_at is None:
            self._say(step)
            self._stop_at = max(
                int(store().blocking_key_value_get(f"{self._prefix}/at/{each}", 3_600_000))
                for each in range(self.processes)
            )
        return self._reason if step >= self._stop_at else None

    def reason_at_end(self, step: int) -> str | None:
        """Why to stop, after the last step of the `fit`, at which all processes are."""
        if self.processes == 1:
            return self.stopping.reason()
        # For those that were asked to stop within it, and wait to hear how far this one is.
        self._say(step)
        return next(filter(None, from_all(self.stopping.reason())), None)

    def _asked(self):
        """Why this process, or another one, was asked to stop."""
        key = f"{self._prefix}/reason"
        if reason := self.stopping.reason():
            store().key_value_set(key, reason, allow_overwrite=True)
            return reason
        now = time.monotonic()
        if now - self._looked < LOOK_AGAIN:
            return None
        self._looked = now
        return dict(store().key_value_dir_get(self._prefix)).get(key)

    def _say(self, step):
        key = f"{self._prefix}/at/{self.process}"
        store().key_value_set(key, str(step), allow_overwrite=True)
