"""Every schedule against its closed form in float64, step by step, and against optax."""

import keras
import numpy as np
import pytest

from keras_vit_scale import Adafactor, Constant, Cosine, Linear, ReciprocalSqrt
from keras_vit_scale.schedules import Schedule
from keras_vit_scale.schedules.branching import Branching

PEAK = 8e-4
NEEDED = {ReciprocalSqrt: {"timescale": 7}, Constant: {}, Linear: {"decay_steps": 23},
          Cosine: {"decay_steps": 23}}  # fmt: skip
SCHEDULES = list(NEEDED)


def closed_form(kind, t, warmup, total=None, cooldown=0, timescale=7, decay_steps=23, final=0.0):
    """The rates as the docstrings write them."""
    t = np.asarray(t, "float64")
    done = np.clip((t - warmup) / decay_steps, 0, 1)
    rate = (
        PEAK
        * {
            ReciprocalSqrt: 1 / np.sqrt(1 + np.maximum(0, t - warmup) / timescale),
            Constant: np.ones_like(t),
            Linear: final + (1 - final) * (1 - done),
            # (1 + cos(pi p)) / 2, whose digits cancel where p nears 1.
            Cosine: final + (1 - final) * np.cos(np.pi * done / 2) ** 2 * (done < 1),
        }[kind]
    )
    if warmup:
        rate = rate * np.minimum(1, t / warmup)
    if total is not None and cooldown:
        rate = rate * np.clip((total - t) / cooldown, 0, 1)
    return rate


@pytest.mark.parametrize(
    ("warmup", "total", "cooldown"),
    [(10, None, 0), (0, None, 0), (10, 43, 13), (0, 43, 43), (11, 43, 0), (30, 43, 13)],
)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ReciprocalSqrt, {"timescale": 7}),
        (ReciprocalSqrt, {"timescale": 0.5}),
        (Constant, {}),
        (Linear, {"decay_steps": 23}),
        (Linear, {"decay_steps": 31, "final": 0.3}),
        (Cosine, {"decay_steps": 23}),
        (Cosine, {"decay_steps": 1, "final": 1}),
        (Cosine, {"decay_steps": 31, "final": 0.3}),
    ],
)
def test_equals_the_closed_form_at_every_step(kind, options, warmup, total, cooldown):
    schedule = kind(
        PEAK, warmup_steps=warmup, total_steps=total, cooldown_steps=cooldown, **options
    )
    steps = np.arange(60)
    expected = closed_form(kind, steps, warmup, total, cooldown, **options)
    # A factor is a function of arrays too, so one call has every step.
    rates = keras.ops.convert_to_numpy(schedule(keras.ops.convert_to_tensor(steps)))
    assert rates.dtype == "float32"
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=0)
    for t in (0, 17, 41):
        kinds_of_step = [
            t,
            float(t),
            np.int64(t),
            keras.Variable(t, dtype="int32", trainable=False),
        ]
        rates = [float(schedule(step)) for step in kinds_of_step]
        np.testing.assert_allclose(rates, expected[t], rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_usual_durations_are_the_papers(kind):
    """10,000 steps of warm-up; after as many more, rsqrt has fallen to 1 / sqrt(2)."""
    options = {} if kind in (ReciprocalSqrt, Constant) else {"decay_steps": 20_000}
    rates = [float(kind(PEAK, **options)(t)) / PEAK for t in (2_500, 10_000, 20_000)]
    halfway = {ReciprocalSqrt: 2**-0.5, Constant: 1, Linear: 0.5, Cosine: 0.5}[kind]
    np.testing.assert_allclose(rates, [0.25, 1, halfway], rtol=1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("millions", [2, 40])
def test_long_runs_keep_their_digits(kind, millions):
    """Above 2^24, 16.8 million, float32 has no odd steps; a cooldown's last steps need them."""
    total = millions * 1_000_000 + 1
    options = {} if kind is Constant else NEEDED[kind] if kind is ReciprocalSqrt else {
        "decay_steps": total + 6}  # fmt: skip
    schedule = kind(PEAK, warmup_steps=9_999, total_steps=total, cooldown_steps=50_000, **options)
    steps = np.array([0, 1, 9_998, 9_999, 10_001, total // 2, total - 50_001, total - 7, total - 1])
    rates = keras.ops.convert_to_numpy(schedule(keras.ops.convert_to_tensor(steps)))
    expected = closed_form(kind, steps, 9_999, total, 50_000, **options)
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=0)


def test_equals_the_schedules_of_optax():
    import optax

    steps = np.arange(60)
    theirs = {
        Cosine(0.3, warmup_steps=7, decay_steps=41, final=0.1): (
            # Optax counts the warm-up in, and its end is a rate.
            optax.warmup_cosine_decay_schedule(0.0, 0.3, 7, 48, end_value=0.03)
        ),
        Linear(0.3, warmup_steps=0, decay_steps=41, final=0.1): (
            optax.linear_schedule(0.3, 0.03, 41)
        ),
        Constant(0.3, warmup_steps=7): optax.warmup_constant_schedule(0.0, 0.3, 7),
        Constant(0.3, warmup_steps=0, total_steps=59, cooldown_steps=29): (
            optax.linear_schedule(0.3, 0.0, 29, transition_begin=30)
        ),
    }
    for ours, optax_schedule in theirs.items():
        rates = keras.ops.convert_to_numpy(ours(keras.ops.convert_to_tensor(steps)))
        # Optax computes in float32 with other roundings: 1e-6 of the peak.
        expected = [float(optax_schedule(t)) for t in steps]
        np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=0.3e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_branch_leaves_the_trunk_where_its_cooldown_begins(kind):
    options = {"final": 0.2} if kind in (Linear, Cosine) else {}
    trunk = kind(0.3, warmup_steps=5, **NEEDED[kind], **options)
    branch = trunk.with_cooldown(total_steps=41, cooldown_steps=17)
    rates = np.array([[float(s(t)) for t in range(42)] for s in (trunk, branch)])
    np.testing.assert_array_equal(rates[0, :25], rates[1, :25])
    assert (rates[1, 25:] < rates[0, 25:]).all()
    assert rates[1, 41] == 0
    # The last update is step 40: it still moves, by 1/17 of the trunk's rate.
    assert rates[1, 40] == pytest.approx(rates[0, 40] / 17, rel=1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_is_serialised_and_drives_an_optimizer_of_keras(kind):
    schedule = kind(0.3, warmup_steps=5, total_steps=41, cooldown_steps=17, **NEEDED[kind])
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert type(again) is kind
    assert again.get_config() == schedule.get_config()
    optimizer = keras.optimizers.SGD(again)
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([keras.ops.ones(1)])
    moved = 1 - float(keras.ops.convert_to_numpy(variable.value)[0])
    assert moved == pytest.approx(0.3 * (0 + 1 + 2) / 5, rel=1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak": 0.0}, "`peak` must be positive"),
        ({"peak": float("inf")}, "`peak` must be positive"),
        ({"peak": True}, "`peak` must be positive"),
        ({"peak": "1e-3"}, "`peak` must be positive"),
        ({"warmup_steps": -1}, "`warmup_steps` must be a whole number"),
        ({"warmup_steps": 2.5}, "`warmup_steps` must be a whole number"),
        ({"cooldown_steps": 5}, "needs an end"),
        ({"total_steps": 9, "cooldown_steps": 5}, "must not be longer than the run"),
        ({"total_steps": 4}, "must not be longer than the run"),
    ],
)
def test_contradictory_durations_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"peak": 0.1, "warmup_steps": 5, **NEEDED[kind], **options})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ReciprocalSqrt, {"timescale": -1}, "`timescale` must be positive"),
        (ReciprocalSqrt, {"timescale": float("nan")}, "`timescale` must be positive"),
        (Linear, {"decay_steps": 0}, "`decay_steps` must be a positive whole number"),
        (Cosine, {"decay_steps": 7.5}, "`decay_steps` must be a positive whole number"),
        (Cosine, {"decay_steps": 7, "final": 1.1}, "`final` must be a fraction of the peak"),
        (Linear, {"decay_steps": 7, "final": -0.1}, "`final` must be a fraction of the peak"),
        (Linear, {"decay_steps": 7, "final": True}, "`final` must be a fraction of the peak"),
    ],
)
def test_numbers_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(0.1, **options)


