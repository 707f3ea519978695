"""Callbacks that count steps: when they act, what they see, and that training is the same."""

from collections import namedtuple

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import ReciprocalSqrt, ViT, training
from keras_vit_scale.evaluation import FewShot, representation
from keras_vit_scale.models import preset
from keras_vit_scale.planning import accelerator, forward_flops
from keras_vit_scale.training import (
    CSVLog,
    EvaluateEvery,
    FewShotEvery,
    LearningRate,
    Norms,
    StepCallback,
    Throughput,
)
from keras_vit_scale.training.callbacks.norms import weight_norms
from keras_vit_scale.training.callbacks.throughput import vit_training_flops

ON_TORCH = keras.backend.backend() == "torch"
X = np.random.default_rng(5).normal(size=(44, 5)).astype("float32")
Y = (X.sum(1, keepdims=True) ** 2).astype("float32")


def dense(optimizer="sgd", **options):
    """A tiny model with random masks in training, and metrics besides the loss."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, activation="tanh", name="hidden"),
            keras.layers.Dropout(0.3, seed=13),
            keras.layers.Dense(1, name="head"),
        ]
    )
    model.compile(optimizer, "mse", metrics=["mae"], **options)
    return model


def fit(model, *callbacks, **options):
    """11 steps an epoch, unless told otherwise."""
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, callbacks=list(callbacks), **options).history


def state(model):
    return [as_numpy(v.value) for v in [*model.variables, *model.optimizer.variables]]


class Record(StepCallback):
    """What it was called with, and the weights that it saw."""

    def __init__(self, every, **options):
        super().__init__(every, **options)
        self.steps, self.weights = [], []

    def on_step(self, step, logs):
        self.steps.append(step)
        self.weights.append(self.model.get_weights())
        logs["recorded"] = float(step)


def test_acts_at_multiples_of_n_over_epochs_and_fits():
    model = dense()
    every_4, at_end = Record(4), Record(100, at_end=True)
    history = fit(model, every_4, at_end, epochs=2)
    assert every_4.steps == [4, 8, 12, 16, 20]
    assert at_end.steps == [22]
    fit(model, every_4, steps_per_epoch=7)  # from step 22 on
    assert every_4.steps[5:] == [24, 28]
    # What is put into the logs at the end of an epoch is in Keras' history.
    assert history["recorded"] == [22.0]
    assert int(model.optimizer.iterations) == 29


def test_acts_at_the_end_also_where_another_callback_stopped():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    at_end = Record(100, at_end=True)
    fit(dense(), at_end, Stop(), epochs=3)
    assert at_end.steps == [11]


def test_weights_seen_are_those_of_the_step():
    """Those that a run of that many steps ends with."""
    record = Record(5)
    fit(dense(), record)
    for step, weights in zip(record.steps, record.weights, strict=True):
        short = dense()
        fit(short, steps_per_epoch=step)
        for seen, expected in zip(weights, short.get_weights(), strict=True):
            np.testing.assert_array_equal(seen, expected)


@pytest.mark.skipif(ON_TORCH, reason="Keras has no steps_per_execution on PyTorch")
def test_steps_per_execution():
    """Called after steps 3, 6, 9 and the two left over: at the first chance past 4 and 8."""
    record = Record(4, at_end=True)
    fit(dense(steps_per_execution=3), record)
    assert record.steps == [6, 9, 11]


def test_with_gradient_accumulation_a_step_is_a_batch():
    record = Record(4)
    model = dense(keras.optimizers.SGD(gradient_accumulation_steps=2))
    fit(model, record)
    assert record.steps == [4, 8]
    assert int(model.optimizer.iterations) == 5


def test_steps_skipped_for_their_gradient_do_not_count(monkeypatch):
    """Batches 2 and 5 hold an infinity, so step 4 of the optimizer is batch 6."""
    x = X.copy()
    x[[4, 19]] = np.inf
    monkeypatch.setitem(globals(), "X", x)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=2.0)
    record = Record(4, at_end=True)
    fit(dense(optimizer), record)
    assert record.steps == [4, 8, 9]
    assert int(optimizer.inner_optimizer.iterations) == 9


def test_nothing_due_costs_nothing():
    """Keras stays free to run ahead, and JAX's variables stay with the device."""
    ours = [Record(50), LearningRate(50), Norms(50, gradients=False), Throughput(50, batch_size=4),
            EvaluateEvery((X, Y), 50), FewShotEvery(len, 50), training.Cooldown(5, at_step=70),
            CSVLog("unused.csv", 50)]  # fmt: skip
    alone = keras.callbacks.CallbackList([])
    assert keras.callbacks.CallbackList(ours)._async_train == alone._async_train

    synced = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            synced.append(getattr(self._model, "_jax_state_synced", False))

    fit(dense(), Record(50), Record(6), Look())
    expected = [batch in (0, 6) for batch in range(11)]
    assert synced == (expected if keras.backend.backend() == "jax" else [False] * 11)


