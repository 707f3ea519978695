"""The schedule against its closed form, step by step in Python floats."""

import math

import keras
import numpy as np
import pytest

from keras_vit_scale import ReciprocalSqrt


def closed_form(t, peak, warmup, timescale, total=None, cooldown=0):
    rate = peak * (min(1, t / warmup) if warmup else 1)
    rate /= math.sqrt(1 + max(0, t - warmup) / timescale)
    if total is not None and cooldown:
        rate *= max(0, min(1, (total - t) / cooldown))
    return rate


@pytest.mark.parametrize(
    ("warmup", "timescale", "total", "cooldown"),
    [
        (10, 7, None, 0),
        (0, 7, None, 0),
        (10, 7, 43, 13),
        (0, 5, 43, 43),
        (11, 5, 43, 0),
        (30, 9, 43, 13),
    ],
)
def test_equals_the_closed_form_at_every_step(warmup, timescale, total, cooldown):
    schedule = ReciprocalSqrt(
        8e-4, warmup_steps=warmup, timescale=timescale, total_steps=total, cooldown_steps=cooldown
    )
    for t in range(total or 60):
        expected = closed_form(t, 8e-4, warmup, timescale, total, cooldown)
        assert float(schedule(t)) == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert float(schedule(keras.ops.convert_to_tensor(t))) == pytest.approx(
            expected, rel=1e-6, abs=1e-12
        )


def test_paper_scale_keeps_float32_exact_enough():
    schedule = ReciprocalSqrt(8e-4, total_steps=2_000_000, cooldown_steps=50_000)
    for t in (0, 1, 9_999, 10_000, 10_001, 1_949_999, 1_950_000, 1_999_999):
        expected = closed_form(t, 8e-4, 10_000, 10_000, 2_000_000, 50_000)
        assert float(schedule(t)) == pytest.approx(expected, rel=1e-6)


def test_a_branch_leaves_the_trunk_where_its_cooldown_begins():
    trunk = ReciprocalSqrt(0.3, warmup_steps=5, timescale=11)
    branch = trunk.with_cooldown(total_steps=41, cooldown_steps=17)
    rates = np.array([[float(s(t)) for t in range(42)] for s in (trunk, branch)])
    np.testing.assert_array_equal(rates[0, :25], rates[1, :25])
    assert (rates[1, 25:] < rates[0, 25:]).all()
    assert rates[1, 41] == 0
    # The last update is step 40: it still moves, by 1/17 of the trunk's rate.
    assert rates[1, 40] == pytest.approx(rates[0, 40] / 17, rel=1e-6)


def test_is_serialised():
    schedule = ReciprocalSqrt(0.3, warmup_steps=5, timescale=11, total_steps=41, cooldown_steps=17)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert type(again) is ReciprocalSqrt
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak": 0.0}, "`peak` must be positive"),
        ({"timescale": -1}, "`timescale` must be positive"),
        ({"warmup_steps": -1}, "`warmup_steps` must be a whole number"),
        ({"warmup_steps": 2.5}, "`warmup_steps` must be a whole number"),
        ({"cooldown_steps": 5}, "needs an end"),
        ({"total_steps": 9, "cooldown_steps": 5}, "must not be longer than the run"),
        ({"total_steps": 4}, "must not be longer than the run"),
    ],
)
def test_contradictory_durations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ReciprocalSqrt(**{"peak": 0.1, "warmup_steps": 5, **options})
