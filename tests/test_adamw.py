"""AdamW against optax in float64, and against a NumPy loop that rounds on storing."""

import ml_dtypes
import numpy as np
import pytest
from trajectory import STEPS, make_case, trajectory

from keras_vit_scale import AdamW
from keras_vit_scale.optimizers.adamw import bias_correction

SHAPES = {
    "matrix_kernel": (13, 7),
    "heads_kernel": (11, 3, 5),
    "stack_kernel": (2, 13, 7),
    "bias": (17,),
}


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.95)])
def test_equals_optax_step_by_step(betas, rng):
    import jax
    import jax.numpy as jnp
    import optax

    values, gradients = make_case(rng, SHAPES)
    ours = trajectory(
        AdamW(
            0.03,
            weight_decay=0.1,
            beta_1=betas[0],
            beta_2=betas[1],
            epsilon=1e-5,
            momentum_dtype="float32",
        ),
        values,
        gradients,
        {"stack_kernel": 0},
    )
    # In float64, since optax in float32 has five digits of 1 - 0.999^t.
    with jax.enable_x64():
        theirs = optax.adamw(
            0.03,
            *betas,
            eps=1e-5,
            weight_decay=0.1,
            mask=lambda params: {name: name.endswith("kernel") for name in params},
        )
        params = {n: jnp.asarray(v, "float64") for n, v in values.items()}
        state, update = theirs.init(params), jax.jit(theirs.update)
        for step in range(STEPS):
            grads = {n: jnp.asarray(g[step], "float64") for n, g in gradients.items()}
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            for name, value in zip(values, ours[step], strict=True):
                assert params[name].dtype == "float64"
                # The weights are near 1, and so is the size of what is rounded.
                np.testing.assert_allclose(
                    value, params[name], rtol=1e-6, atol=1e-6, err_msg=f"{name} at {step}"
                )


def loop_adamw(w, gradients, rate, decay, dtype):
    """The update rule in float32 as the docstring writes it, rounding on storing."""
    f32 = np.float32
    m, v = np.zeros(w.shape, dtype), np.zeros(w.shape, f32)
    steps = []
    for t, g in enumerate(gradients, start=1):
        unrounded = f32(0.9) * m.astype(f32) + f32(0.1) * g
        v = f32(0.999) * v + f32(0.001) * g * g
        corrected = v / f32(1 - 0.999**t)
        update = unrounded / f32(1 - 0.9**t) / (np.sqrt(corrected) + f32(1e-8))
        w = w - f32(rate) * (update + f32(decay) * w)
        m = unrounded.astype(dtype)
        steps.append(w)
    return steps


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_equals_a_loop_that_rounds_on_storing(dtype, rng):
    values, gradients = make_case(rng, SHAPES)
    stacks = {"stack_kernel": 0}
    ours = trajectory(
        AdamW(0.03, weight_decay=0.1, momentum_dtype=dtype), values, gradients, stacks
    )
    stored = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32
    # A value on the edge between two bfloat16 numbers may round either way when float32 sums
    # differ in their last bit; it then moves by 0.9 * 2^-8 of a step of 0.03, and less later.
    atol = 1e-6 if dtype == "float32" else 3e-4
    for i, name in enumerate(values):
        decay = 0.1 if name.endswith("kernel") else 0.0
        expected = np.stack(loop_adamw(values[name], gradients[name], 0.03, decay, stored))
        moved = np.stack([step[i] for step in ours])
        np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=atol, err_msg=name)
        assert np.isclose(moved, expected, rtol=1e-6, atol=1e-6).mean() > 0.99, name


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.999999])
def test_bias_correction_keeps_its_digits(beta):
    steps = np.array([1, 2, 17, 1e3, 1e6], "float32")
    expected = -np.expm1(steps.astype("float64") * np.log(beta)) if beta else 1.0
    corrections = [float(bias_correction(beta, float(step))) for step in steps]
    np.testing.assert_allclose(corrections, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta_1": 1.0}, r"`beta_1` must be in \[0, 1\)"),
        ({"beta_2": -0.1}, r"`beta_2` must be in \[0, 1\)"),
        ({"beta_2": None}, r"`beta_2` must be in \[0, 1\)"),
        ({"epsilon": 0.0}, "`epsilon` must be positive"),
        ({"momentum_dtype": "float61"}, "`momentum_dtype` must be one of"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdamW(**options)