def test_a_callback_after_a_logger_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Record after CSVLog"):
        fit(dense(), CSVLog(tmp_path / "log.csv", 3), Record(3))


@pytest.mark.parametrize("every", [0, -1, 2.5, True])
def test_every_must_be_a_positive_integer(every):
    with pytest.raises(ValueError, match="every"):
        StepCallback(every)


Result = namedtuple("Result", "shots seed accuracy")


def by_hand(weights, x):
    hidden, bias, head, head_bias = (w.astype("float64") for w in weights)
    return np.tanh(x @ hidden + bias) @ head + head_bias


def test_evaluation_is_right_and_leaves_training_alone():
    """Twice the same run, one of them evaluated, probed and judged all the time."""
    alone = dense(keras.optimizers.SGD(0.01, momentum=0.9))
    history = fit(alone, epochs=2, validation_data=(X[:8], Y[:8]))

    def probe(model):
        features = keras.Model(model.inputs, model.get_layer("head").input)
        features.predict(X, verbose=0)
        features.predict_on_batch(X)
        return [Result(5, seed, seed / 4) for seed in (1, 2)]

    judged = dense(keras.optimizers.SGD(0.01, momentum=0.9))
    record, made = Record(3), []
    evaluate = EvaluateEvery((X[:13], Y[:13]), 3, batch_size=5)
    again = EvaluateEvery(lambda: made.append(1) or (X[:13], Y[:13]), 3, prefix="again_")
    few = FewShotEvery(probe, 3)
    judged_history = fit(
        judged, record, evaluate, again, few, epochs=2, validation_data=(X[:8], Y[:8])
    )
    for ours, theirs in zip(state(judged), state(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, values in history.items():
        if not name.startswith("val_"):
            assert judged_history[name] == values, name

    assert [row["step"] for row in evaluate.history] == [3, 6, 9, 12, 15, 18, 21, 22]
    for row, weights in zip(evaluate.history, record.weights, strict=False):
        error = by_hand(weights, X[:13]) - Y[:13]
        assert row["val_loss"] == pytest.approx(float((error**2).mean()), rel=1e-5)
        assert row["val_mae"] == pytest.approx(float(np.abs(error).mean()), rel=1e-5)
    assert len(made) == 8
    assert again.history[-1]["again_loss"] == pytest.approx(
        evaluate.history[-1]["val_loss"], rel=1e-6
    )
    assert few.history[-1] == {"step": 22, "fewshot_5": 0.375}
    assert judged_history["fewshot_5"] == [0.375]


def test_data_that_can_be_read_only_once_is_refused():
    with pytest.raises(ValueError, match="lambda"):
        EvaluateEvery(iter([(X, Y)]), 3)


def test_the_real_probe_in_training():
    from keras_vit_scale.data import EvalTransform, digits, hold_out

    test, train = hold_out(digits(), 400)
    probe = FewShot(train, test, EvalTransform(8, resize="none"), shots=[1, 3], seeds=[0, 1])
    images = keras.Input((8, 8, 3))
    features = keras.layers.Dense(11, activation="relu")(keras.layers.Flatten()(images))
    model = keras.Model(images, keras.layers.Dense(10, name="head")(features))
    model.compile("sgd", "mse")
    few = FewShotEvery(probe, 2)
    model.fit(np.zeros((6, 8, 8, 3)), np.zeros((6, 10)), batch_size=2, verbose=0, callbacks=[few])
    after = probe(model)
    assert [row["step"] for row in few.history] == [2, 3]
    for shots in (1, 3):
        mean = np.mean([r.accuracy for r in after if r.shots == shots])
        assert few.history[-1][f"fewshot_{shots}"] == mean
    assert representation(model) is representation(model)


class RecordingSGD(keras.optimizers.SGD):
    """Records the norm of the gradient, as `Adafactor(record_norms=True)`."""

    def build(self, variables):
        super().build(variables)
        self.gradient_norm = self.add_variable((), name="gradient_norm")

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(trainable_variables)
        squares = sum(keras.ops.sum(keras.ops.square(g)) for g in grads)
        self.assign(self.gradient_norm, keras.ops.sqrt(squares))
        return super().apply(grads, trainable_variables)


def test_rates_and_norms_are_those_of_the_step():
    """A linear model: gradient of mean (x w - y)^2 is 2 x' (x w - y) / B."""
    schedule = ReciprocalSqrt(0.01, warmup_steps=5, timescale=3)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="head")(inputs))
    model.compile(RecordingSGD(schedule), "mse")
    w = model.get_weights()[0].astype("float64")
    rates, norms, gradient_norms = [], [], []
    for t in range(11):
        x, y = X[4 * t : 4 * t + 4], Y[4 * t : 4 * t + 4]
        gradient = 2 * x.T @ (x @ w - y) / 4
        rate = 0.01 * min(1, t / 5) / np.sqrt(1 + max(0, t - 5) / 3)
        w = w - rate * gradient
        rates.append(rate)
        norms.append(np.linalg.norm(w))
        gradient_norms.append(np.linalg.norm(gradient))
    rows = []

    class Collect(StepCallback):
        def on_step(self, step, logs):
            rows.append({"step": step, **logs})

    fit(model, LearningRate(2), Norms(2, per_layer=True), Collect(2))
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    for row in rows:
        t = row["step"] - 1
        assert row["learning_rate"] == pytest.approx(rates[t], rel=1e-6)
        assert row["weight_norm"] == pytest.approx(norms[t], rel=1e-5)
        assert row["weight_norm/head"] == pytest.approx(norms[t], rel=1e-5)
        assert row["gradient_norm"] == pytest.approx(gradient_norms[t], rel=1e-5)


