"""Gradients that are not finite: skipped with the state's every bit, and counted."""

import keras
import numpy as np
import pytest
from conftest import as_numpy
from trajectory import make_case, variable

from keras_vit_scale import Adafactor, AdamW, Momentum

OURS = pytest.mark.parametrize("kind", [Adafactor, AdamW, Momentum])
SHAPES = {"stack_kernel": (3, 37, 41), "bias": (43,)}
COUNTERS = ("iteration", "skipped", "skipped_in_a_row", "most_skipped_in_a_row")


def apply(optimizer, gradients):
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients])


def state(optimizer, weights):
    """Copies of all that training depends on but for the counts of steps."""
    kept = [v for v in optimizer.variables if v.name not in COUNTERS]
    return {v.path: as_numpy(v).copy() for v in [*weights, *kept]}


def assert_same_bits(state, other):
    assert state.keys() == other.keys()
    for path, value in state.items():
        assert value.tobytes() == other[path].tobytes(), path


def spoil(gradients, how):
    """One value of one array, a row, or all of all."""
    first, second = (g.copy() for g in gradients)
    if how == "inf in one":
        second[5] = np.inf
    elif how == "nan in one":
        first[2, 3, 5] = np.nan
    elif how == "overflow":  # finite, but its square is not
        first[1, 2] = 3e19
    else:
        first[:], second[:] = np.nan, -np.inf
    return [first, second]


# By name: which steps of eight are bad, and how; options.
CASES = {
    "inf at first": ({0: "inf in one"}, {}),
    "nan in the middle": ({3: "nan in one"}, {"clipnorm": 1.0, "use_ema": True}),
    "all, twice, at first": ({0: "all", 1: "all"}, {"global_clipnorm": 1.0, "use_ema": True}),
    "overflow and last": ({2: "overflow", 7: "inf in one"}, {"clipvalue": 1.0}),
    "twice": (
        {1: "nan in one", 4: "all", 5: "inf in one"},
        {"record_norms": True, "global_clipnorm": 1.0, "loss_scale_factor": 2.0**9},
    ),
}


@OURS
@pytest.mark.parametrize(("bad", "options"), CASES.values(), ids=CASES)
def test_what_is_skipped_might_never_have_been(kind, bad, options, rng):
    """A twin without the option that sees the good gradients alone ends with the same bits."""
    values, gradients = make_case(rng, SHAPES)
    weights, twins = ([variable(v, n) for n, v in values.items()] for _ in "12")
    # A decay for a stack and at a rate that does not depend on the step.
    optimizer = kind(0.03, weight_decay=0.1, skip_nonfinite=True, **options)
    twin = kind(0.03, weight_decay=0.1, **options)
    for o, v in ((optimizer, weights), (twin, twins)):
        v[0].stack_axis = 0
        o.build(v)
    in_a_row = most = 0
    for step in range(8):
        good = [gradients[n][step] for n in SHAPES]
        before = state(optimizer, weights)
        if step in bad:
            apply(optimizer, spoil(good, bad[step]))
            assert_same_bits(state(optimizer, weights), before)
        else:
            apply(optimizer, good)
            apply(twin, good)
        in_a_row = in_a_row + 1 if step in bad else 0
        most = max(most, in_a_row)
        assert int(as_numpy(optimizer.iterations)) == step + 1
        assert int(as_numpy(optimizer.skipped_in_a_row)) == in_a_row
    assert int(as_numpy(optimizer.skipped)) == len(bad)
    assert int(as_numpy(optimizer.most_skipped_in_a_row)) == most
    ours = state(optimizer, weights)
    assert int(ours.pop(f"{optimizer.name}/updates")) == 8 - len(bad)
    assert_same_bits(ours, state(twin, twins))


