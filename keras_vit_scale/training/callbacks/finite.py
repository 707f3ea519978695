"""Losses and gradients that are not finite: training stops, or goes on without them."""

import warnings

from keras import ops

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.training.callbacks.steps import StepCallback, own_optimizer
from keras_vit_scale.training.diverged import CURE, DivergedError, check_loss
from keras_vit_scale.training.loss_tracker import track_losses
from keras_vit_scale.types import Logs


class FiniteLoss(StepCallback):
    """Stops training whose loss is not finite, or that skips too many updates in a row.

    With an optimizer that skips what is not finite (`skip_nonfinite`, see `Adafactor`) training
    goes on: what was skipped is told by a warning, "skipped" in the logs counts it, and the
    mean loss in the logs is that of the batches whose loss is finite, where Keras' own is NaN
    for the rest of an epoch. With any other optimizer the first such loss is the end.

    It stands before the loggers.

    Args:
        every: N: it looks every N steps and at the end.
        max_skipped: So many skipped batches in a row end the training.

    Raises:
        ValueError: If a number is no positive integer.
        DivergedError: In training, if the loss is not finite or too many updates were skipped.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import AdamW
    >>> from keras_vit_scale.training import FiniteLoss
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(AdamW(0.1), "mse")
    >>> x, y = np.full((4, 3), np.nan), np.zeros((4, 1))
    >>> model.fit(x, y, verbose=0, callbacks=[FiniteLoss(every=10)])
    Traceback (most recent call last):
    keras_vit_scale.training.diverged.DivergedError: The loss became nan between steps 0 and 1; ...
    """

    def __init__(self, every: int, *, max_skipped: int = 10):
        super().__init__(every, at_end=True)
        check_positive_integers(max_skipped=max_skipped)
        self.max_skipped = max_skipped

    def set_model(self, model):
        super().set_model(model)
        if self._skips():
            track_losses(model, leave_out=True)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._looked = self.step
        self._skipped = 0
        if self._skips():
            model = self.model
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            self._skipped = _count(own_optimizer(model).skipped)

    def on_step(self, step: int, logs: Logs) -> None:
        model = self.model
        optimizer = own_optimizer(model)
        if self._skips():
            self._look(optimizer, step, logs)
        # At the end of an epoch Keras has put it in, and may have evaluated since.
        loss = logs["loss"] if "loss" in logs else model.get_metrics_result().get("loss", 0.0)
        check_loss(optimizer, float(loss), self._looked, step)
        self._looked = step

    def _look(self, optimizer, step, logs):
        skipped = _count(optimizer.skipped)
        most = _count(optimizer.most_skipped_in_a_row)
        where = f"between steps {self._looked} and {step}"
        if most >= self.max_skipped:
            raise DivergedError(
                f"{most} updates in a row were skipped {where} because their gradients were not "
                f"finite, and {self.max_skipped} end the training; {CURE}, or look at the data."
            )
        if skipped > self._skipped:
            warnings.warn(
                f"{skipped - self._skipped} updates {where} were skipped because their gradients "
                f"were not finite, {skipped} so far.",
                stacklevel=2,
            )
        self._skipped = skipped
        logs["skipped"] = skipped

    def _skips(self):
        return getattr(own_optimizer(self._model), "skip_nonfinite", False)


def _count(variable):
    return int(ops.convert_to_numpy(variable.value))
