"""The step at which processes that train together stop, when one of them is asked to.

One that stopped at a step of its own would leave the others waiting in the next one. So about once
a second, at the same step, they ask each other.
"""

import time

from keras_vit_scale.processes import from_all, place
from keras_vit_scale.training.stopping import Stopping

#: Seconds between two exchanges, about, and steps at most.
EVERY, MOST = 1.0, 1000


class Agreement:
    """Why to stop, which all processes of one `fit` learn at one step.

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
        self._alone = place()[1] == 1
        self._asked_at: int | None = None
        self._pause = 1
        self._clock = time.monotonic()

    def reason_at(self, step: int) -> str | None:
        """Why to stop between two steps; asked at each of them, it seldom waits for the others."""
        if self._alone:
            return self.stopping.reason()
        if self._asked_at is not None and step < self._asked_at + self._pause:
            return None
        return self._ask(step)

    def reason_at_end(self, step: int) -> str | None:
        """Why to stop after the last step of the `fit`, at which all processes are."""
        return self.stopping.reason() if self._alone else self._ask(step)

    def _ask(self, step):
        now = time.monotonic()
        steps = 1 if self._asked_at is None else max(1, step - self._asked_at)
        fitting = round(EVERY * steps / max(now - self._clock, 1e-3))
        said = from_all([self.stopping.reason(), min(max(1, fitting), MOST)])
        # Of the pauses that the processes found fitting all take the first one's.
        self._asked_at, self._pause, self._clock = step, said[0][1], now
        return next((reason for reason, _ in said if reason), None)
