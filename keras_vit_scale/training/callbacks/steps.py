"""Callbacks that count steps of the optimizer, and act between two of them.

Keras hands the results of a step to `on_train_batch_end` as Python numbers, so a callback
that overrides it makes the host wait for the device after every step. These override
`on_train_batch_begin` instead, which carries nothing: between two steps they know how many are
done, and wait for the device only when something is due. It costs them the step's own results;
metrics, weights and the optimizer's variables can be asked for.

What a callback has to say of a step it puts in `logs`, the dictionary that Keras passes from
each callback to the next: between steps for the loggers after it, at the end of an epoch for
Keras' History and progress bar too. Loggers therefore stand last; a callback after one of them
is refused when training begins.
"""

import time

import keras

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.types import Logs

# Left in the `logs` of `on_train_begin` by a logger, for the callbacks after it.
_A_LOGGER = "keras_vit_scale_logger"


def own_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer that has the rate and counts the steps: within a `LossScaleOptimizer`, its own.

    Raises:
        ValueError: If the model is not compiled.
    """
    optimizer = model.optimizer
    if optimizer is None:
        raise ValueError("The model must be compiled with an optimizer. Received: none")
    return getattr(optimizer, "inner_optimizer", optimizer)


def steps_done(model: keras.Model) -> int:
    """Steps that a model's optimizer has done, once the device has finished them.

    A step is what moves a schedule on by one: an update of the weights or, with
    `gradient_accumulation_steps`, a batch. A step that a `LossScaleOptimizer` skipped
    for a gradient that was not finite does not count.
    """
    return int(keras.ops.convert_to_numpy(own_optimizer(model)._iterations.value))


class StepCounter(keras.callbacks.Callback):
    """Knows at any time of a `fit` how many steps are done, and is asked between steps.

    Attributes:
        step: Steps done, counted on by the host between two epochs. Steps that a
            `LossScaleOptimizer` skips are noticed by `recount`, and by every epoch.
    """

    def __init__(self):
        super().__init__()
        self.step = 0
        self._epoch_start = 0

    def now(self) -> float:
        """Seconds of the clock by which it measures."""
        return time.perf_counter()

    def between_steps(self, logs: Logs) -> None:
        """Called with the host's count in `self.step` before each step (or call of the compiled
        function, which with `steps_per_execution` does several). Must not wait for the device
        unless there is a reason: use `self._model` where stale values do.
        """

    def recount(self) -> None:
        """Waits for the device and sets `step` to what the optimizer has really done."""
        # Keras' property `model` also gives the variables their values on JAX.
        done = steps_done(self.model)
        self._epoch_start += done - self.step
        self.step = done

    def on_train_begin(self, logs=None):
        self.step = self._epoch_start = steps_done(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self.step = self._epoch_start = steps_done(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        self.step = self._epoch_start + batch
        self.between_steps({} if logs is None else logs)


class StepCallback(StepCounter):
    """A callback that does something every N steps.

    A subclass defines `on_step(step, logs)`. It is called after step N, 2N, ... of the
    optimizer, whatever the step at which training began; with `steps_per_execution`
    at the first opportunity after it. The device has then finished, and the model's
    variables have their values. What it puts in `logs` reaches the loggers after it.

    Args:
        every: N, in steps.
        at_end: Whether it is called at the end of training too.

    Raises:
        ValueError: If `every` is no positive integer; when training begins, if a
            logger stands before this callback.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale.training import StepCallback
    >>> class Say(StepCallback):
    ...     def on_step(self, step, logs):
    ...         print("step", step)
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> data = np.zeros((10, 3)), np.zeros((10, 1))
    >>> _ = model.fit(*data, batch_size=2, epochs=2, verbose=0, callbacks=[Say(every=4)])
    step 4
    step 8
    """

    #: Whether it writes down what the callbacks before it have put in `logs`.
    writes = False

    #: Seconds that all callbacks of this process have spent in `on_step`, ever.
    seconds_in_callbacks = 0.0

    def __init__(self, every: int, *, at_end: bool = False):
        super().__init__()
        check_positive_integers(every=every)
        self.every = every
        self.at_end = at_end
        self._last = 0

    def on_step(self, step: int, logs: Logs) -> None:
        """What is done after step `step`; results go into `logs`."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._last = self.step
        if logs is None:
            return
        if self.writes:
            logs[_A_LOGGER] = type(self).__name__
        elif _A_LOGGER in logs:
            raise ValueError(
                "Loggers must be the last callbacks, or they miss what those after them have to "
                f"say. Received: {type(self).__name__} after {logs[_A_LOGGER]}"
            )

    def between_steps(self, logs: Logs) -> None:
        if self._is_due():
            self.recount()
            if self._is_due():
                self._act(logs)

    def on_epoch_end(self, epoch, logs=None):
        self.recount()
        last = epoch + 1 == self.params.get("epochs") or self._model.stop_training
        if self._is_due() or (self.at_end and last and self.step > self._last):
            self._act({} if logs is None else logs)

    def on_train_end(self, logs=None):
        # Left over if a later callback stopped the training at the end of an epoch.
        if self.at_end and self.step > self._last:
            self._act({} if logs is None else logs)

    def _is_due(self):
        return self.step // self.every > self._last // self.every

    def _act(self, logs):
        started = self.now()
        self._last = self.step
        self.on_step(self.step, logs)
        StepCallback.seconds_in_callbacks += self.now() - started
