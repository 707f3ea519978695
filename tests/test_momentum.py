"""Momentum against optax, against Keras' SGD, and against a NumPy loop that rounds on storing."""

import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import as_numpy
from trajectory import STEPS, make_case, trajectory, variable

from keras_vit_scale import Cosine, Momentum

SHAPES = {
    "matrix_kernel": (13, 7),
    "heads_kernel": (11, 3, 5),
    "stack_kernel": (2, 13, 7),
    "bias": (17,),
}
RATE = Cosine(0.3, warmup_steps=3, decay_steps=STEPS - 3)


@pytest.mark.parametrize("limit", [1.0, 1e9])
def test_equals_the_authors_chain_in_optax(limit, rng):
    """Clip, then trace, then the rate, which rises and falls: in float32, step by step."""
    import jax
    import jax.numpy as jnp
    import optax

    values, gradients = make_case(rng, SHAPES)
    ours = trajectory(
        Momentum(RATE, momentum_dtype="float32", global_clipnorm=limit),
        values,
        gradients,
        {"stack_kernel": 0},
    )
    rates = [float(as_numpy(RATE(t))) for t in range(STEPS)]
    with jax.enable_x64():
        theirs = optax.chain(
            optax.clip_by_global_norm(limit),
            optax.trace(0.9),
            optax.scale_by_schedule(lambda t: jnp.asarray(rates)[t]),
            optax.scale(-1.0),
        )
        params = {n: jnp.asarray(v, "float64") for n, v in values.items()}
        state, update = theirs.init(params), jax.jit(theirs.update)
        for step in range(STEPS):
            grads = {n: jnp.asarray(g[step], "float64") for n, g in gradients.items()}
            updates, state = update(grads, state)
            params = optax.apply_updates(params, updates)
            for name, value in zip(values, ours[step], strict=True):
                # Relative to the largest: sums of large steps leave their rounding in small ones.
                scale = np.abs(params[name]).max()
                np.testing.assert_allclose(
                    value, params[name], rtol=1e-6, atol=1e-6 * scale, err_msg=f"{name} at {step}"
                )


def test_equals_keras_sgd_only_while_the_rate_stays(rng):
    values, gradients = make_case(rng, {"kernel": (5, 3)})

    def both(rate):
        ours = trajectory(Momentum(rate, momentum_dtype="float32"), values, gradients, {})
        theirs = trajectory(keras.optimizers.SGD(rate, momentum=0.9), values, gradients, {})
        return np.array(ours), np.array(theirs)

    np.testing.assert_allclose(*both(0.1), rtol=1e-5, atol=1e-5)
    ours, theirs = both(RATE)
    assert np.abs(ours - theirs).max() > 0.1


def test_equals_a_loop_that_rounds_on_storing(rng):
    values, gradients = make_case(rng, SHAPES)
    ours = trajectory(Momentum(0.03, weight_decay=0.1), values, gradients, {"stack_kernel": 0})
    for i, name in enumerate(values):
        decay = np.float32(0.1 if name.endswith("kernel") else 0.0)
        w = values[name]
        m = np.zeros(w.shape, ml_dtypes.bfloat16)
        for step, g in enumerate(gradients[name]):
            unrounded = np.float32(0.9) * m.astype(np.float32) + g
            w = w - np.float32(0.03) * (unrounded + decay * w)
            m = unrounded.astype(ml_dtypes.bfloat16)
            # A value on the edge between two bfloat16 numbers may round either way: 2^-8 of it.
            edge = 0.03 * 0.9 * 2.0**-8 * np.abs(gradients[name]).max(0).sum() + 1e-6
            np.testing.assert_allclose(ours[step][i], w, rtol=1e-5, atol=edge)
            assert np.isclose(ours[step][i], w, rtol=1e-5, atol=1e-5).mean() > 0.98


def test_state_is_half_a_parameter():
    w = variable(np.ones((13, 7)), "a_kernel")
    optimizer = Momentum()
    optimizer.build([w])
    (slot,) = (v for v in optimizer.variables if len(v.shape))
    assert (tuple(slot.shape), slot.dtype) == ((13, 7), "bfloat16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\)"),
        ({"momentum": None}, r"`momentum` must be in \[0, 1\)"),
        ({"momentum_dtype": "float61"}, "`momentum_dtype` must be one of"),
        ({"ema_at_end": 1}, "`ema_at_end` must be True or False"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Momentum(**options)
