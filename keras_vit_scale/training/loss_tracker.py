"""The losses of single batches, as Keras' trainer sees them: their mean, and the last of them."""

import keras
import numpy as np
from keras import ops
from keras.src.utils.tracking import DotNotTrackScope

from keras_vit_scale.types import Tensor

#: What stands for a loss that is not finite: checkpoints, which hold metrics, hold none such.
NOT_FINITE = float(np.finfo("float32").max)


class LossTracker(keras.metrics.Mean):
    """The mean loss since the beginning of the epoch, and the losses of the last batches.

    Args:
        last: Of how many batches the losses are kept, for `last_losses`.
        leave_out: Whether the mean is that of the batches whose loss is finite, and NaN only
            if there was no such batch; by default a single NaN makes it NaN for the rest of
            the epoch, as Keras' own.
        name: Name of the metric.
    """

    def __init__(self, last: int = 1, leave_out: bool = False, name: str = "loss"):
        super().__init__(name=name)
        self.size, self.leave_out = last, leave_out
        self.batches = self.add_variable((), "zeros", dtype="int32", name="batches")
        self.last = self.add_variable((last,), "zeros", dtype="float32", name="last")

    def update_state(self, values: Tensor, sample_weight: Tensor = None) -> None:
        loss = ops.cast(values, "float32")
        finite = ops.isfinite(loss)
        here = ops.equal(ops.arange(self.size, dtype="int32"), self.batches % self.size)
        kept = ops.where(finite, loss, NOT_FINITE)
        self.last.assign(ops.where(here, kept, ops.convert_to_tensor(self.last)))
        self.batches.assign(self.batches + 1)
        weight = ops.cast(1.0 if sample_weight is None else sample_weight, "float32")
        if self.leave_out:
            loss, weight = ops.where(finite, loss, 0.0), ops.where(finite, weight, 0.0)
        super().update_state(loss, weight)

    def result(self) -> Tensor:
        none_left = ops.logical_and(ops.equal(self.count, 0), ops.greater(self.batches, 0))
        return ops.where(none_left, float("nan"), super().result())

    def reset_state(self) -> None:
        super().reset_state()
        self.batches.assign(0)

    def last_losses(self, count: int) -> list[float]:
        """The losses of the last `count` batches of the epoch, in order; NaN if not finite.

        Raises:
            ValueError: If the tracker has not so many.
        """
        seen = int(ops.convert_to_numpy(self.batches))
        if not 0 <= count <= min(seen, self.size):
            raise ValueError(
                f"The losses of the last {min(seen, self.size)} batches are kept. "
                f"Received: count={count}"
            )
        losses = ops.convert_to_numpy(self.last)[np.arange(seen - count, seen) % self.size]
        return [float("nan") if loss == np.float32(NOT_FINITE) else float(loss) for loss in losses]


def track_losses(model: keras.Model, last: int = 1, *, leave_out: bool = False) -> LossTracker:
    """Gives a compiled model a `LossTracker` in the place of Keras' mean, as "loss" of its logs.

    One that is there already, and does as much, stays; another hands on what it does.
    """
    tracker = model._loss_tracker
    if isinstance(tracker, LossTracker):
        last, leave_out = max(last, tracker.size), leave_out or tracker.leave_out
        if (last, leave_out) == (tracker.size, tracker.leave_out):
            return tracker
    with DotNotTrackScope():  # as `compile` sets its own
        model._loss_tracker = LossTracker(last, leave_out)
    # They were compiled with the tracker that was there.
    model.train_function = model.test_function = None
    return model._loss_tracker
