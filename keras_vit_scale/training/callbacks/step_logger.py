"""What all loggers share: when a step is written down, and what of it."""

import numbers

import keras

from keras_vit_scale.training.callbacks.steps import StepCallback
from keras_vit_scale.types import Logs


class StepLogger(StepCallback):
    """Writes numbers of steps somewhere; a subclass says where.

    A step is written down every N steps, at the end of every epoch, and whenever a
    callback before this one has put something in `logs`: an evaluation every 1,000 steps
    is in the log also of a logger every 300. With it come the model's metrics, which are
    Keras': means since the beginning of the epoch. What is no number is left out.

    Several processes that train one model count as one: the first of them writes.

    A subclass defines `open(step)`, `write(step, values)` and `close()`, where `step` is
    that of the optimizer when training begins, and of which later ones are to be
    forgotten if a run had written them before it was interrupted.
    """

    writes = True

    def __init__(self, every: int):
        super().__init__(every, at_end=True)

    def open(self, step: int) -> None:
        """Called when training begins, with the steps done so far."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Called with the numbers of a step, floats by name."""
        raise NotImplementedError

    def close(self) -> None:
        """Called when training has ended."""

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._written: tuple[int, set[str]] = -1, set()
        self._in_epoch = False
        self._writes_here = _is_first_process()
        if self._writes_here:
            self.open(self.step)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._in_epoch = True

    def between_steps(self, logs: Logs) -> None:
        if logs or self._is_due():
            self.recount()
            self._act(logs)

    def on_epoch_end(self, epoch, logs=None):
        self.recount()
        self._in_epoch = False
        self._act({} if logs is None else logs)

    def on_train_end(self, logs=None):
        self._act({} if logs is None else logs)
        if self._writes_here:
            self.close()

    def on_step(self, step: int, logs: Logs) -> None:
        if self._in_epoch:  # at its end Keras has put them in
            logs = {**self.model.get_metrics_result(), **logs}
        # The end of the training comes to the step of the last epoch's end: only what is new.
        known = self._written[1] if self._written[0] == step else set()
        new = {name: value for name, value in numbers_of(logs).items() if name not in known}
        self._written = step, known | set(new)
        if new and self._writes_here:
            self.write(step, new)


def numbers_of(logs: Logs) -> dict[str, float]:
    """The numbers among logs, tensors of one included, as floats."""
    values = {}
    for name, value in logs.items():
        if keras.ops.is_tensor(value) and not value.shape:
            value = keras.ops.convert_to_numpy(value)
        if isinstance(value, numbers.Real) or getattr(value, "shape", None) == ():
            values[name] = float(value)
    return values


def _is_first_process() -> bool:
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index() == 0
    return True