def test_norms_of_a_stack_are_those_of_its_blocks(rng):
    kernel, bias = rng.normal(size=(3, 2, 5)), rng.normal(size=(2, 3))
    variables = []
    for value, axis, name in ((kernel, 0, "a"), (bias, 1, "b"), (bias, None, "c")):
        variable = keras.Variable(value, name=name, dtype="float32")
        variable._path = f"{'encoder' if axis is not None else 'head'}/{name}"
        if axis is not None:
            variable.stack_axis = axis
        variables.append(variable)
    norms = weight_norms(variables, per_layer=True)
    for block in range(3):
        expected = np.sqrt((kernel[block] ** 2).sum() + (bias[:, block] ** 2).sum())
        assert norms[f"weight_norm/encoder/{block}"] == pytest.approx(expected, rel=1e-5)
    assert norms["weight_norm/head"] == pytest.approx(np.linalg.norm(bias), rel=1e-5)
    total = np.sqrt((kernel**2).sum() + 2 * (bias**2).sum())
    assert norms["weight_norm"] == pytest.approx(total, rel=1e-5)
    assert list(weight_norms(variables)) == ["weight_norm"]


def test_an_optimizer_that_records_no_norm_is_refused():
    with pytest.raises(ValueError, match="record_norms"):
        fit(dense(), Norms(3))


class Clock:
    """Seconds that pass when the test says so."""

    seconds = 0.0

    def now(self):
        return Clock.seconds


class Pass(keras.callbacks.Callback):
    """A quarter of a second a step, 50 for the first one; validation takes 11."""

    def on_train_batch_begin(self, batch, logs=None):
        Clock.seconds += 0.25 if batch > 1 else 50.0

    def on_test_end(self, logs=None):
        Clock.seconds += 11.0


class Slow(Clock, StepCallback):
    def on_step(self, step, logs):
        Clock.seconds += 7.0


class Timed(Clock, Throughput):
    pass


def test_throughput_leaves_out_what_is_not_training():
    rows = []

    class Collect(Clock, StepCallback):
        def on_step(self, step, logs):
            if logs:
                rows.append((step, logs["images_per_second"], logs["fraction_of_peak"]))

    peak = accelerator("T4").float16
    timed = Timed(4, flops_per_image=peak / 64, peak_flops=peak)  # 64 images a second at best
    fit(dense(), Pass(), Slow(3), timed, Slow(2), Collect(4), validation_data=(X[:8], Y[:8]))
    # Windows: steps 1 to 4 and 4 to 8, of 4 images and a quarter of a second a step.
    assert rows == [(4, pytest.approx(16.0), 0.25), (8, pytest.approx(16.0), 0.25)]


@pytest.mark.skipif(ON_TORCH, reason="Keras has no steps_per_execution on PyTorch")
def test_batch_sizes_that_cannot_be_known_are_asked_for():
    def batches():
        for size in (4, 3, 4, 4):
            yield X[:size], Y[:size]

    with pytest.raises(ValueError, match="11 images in 3 steps"):
        dense(steps_per_execution=3).fit(batches(), verbose=0, callbacks=[Throughput(2)])


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"flops_per_image": -1.0}, {"peak_flops": 0.0}]
)
def test_throughput_refuses_what_is_not_positive(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Throughput(3, **options)


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
@pytest.mark.parametrize("classes", [None, 7])
def test_the_flops_of_our_own_models_are_known(pooling, classes):
    model = ViT("mu/4", classes, image_size=(8, 12), pooling=pooling)
    forward = forward_flops(preset("mu/4"), (8, 12), pooling=pooling, num_classes=classes)
    assert vit_training_flops(model) == 3 * forward


def test_the_flops_of_other_models_are_not():
    assert vit_training_flops(dense()) is None


def test_the_package_knows_its_callbacks():
    assert set(training.callbacks.__all__) - set(training.__all__) == {"StepCounter"}
    with pytest.raises(AttributeError, match="Cooldwn"):
        training.Cooldwn  # noqa: B018