def test_a_schedule_of_ones_own_gives_its_decay():
    class Halving(Schedule):
        def decay(self, step):
            return 0.5 ** keras.ops.cast(step, "float32")

    branch = Halving(1.0, warmup_steps=0).with_cooldown(total_steps=5, cooldown_steps=2)
    assert [float(branch(t)) for t in range(6)] == [1, 0.5, 0.25, 0.125, 0.03125, 0]


def test_one_function_has_the_rates_of_a_trunk_and_of_branch_after_branch():
    trunk = ReciprocalSqrt(PEAK, warmup_steps=11, timescale=7)
    rate, steps = Branching(trunk), np.arange(60)
    assert np.array_equal(rate(steps), trunk(steps))
    for total, cooldown in ((43, 13), (29, 17), (31, 0)):
        rate.cool_down(total, cooldown)
        before = steps[: total + bool(cooldown)]
        branch = trunk.with_cooldown(total, cooldown)
        np.testing.assert_allclose(rate(before), branch(before), rtol=2e-7)
    with pytest.raises(ValueError, match="must not be longer than the run"):
        rate.cool_down(43, 33)


def test_a_compiled_step_follows_a_branch_that_is_set_later(monkeypatch):
    traced = []
    decay = ReciprocalSqrt.decay
    monkeypatch.setattr(ReciprocalSqrt, "decay", lambda *a: traced.append(1) or decay(*a))
    rate = Branching(ReciprocalSqrt(PEAK, warmup_steps=2, timescale=7))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    # The gradient hardly changes, so that without momentum the size of a step is the rate.
    model.compile(Adafactor(rate, momentum=None), loss="mse")
    x, y = np.ones((5, 3), "float32"), np.full((5, 1), 100.0, "float32")
    moved, times = [], []
    for cooldown in ((7, 3), (11, 9)):
        rate.cool_down(*cooldown)
        for _ in range(3):
            before = np.asarray(model.get_weights()[0])
            model.fit(x, y, verbose=0)
            moved.append(np.abs(model.get_weights()[0] - before).mean())
        times.append(len(traced))
    expected = [*(closed_form(ReciprocalSqrt, [0, 1, 2], 2, 7, 3)),
                *(closed_form(ReciprocalSqrt, [3, 4, 5], 2, 11, 9))]  # fmt: skip
    np.testing.assert_allclose(moved, expected, rtol=1e-2, atol=1e-6)
    if keras.backend.backend() != "torch":  # which compiles nothing
        assert times[0] == times[1]
