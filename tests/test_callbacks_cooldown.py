"""A cooldown begun during a run: the weights of a run that knew of it from the beginning."""

from datetime import UTC, datetime

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import ReciprocalSqrt
from keras_vit_scale.training import Cooldown
from keras_vit_scale.training.callbacks.cooldown import (
    check_alone,
    cooldown_length,
    length_for_deadline,
)

X = np.random.default_rng(5).normal(size=(160, 5)).astype("float32")
Y = (X.sum(1, keepdims=True) ** 2).astype("float32")
TRUNK = ReciprocalSqrt(0.02, warmup_steps=3, timescale=5)


def compiled(schedule=TRUNK, scaled=False):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, activation="tanh"),
            keras.layers.Dropout(0.3, seed=13),
            keras.layers.Dense(1),
        ]
    )
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0)
    model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, start=0, **options):
    """40 steps, unless they are stopped."""
    x, y = X[4 * start :], Y[4 * start :]
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=list(callbacks), **options)
    return model


def state(model):
    return [as_numpy(v.value) for v in [*model.variables, *model.optimizer.variables]]


def assert_same_run(ours, theirs):
    for a, b in zip(state(ours), state(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


class Steps(Cooldown):
    """A clock by which every step takes two seconds and the first one twelve."""

    def now(self):
        return 2.0 * self.step + (10.0 if self.step else 0.0)


class Touch(keras.callbacks.Callback):
    def __init__(self, path, batch):
        super().__init__()
        self.path, self.batch = path, batch

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.batch:
            self.path.touch()


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaled"])
def test_begun_by_a_file_it_is_the_run_compiled_with_that_cooldown(scaled, tmp_path, caplog):
    caplog.set_level("INFO")
    signal = tmp_path / "cool down"
    cooldown = Steps(9, at_step=37, when_file=signal)
    ours = fit(compiled(scaled=scaled), Touch(signal, 14), cooldown)
    # Looked for each second, which is each step here, and before the later `at_step`.
    assert (cooldown.start, cooldown.total) == (14, 23)
    assert f"step 14 to step 23: {signal}" in caplog.text
    theirs = fit(compiled(TRUNK.with_cooldown(23, 9), scaled), steps_per_epoch=23)
    assert_same_run(ours, theirs)


def test_at_a_step_it_is_known_from_the_beginning_and_survives_an_interruption():
    whole = fit(compiled(), Cooldown(0.25, at_step=18))
    theirs = fit(compiled(TRUNK.with_cooldown(24, 6)), steps_per_epoch=24)
    assert_same_run(whole, theirs)
    # Interrupted within the cooldown, and gone on with in a new model with the trunk's schedule.
    first = fit(compiled(), Cooldown(0.25, at_step=18), steps_per_epoch=21)
    second = compiled()
    second.optimizer.build(second.trainable_variables)
    for variable, value in zip(
        [*second.variables, *second.optimizer.variables], state(first), strict=True
    ):
        variable.assign(value)
    assert_same_run(fit(second, Cooldown(0.25, at_step=18), start=21), theirs)
    with pytest.raises(ValueError, match="ends at 24"):
        fit(second, Cooldown(0.25, at_step=18))


def test_a_schedule_with_an_end_is_only_stopped_there():
    model = compiled(TRUNK.with_cooldown(12, 5))
    cooldown = Cooldown(7, at_step=30)
    fit(model, cooldown, epochs=2)
    assert (cooldown.start, cooldown.total, int(model.optimizer.iterations)) == (7, 12, 12)


def test_a_deadline_is_met():
    """Each step takes 2 s and compiling 12, which is set aside: 71 s are 29 steps and a rest."""
    cooldown = Steps(10, deadline=12.0 + 2 * 29 + 1)
    model = fit(compiled(), cooldown)
    assert cooldown.total - cooldown.start == 10
    assert int(model.optimizer.iterations) == cooldown.total
    ended = cooldown.now() + 12.0  # compiled once more
    assert cooldown.deadline - 4 <= ended <= cooldown.deadline
    theirs = fit(compiled(TRUNK.with_cooldown(cooldown.total, 10)), steps_per_epoch=cooldown.total)
    assert_same_run(model, theirs)


def test_a_deadline_too_near_shortens_the_cooldown():
    cooldown = Steps(30, deadline=50.0)
    with pytest.warns(UserWarning, match="cooldown of 30 steps"):
        model = fit(compiled(), cooldown)
    assert 3 <= cooldown.start < cooldown.total <= 20  # not within the warm-up
    assert cooldown.now() <= cooldown.deadline
    assert int(model.optimizer.iterations) == cooldown.total


@pytest.mark.parametrize(
    ("start", "steps", "length"),
    [(900, 50, 50), (900, 0.1, 100), (7, 0.5, 7), (3, 0.01, 1), (0, 0.5, 1)],
)
def test_lengths(start, steps, length):
    assert cooldown_length(start, steps) == length


@pytest.mark.parametrize(
    ("steps", "left", "margin", "length"),
    [
        (10, 31.0, 0.0, None),  # 15 steps of 2 s are possible, 10 needed
        (10, 20.0, 0.0, 10),  # just enough
        (10, 23.0, 3.0, 10),  # at the next look it would be too late
        (10, 25.0, 3.0, None),
        (10, 7.9, 1.0, 3),  # too late
        (10, -5.0, 1.0, 1),
        (0.25, 70.0, 0.0, None),  # at step 100, a quarter of 133
        (0.25, 66.0, 0.0, 33),
    ],
)
def test_when_a_deadline_asks_for_it(steps, left, margin, length):
    assert length_for_deadline(100, steps, left, 2.0, margin) == length


@pytest.mark.parametrize(
    ("steps", "options", "match"),
    [
        (0, {"at_step": 3}, "steps=0"),
        (1.0, {"at_step": 3}, "steps=1.0"),
        (True, {"at_step": 3}, "steps=True"),
        (5, {}, "none of"),
        (5, {"at_step": 2.5}, "at_step=2.5"),
        (5, {"deadline": datetime(2030, 1, 1)}, "time zone"),
        (5, {"deadline": "tomorrow"}, "tomorrow"),
    ],
)
def test_arguments_out_of_range_are_refused(steps, options, match):
    with pytest.raises(ValueError, match=match):
        Cooldown(steps, **options)


@pytest.mark.parametrize(
    ("schedule", "options", "match"),
    [
        (0.1, {"at_step": 5}, "ReciprocalSqrt"),
        (keras.optimizers.schedules.CosineDecay(0.1, 9), {"at_step": 5}, "CosineDecay"),
        (TRUNK, {"at_step": 2}, "Warm-up"),
        (TRUNK, {"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, "future"),
    ],
    ids=["number", "other schedule", "in the warm-up", "past"],
)
def test_what_does_not_fit_is_refused_before_training(schedule, options, match):
    model = compiled(schedule)
    with pytest.raises(ValueError, match=match):
        fit(model, Cooldown(5, **options))
    assert int(model.optimizer.iterations) == 0


def test_several_processes_cannot_agree_on_a_deadline():
    check_alone(1)
    with pytest.raises(ValueError, match="at_step"):
        check_alone(2)