@OURS
def test_of_accumulated_batches_the_good_ones_count(kind, rng):
    """Updates by the mean of what was left of three batches; one of none is none."""
    values, gradients = make_case(rng, SHAPES)
    weights, twins = ([variable(v, n) for n, v in values.items()] for _ in "12")
    # The means have norms of 102 and are clipped; a sum of two divided by three would not be.
    options = {"weight_decay": 0.1, "global_clipnorm": 85.0}
    optimizer = kind(0.03, skip_nonfinite=True, gradient_accumulation_steps=3, use_ema=True,
                     ema_momentum=0.5, **options)  # fmt: skip
    twin = kind(0.03, use_ema=True, ema_momentum=0.5, **options)
    optimizer.build(weights)
    twin.build(twins)
    windows = {(0, 1, 2): (1,), (3, 4, 5): (3, 4, 5), (6, 7, 8): (8,), (9, 10, 11): ()}
    for batches, bad in windows.items():
        void = state(optimizer, weights)
        for batch in batches:
            good = [gradients[n][batch] for n in SHAPES]
            before = state(optimizer, weights)
            apply(optimizer, spoil(good, "all") if batch in bad else good)
            if batch in bad and batch != batches[-1]:
                assert_same_bits(state(optimizer, weights), before)
        left = [b for b in batches if b not in bad]
        if not left:
            assert_same_bits(state(optimizer, weights), void)
            continue
        apply(twin, [np.mean([gradients[n][b] for b in left], axis=0) for n in SHAPES])
        for a, b in zip(weights, twins, strict=True):
            np.testing.assert_allclose(as_numpy(a), as_numpy(b), rtol=1e-5, atol=1e-6)
    assert int(as_numpy(optimizer.skipped)) == 5
    assert int(as_numpy(optimizer.most_skipped_in_a_row)) == 3
    accumulators = [as_numpy(v) for v in optimizer.variables if "accumulator" in v.path]
    assert len(accumulators) == 2
    assert not any(a.any() for a in accumulators)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the oracle is of JAX")
def test_optax_skips_the_same(rng):
    """`optax.apply_if_finite` of its own Adam: which updates count for the correction of bias."""
    import optax

    values, gradients = make_case(rng, SHAPES)
    weights = [variable(v, n) for n, v in values.items()]
    optimizer = AdamW(0.03, momentum_dtype="float32", skip_nonfinite=True)
    optimizer.build(weights)
    theirs = [values[n] for n in SHAPES]
    rule = optax.apply_if_finite(optax.adam(0.03), max_consecutive_errors=9)
    memory = rule.init(theirs)
    for step in range(8):
        gradient = [gradients[n][step] for n in SHAPES]
        if step in (0, 3, 4):
            gradient = spoil(gradient, "nan in one")
        apply(optimizer, gradient)
        updates, memory = rule.update(gradient, memory, theirs)
        theirs = optax.apply_updates(theirs, updates)
        assert int(as_numpy(optimizer.skipped_in_a_row)) == int(memory.notfinite_count)
        for ours, other in zip(weights, theirs, strict=True):
            np.testing.assert_allclose(as_numpy(ours), np.asarray(other), rtol=1e-5, atol=1e-6)
    assert int(as_numpy(optimizer.skipped)) == int(memory.total_notfinite) == 3


@OURS
@pytest.mark.parametrize("accumulated", [None, 2])
def test_compiled_by_fit_it_skips_batches_of_nan(kind, accumulated, rng):
    x = rng.normal(size=(28, 5)).astype("float32")
    x[8:12] = np.nan  # the third batch
    layers = [keras.Input((5,)), keras.layers.Dense(3, name="head")]
    model = keras.Sequential(layers)
    optimizer = kind(
        0.1, skip_nonfinite=True, use_ema=True, ema_at_end=False,
        gradient_accumulation_steps=accumulated,
    )  # fmt: skip
    model.compile(optimizer, "mse", jit_compile=keras.backend.backend() != "torch")
    y = np.zeros((28, 3), "float32")
    states = []
    for batch in range(7):
        part = slice(4 * batch, 4 * batch + 4)
        model.train_on_batch(x[part], y[part])
        states.append(state(optimizer, model.trainable_variables))
    assert_same_bits(states[2], states[1])
    assert (int(as_numpy(optimizer.skipped)), int(as_numpy(optimizer._iterations))) == (1, 7)
    assert not np.array_equal(*(s[model.trainable_variables[0].path] for s in states[3::2]))
    assert all(np.isfinite(value).all() for value in states[6].values())
    again = kind.from_config(optimizer.get_config())
    assert again.skip_nonfinite is True


@OURS
def test_without_the_option_nothing_is_counted(kind):
    optimizer = kind(0.1)
    optimizer.build([variable(np.ones(3), "bias")])
    assert optimizer.skipped is None
    assert not [v.path for v in optimizer.variables if "skipped" in v.path or "updates" in v.path]
    with pytest.raises(ValueError, match="`skip_nonfinite` must be True or False"):
        kind(skip_nonfinite=1)
    with pytest.raises(ValueError, match="cannot go with `ema_overwrite_frequency`"):
        kind(skip_nonfinite=True, use_ema=True, ema_overwrite_frequency=3)
