"""The learning rate, for the logs."""

import keras

from keras_vit_scale.training.callbacks.steps import StepCallback, own_optimizer
from keras_vit_scale.types import Logs


def rate_at(optimizer: keras.optimizers.Optimizer, step: int) -> float:
    """The rate of the update that follows `step` others; a rate without schedule as it is now."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(step)
    elif not isinstance(rate, keras.Variable):
        rate = rate()
    return float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(rate)))


class LearningRate(StepCallback):
    """Adds "learning_rate" to `logs` every N steps: the rate of the update just done.

    Args:
        every: N, in steps; that of the logger after it.

    Raises:
        ValueError: If `every` is no positive integer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import ReciprocalSqrt
    >>> from keras_vit_scale.training import LearningRate
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(ReciprocalSqrt(0.5, warmup_steps=10)), "mse")
    >>> data = np.zeros((8, 3)), np.zeros((8, 1))
    >>> run = model.fit(*data, batch_size=2, verbose=0, callbacks=[LearningRate(every=4)])
    >>> [round(rate, 3) for rate in run.history["learning_rate"]]  # of the fourth update
    [0.15]
    """

    def on_step(self, step: int, logs: Logs) -> None:
        logs["learning_rate"] = rate_at(own_optimizer(self.model), step - 1)
