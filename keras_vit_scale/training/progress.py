"""How far long work is, told a few times a second to whoever shows it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Progress:
    """How far long work is."""

    done_steps: int
    total_steps: int | None
    """`None` while the end is not known."""
    doing: str


class StepClock:
    """Counts training steps and reports them.

    Args:
        total: Steps to do, or `None` while that is not known.
        report: Called with a `Progress`, or `None`.
        done: Steps that are done already.
    """

    def __init__(self, total, report: Callable[[Progress], None] | None, done: int = 0):
        self.done, self.total, self.report = done, total, report
        self.last = float("-inf")

    def callback(self, doing: str) -> keras.callbacks.Callback:
        """A callback for `fit` that counts its steps as `doing`."""
        self.say(doing)
        return keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self._step(doing)
        )

    def _step(self, doing):
        self.done += 1
        if time.monotonic() - self.last > 0.2:
            self.say(doing)

    def say(self, doing: str) -> None:
        """Reports at once."""
        self.last = time.monotonic()
        if self.report is not None:
            self.report(Progress(self.done, self.total, doing))
