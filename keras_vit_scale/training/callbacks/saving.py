"""Checkpoints while a model trains: every so many steps, and before it is stopped."""

import time
from collections.abc import Callable
from typing import Any

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.training.agreement import Agreement
from keras_vit_scale.training.callbacks.steps import StepCounter, own_optimizer
from keras_vit_scale.training.checkpoints.restoring import Restored
from keras_vit_scale.training.checkpoints.state import set_metrics
from keras_vit_scale.training.checkpoints.store import CheckpointStore
from keras_vit_scale.training.diverged import check_loss
from keras_vit_scale.training.stopping import Stopped, Stopping
from keras_vit_scale.types import Logs


class Saving(StepCounter):
    """Saves a checkpoint every N steps of the optimizer, while training goes on.

    It stands after the loggers: what they write of a step is then there before the
    step's checkpoint is. A state whose loss is not finite is not saved.

    Args:
        store: Where to.
        every: N, in steps.
        stopping: Asked between steps whether to stop; then the present step is saved. By default
            nothing stops training.
        extra: Called with the step; what it returns is saved with the checkpoint.
        restored: What the store has restored before this training began, whose metrics
            go on in the first epoch.

    Raises:
        ValueError: If `every` is no positive integer.
        Stopped: In training, when it was stopped.
        DivergedError: In training, if the loss is not finite when it is to be saved, and the
            optimizer has not skipped what came of it.
    """

    def __init__(
        self,
        store: CheckpointStore,
        every: int,
        *,
        stopping: Stopping | None = None,
        extra: Callable[[int], dict[str, Any]] = lambda step: {},
        restored: Restored | None = None,
    ):
        super().__init__()
        check_positive_integers(every=every)
        self.store, self.every = store, every
        self.stopping = Stopping() if stopping is None else stopping
        self.extra, self.restored = extra, restored

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._saved = self._began = self.step
        self._agreement = Agreement(self.stopping)
        self._clock, self._longest = time.monotonic(), 0.0

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self.restored is not None:
            # Only now, because Keras has reset them.
            if self.restored.extra.get("within_epoch"):
                set_metrics(self.model, self.restored.metrics)
            self.restored = None

    def between_steps(self, logs: Logs) -> None:
        if self._is_due():
            self.recount()
            if self._is_due():
                self.save(within_epoch=True)
        self._measure()
        if self.step > self._began:
            self.stopping.unsaved()
        if reason := self._agreement.reason_at(self.step):
            self.stop(reason, within_epoch=True)

    def on_epoch_end(self, epoch, logs=None):
        self.recount()
        if self._is_due():
            self.save(within_epoch=False)

    def save_last(self) -> None:
        """Saves the step at which training ended, unless that was done; then stops if asked to."""
        self.recount()
        if self.step > self._saved:
            self.save(within_epoch=False)
        if reason := self._agreement.reason_at_end(self.step):
            self.stop(reason, within_epoch=False)

    def stop(self, reason: str, within_epoch: bool) -> None:
        """Saves the present step, unless that was done, and stops.

        Raises:
            Stopped: Always.
        """
        self.recount()
        if self.step > self._saved:
            self.save(within_epoch)
        self.store.wait()
        raise Stopped(reason, self.step)

    def save(self, within_epoch: bool) -> None:
        """Saves the present step."""
        loss = self.model.get_metrics_result().get("loss", 0.0)
        check_loss(own_optimizer(self.model), float(loss), self._saved, self.step)
        extra = {"within_epoch": within_epoch, **self.extra(self.step)}
        self.store.save(self.model, self.step, extra=extra)
        self._saved = self.step
        self._clock = time.monotonic()

    def _is_due(self):
        return self.step // self.every > self._saved // self.every

    def _measure(self):
        """Keeps room, before a time limit, for the longest step so far and for a save."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._clock)
        self._clock = now
        self.stopping.reserve(2 * self._longest + self.store.seconds_to_save)
