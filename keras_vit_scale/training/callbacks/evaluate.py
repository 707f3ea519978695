"""Judging a model while it trains, every so many steps."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_vit_scale.training.callbacks.steps import StepCallback
from keras_vit_scale.types import Logs


@contextlib.contextmanager
def undisturbed(model: keras.Model) -> Iterator[None]:
    """Leaves a model within `fit` to be evaluated, and its training as it was.

    `evaluate` resets the metrics that `fit` adds up over an epoch and, on PyTorch,
    switches the model to evaluation; both are put back.
    """
    # Copies: JAX gives the memory of the old values to the evaluation.
    metrics = [np.array(keras.ops.convert_to_numpy(v.value)) for v in model.metrics_variables]
    on_torch = keras.backend.backend() == "torch"
    training = model.training if on_torch else None
    try:
        yield
    finally:
        for variable, value in zip(model.metrics_variables, metrics, strict=True):
            variable.assign(value)
        if on_torch:
            model.train(training)


class EvaluateEvery(StepCallback):
    """Evaluates the model every N steps and at the end of training.

    Its results go into `logs` under a prefix, for the loggers after it. Training is
    the same with it and without it, bit for bit. With averaged weights (`use_ema`)
    it judges the weights in training: Keras puts the averages in their place only
    after the last step. (A run, which evaluates between two fits, judges the averages.)

    Args:
        data: What `evaluate` takes: `(x, y)` or `(x, y, sample_weight)`, or a
            dataset; or a function without arguments that makes it anew each time.
            What can be read only once must come from such a function.
        every: N, in steps.
        prefix: Put before the names of the metrics.
        batch_size, steps: As in `evaluate`.

    Attributes:
        history: One dictionary an evaluation: "step" and the prefixed metrics.

    Raises:
        ValueError: If `every` is no positive integer or `data` can be read only once.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale.training import EvaluateEvery
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((10, 3)), np.ones((10, 1))
    >>> validation = EvaluateEvery((x[:4], y[:4]), every=2)
    >>> _ = model.fit(x, y, batch_size=2, verbose=0, callbacks=[validation])
    >>> [row["step"] for row in validation.history], sorted(validation.history[0])
    ([2, 4, 5], ['step', 'val_loss'])
    """

    def __init__(
        self,
        data: Any,
        every: int,
        *,
        prefix: str = "val_",
        batch_size: int | None = None,
        steps: int | None = None,
    ):
        super().__init__(every, at_end=True)
        if isinstance(data, Iterator):
            raise ValueError(
                "`data` must be something that can be read again and again; give a function that "
                f"makes it anew, such as `lambda: make_data()`. Received: data={data!r}"
            )
        self.data, self.prefix = data, prefix
        self.batch_size, self.steps = batch_size, steps
        self.history: list[Logs] = []

    def on_step(self, step: int, logs: Logs) -> None:
        data = self.data() if callable(self.data) else self.data
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        model = self.model
        with undisturbed(model):
            results = model.evaluate(
                x, y, sample_weight=weight, batch_size=self.batch_size, steps=self.steps,
                verbose=0, return_dict=True,
            )  # fmt: skip
        results = {f"{self.prefix}{name}": value for name, value in results.items()}
        self.history.append({"step": step, **results})
        logs.update(results)


class FewShotEvery(StepCallback):
    """The few-shot linear probe of the model in training, every N steps and at the end.

    Accuracies, averaged over the seeds of the examples, go into `logs` as
    "fewshot_5" and the like. Training is the same with it and without it.

    Args:
        probe: A function of the model that returns results with `shots`, `seed` and
            `accuracy`, such as `keras_vit_scale.FewShot`.
        every: N, in steps.
        prefix: Put before the number of shots.

    Attributes:
        history: One dictionary a probe: "step" and the prefixed accuracies.

    Raises:
        ValueError: If `every` is no positive integer.

    Example:

    >>> import keras, keras_vit_scale as kvs
    >>> from keras_vit_scale.data import EvalTransform, digits, hold_out
    >>> test, train = hold_out(digits(), 500)
    >>> probe = kvs.FewShot(train, test, EvalTransform(8, resize="none"), shots=[1], seeds=[0, 1])
    >>> every_100 = kvs.training.FewShotEvery(probe, every=100)
    """

    def __init__(
        self,
        probe: Callable[[keras.Model], Iterable[Any]],
        every: int,
        *,
        prefix: str = "fewshot_",
    ):
        super().__init__(every, at_end=True)
        self.probe, self.prefix = probe, prefix
        self.history: list[Logs] = []

    def on_step(self, step: int, logs: Logs) -> None:
        model = self.model
        with undisturbed(model):
            results = self.probe(model)
        accuracies = defaultdict(list)
        for result in results:
            accuracies[f"{self.prefix}{result.shots}"].append(result.accuracy)
        means = {name: float(np.mean(values)) for name, values in accuracies.items()}
        self.history.append({"step": step, **means})
        logs.update(means)
