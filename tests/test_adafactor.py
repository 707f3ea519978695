"""Adafactor against optax and against a NumPy loop that rounds on storing."""

import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import as_numpy
from trajectory import STEPS, make_case, trajectory, variable

from keras_vit_scale import Adafactor
from keras_vit_scale.optimizers.adafactor import factored_axes

SHAPES = {
    "matrix_kernel": (37, 41),
    "wide_kernel": (41, 37),
    "heads_kernel": (53, 5, 33),  # width x heads x features: factored around the heads
    "small_kernel": (31, 64),  # one axis below 32: full second moment
    "bias": (43,),
}


@pytest.mark.parametrize("momentum", [0.9, None])
def test_equals_optax_step_by_step(momentum, rng):
    import jax
    import jax.numpy as jnp
    import optax

    values, gradients = make_case(rng, SHAPES)
    rate, decay = 0.03, 0.1
    ours = trajectory(
        Adafactor(rate, weight_decay=decay, momentum=momentum, momentum_dtype="float32"),
        values,
        gradients,
        {},
    )
    theirs = optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=0.8, min_dim_size_to_factor=32, epsilon=1e-30, step_offset=0
        ),
        *([optax.ema(momentum, debias=False, accumulator_dtype=jnp.float32)] if momentum else []),
        optax.add_decayed_weights(
            decay, mask=lambda params: {name: name.endswith("kernel") for name in params}
        ),
        optax.scale(-rate),
    )
    params = {n: jnp.asarray(v) for n, v in values.items()}
    state, update = theirs.init(params), jax.jit(theirs.update)
    for step in range(STEPS):
        grads = {n: jnp.asarray(g[step]) for n, g in gradients.items()}
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for name, value in zip(values, ours[step], strict=True):
            np.testing.assert_allclose(value, params[name], rtol=1e-6, atol=1e-6, err_msg=name)


def loop_adafactor(w, gradients, rate, decay, dtype, axes, cap=0.999):
    """The update rule in float32 as the paper writes it, rounding on storing."""
    f32 = np.float32
    m = np.zeros(w.shape, dtype)
    v = np.zeros(w.shape, f32)
    row = column = f32(0)
    steps = []
    for t, g in enumerate(gradients, start=1):
        beta = f32(min(cap, 1 - t**-0.8))
        squared = g * g + f32(1e-30)
        if axes is None:
            v = beta * v + (1 - beta) * squared
        else:
            minor, major = axes
            row = beta * row + (1 - beta) * squared.mean(major, keepdims=True)
            column = beta * column + (1 - beta) * squared.mean(minor, keepdims=True)
            v = row * column / row.mean(minor, keepdims=True)
        update = f32(0.9) * m.astype(f32) + f32(0.1) * (g / np.sqrt(v))
        w = w - f32(rate) * (update + f32(decay) * w)
        m = update.astype(dtype)
        steps.append(w)
    return steps


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_equals_a_loop_that_rounds_on_storing(name, dtype, rng):
    values, gradients = make_case(rng, {name: SHAPES[name]})
    ours = trajectory(
        Adafactor(0.03, weight_decay=0.1, momentum_dtype=dtype), values, gradients, {}
    )
    axes = {
        "matrix_kernel": (0, 1), "wide_kernel": (1, 0), "heads_kernel": (2, 0),
        "small_kernel": None, "bias": None,
    }[name]  # fmt: skip
    expected = loop_adafactor(
        values[name],
        gradients[name],
        0.03,
        0.1 if name.endswith("kernel") else 0.0,
        ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32,
        axes,
    )
    # A value that falls on the edge between two bfloat16 numbers may round either way when
    # float32 sums differ in their last bit: then it moves by rate * 0.9 * 2^-8 of the update.
    atol = 1e-6 if dtype == "float32" else 3e-4
    for step in range(STEPS):
        np.testing.assert_allclose(ours[step][0], expected[step], rtol=1e-6, atol=atol)
        close = np.isclose(ours[step][0], expected[step], rtol=1e-6, atol=1e-6)
        assert close.mean() > 0.99


def test_cap_of_the_second_moment_is_reached(rng):
    """1 - t^-0.8 passes 0.5 at t = 3: a low cap shows in few steps."""
    values, gradients = make_case(rng, {"bias": (43,)})
    ours = trajectory(
        Adafactor(0.03, beta_2_cap=0.5, momentum_dtype="float32"), values, gradients, {}
    )
    expected = loop_adafactor(values["bias"], gradients["bias"], 0.03, 0, np.float32, None, cap=0.5)
    np.testing.assert_allclose(ours[-1][0], expected[-1], rtol=1e-6, atol=1e-6)


def test_the_papers_cap_is_reached_after_thousands_of_steps():
    """At update 10,000 its 1 - t^-0.8 would be 0.99937: of a first gradient of 1 remains 0.001."""
    w = variable(np.ones(3), "bias")
    optimizer = Adafactor()
    optimizer.build([w])
    optimizer._iterations.assign(9_999)
    optimizer.apply([keras.ops.ones(3)])
    (second,) = (v for v in optimizer.variables if "second_moment" in v.path)
    np.testing.assert_allclose(as_numpy(second), 0.001, rtol=1e-4)


@pytest.mark.parametrize(("shape", "stack_axis"), [((37, 41), 0), ((37, 41), 1), ((53, 5, 33), 0)])
def test_a_stack_is_treated_block_by_block(shape, stack_axis, rng):
    """A stacked array moves as its blocks would, each an array of its own."""
    blocks = {f"block{i}_kernel": shape for i in range(3)}
    values, gradients = make_case(rng, blocks)
    apart = trajectory(Adafactor(0.03, weight_decay=0.1), values, gradients, {})
    stacked = trajectory(
        Adafactor(0.03, weight_decay=0.1),
        {"stack_kernel": np.stack(list(values.values()), stack_axis)},
        {"stack_kernel": np.stack(list(gradients.values()), stack_axis + 1)},
        {"stack_kernel": stack_axis},
    )
    for step in range(STEPS):
        expected = np.stack(apart[step], stack_axis)
        np.testing.assert_allclose(stacked[step][0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "stack_axis", "axes"),
    [
        ((37, 41), None, (0, 1)),
        ((41, 37), None, (1, 0)),
        ((31, 64), None, None),
        ((64,), None, None),
        ((53, 5, 33), None, (2, 0)),
        ((99, 53, 5, 33), 0, (3, 1)),  # the stack is longest, and is no candidate
        ((99, 31, 5, 33), 0, None),
        ((48, 32), 0, None),
        ((32, 32), None, (0, 1)),
    ],
)
def test_the_two_largest_axes_are_factored(shape, stack_axis, axes):
    assert factored_axes(shape, 32, stack_axis) == axes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "`momentum` must be None or in"),
        ({"momentum_dtype": "float16"}, "`momentum_dtype` must be one of"),
        ({"beta_2_cap": 1.0}, "`beta_2_cap` must be in"),
        ({"epsilon": 0.0}, "`epsilon` must be positive"),
        ({"min_dim_size_to_factor": 0}, "`min_dim_size_to_factor` must be positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adafactor(**options)
