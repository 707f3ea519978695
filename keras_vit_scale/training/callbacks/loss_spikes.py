"""Looks for leaps of the loss while a model trains."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_vit_scale.training.callbacks.steps import StepCallback
from keras_vit_scale.training.loss_tracker import track_losses
from keras_vit_scale.training.spikes import HISTORY, Spike, is_spike
from keras_vit_scale.types import Logs


def warn_of_spike(spike: Spike) -> None:
    """Warns of a leap of the loss."""
    warnings.warn(
        f"The loss leapt between steps {spike.after} and {spike.step}: to {spike.loss:.4g}, from "
        f"{spike.usual:.4g} before.",
        stacklevel=2,
    )


class LossSpikes(StepCallback):
    """Holds the mean loss of every window of steps against those of the windows before.

    What a spike is tells `training.spikes.is_spike`. Losses that are not finite are left
    out: for those there is `FiniteLoss`.

    Args:
        window: Steps of a window; they end at its multiples.
        found: Called with each `Spike`; by default it is told by a warning.

    Raises:
        ValueError: If `window` is no positive integer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale.training import LossSpikes
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> y = np.ones((60, 1))
    >>> y[-2:] = 7
    >>> spikes = LossSpikes(2, found=lambda spike: print(spike))
    >>> x = np.zeros_like(y)
    >>> _ = model.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[spikes])
    Spike(after=58, step=60, loss=49.0, usual=1.0)
    """

    def __init__(self, window: int, *, found: Callable[[Spike], None] = warn_of_spike):
        super().__init__(window)
        self.found = found
        self._means: list[float] = []
        self._losses: list[float] = []

    def state(self) -> dict[str, Any]:
        """What it goes by up to the present step, as JSON can say it."""
        self._read()
        return {"means": self._means, "losses": self._losses}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes by what `state` gave, in this process or another."""
        self._means, self._losses = list(state["means"]), list(state["losses"])

    def set_model(self, model):
        super().set_model(model)
        # Looks come late by the steps that are executed together.
        self._tracker = track_losses(model, self.every + model.steps_per_execution)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._done = self.step

    def on_test_begin(self, logs=None):
        # Before Keras resets its metrics for the validation at the end of an epoch.
        self._read()

    def on_epoch_end(self, epoch, logs=None):
        self._read()
        super().on_epoch_end(epoch, logs)

    def on_step(self, step: int, logs: Logs) -> None:
        self._read()
        losses, self._losses = self._losses, []
        if not losses:
            return
        loss, before = float(np.mean(losses)), self._means
        self._means = [*before, loss][-HISTORY:]
        if is_spike(loss, before):
            spike = Spike(step - self.every, step, loss, float(np.median(before)))
            self.found(spike)

    def _read(self):
        """Takes over the losses of the steps that were done since it last did."""
        self.recount()
        losses = self._tracker.last_losses(self.step - self._done)
        self._losses += [loss for loss in losses if math.isfinite(loss)]
        self._done = self.step
