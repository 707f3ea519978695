"""How far long work is, told a few times a second to whoever shows it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_vit_scale.training.callbacks.steps import StepCounter
from keras_vit_scale.types import Logs


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

    def __init__(self, total: int | None, report: Callable[[Progress], None] | None, done: int = 0):
        self.done, self.total, self.report = done, total, report
        self.last = float("-inf")

    def callback(self, doing: str) -> keras.callbacks.Callback:
        """A callback for `fit` that counts its steps as `doing`, without waiting for the device."""
        self.say(doing)
        return _Count(self, doing)

    def add(self, steps: int, doing: str) -> None:
        """Counts steps, and reports them if the last report is not of just now."""
        self.done += steps
        if time.monotonic() - self.last > 0.2:
            self.say(doing)

    def say(self, doing: str) -> None:
        """Reports at once."""
        self.last = time.monotonic()
        if self.report is not None:
            self.report(Progress(self.done, self.total, doing))


class _Count(StepCounter):
    """Tells a clock of the steps of a `fit`."""

    def __init__(self, clock, doing):
        super().__init__()
        self.clock, self.doing = clock, doing

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.counted = self.step

    def between_steps(self, logs: Logs) -> None:
        self._add()

    def on_train_end(self, logs=None):
        self.recount()
        self._add()

    def _add(self):
        self.clock.add(self.step - self.counted, self.doing)
        self.counted = self.step
