"""Adafactor against optax, against a NumPy loop that rounds on storing, and inside Keras."""

import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import TINY, as_numpy

import keras_vit_scale
from keras_vit_scale import Adafactor, ReciprocalSqrt, ViT, ViTConfig, head_and_body
from keras_vit_scale.optimizers.adafactor import factored_axes
from keras_vit_scale.optimizers.decay import decays_by_path

STEPS = 12


def variable(value, name, stack_axis=None):
    v = keras.Variable(value, name=name, dtype="float32")
    if stack_axis is not None:
        v.stack_axis = stack_axis
    return v


def trajectory(optimizer, values, gradients, stack_axes):
    """Weights after each step, for named arrays and their gradients."""
    variables = [variable(v, name, stack_axes.get(name)) for name, v in values.items()]
    optimizer.build(variables)
    steps = []
    for step in range(STEPS):
        optimizer.apply([keras.ops.convert_to_tensor(gradients[n][step]) for n in values])
        steps.append([as_numpy(v).copy() for v in variables])
    return steps


def make_case(rng, shapes):
    values = {n: rng.normal(size=s).astype("float32") for n, s in shapes.items()}
    gradients = {
        # Of very different sizes, so that scaling matters.
        n: (rng.normal(size=(STEPS, *s)) * 10.0 ** rng.uniform(-4, 1, size=s)).astype("float32")
        for n, s in shapes.items()
    }
    return values, gradients


SHAPES = {
    "matrix_kernel": (37, 41),
    "wide_kernel": (41, 37),
    "heads_kernel": (53, 5, 33),  # width x heads x features: factored around the heads
    "small_kernel": (31, 64),  # one axis below 32: full second moment
    "bias": (43,),
}


def test_equals_optax_step_by_step(rng):
    import jax.numpy as jnp
    import optax

    values, gradients = make_case(rng, SHAPES)
    rate, decay = 0.03, 0.1
    ours = trajectory(
        Adafactor(rate, weight_decay=decay, momentum_dtype="float32"), values, gradients, {}
    )
    theirs = optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=0.8, min_dim_size_to_factor=32, epsilon=1e-30, step_offset=0
        ),
        optax.ema(0.9, debias=False, accumulator_dtype=jnp.float32),
        optax.add_decayed_weights(
            decay, mask=lambda params: {name: name.endswith("kernel") for name in params}
        ),
        optax.scale(-rate),
    )
    params = {n: jnp.asarray(v) for n, v in values.items()}
    state = theirs.init(params)
    for step in range(STEPS):
        grads = {n: jnp.asarray(g[step]) for n, g in gradients.items()}
        updates, state = theirs.update(grads, state, params)
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
        np.dtype(getattr(ml_dtypes, "bfloat16") if dtype == "bfloat16" else np.float32),  # noqa: B009
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


@pytest.mark.parametrize("stack_axis", [0, 1])
def test_a_stack_is_treated_block_by_block(stack_axis, rng):
    """A stacked array moves as its blocks would, each an array of its own."""
    blocks = {f"block{i}_kernel": (37, 41) for i in range(3)}
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


def test_state_of_vit_s16_is_half_a_parameter():
    model = keras_vit_scale.ViT_S16()
    optimizer = Adafactor()
    optimizer.build(model.trainable_variables)
    size = {"float32": 4, "bfloat16": 2, "int32": 4, "int64": 8}
    state = sum(
        int(np.prod(v.shape)) * size[keras.backend.standardize_dtype(v.dtype)]
        for v in optimizer.variables
    )
    assert 2.0 < state / model.count_params() < 2.1


def test_decay_is_the_heads_and_the_bodys():
    model = ViT(TINY, 5, image_size=8)
    paths = [v.path for v in model.trainable_variables]
    decays = dict(zip(paths, decays_by_path(head_and_body(3.0, 0.03), paths), strict=True))
    assert {p for p, d in decays.items() if d == 3.0} == {"head/kernel"}
    assert {p for p, d in decays.items() if d == 0.03} == {
        "patch_embedding/kernel",
        *(
            f"{layer}/{kernel}_kernel"
            for layer in ("encoder", "pooling")
            for kernel in ("query", "key", "value", "out", "mlp_in", "mlp_out")
        ),
    }


def test_decayed_weights_shrink_by_rate_times_decay():
    model = ViT(TINY, 5, image_size=8)
    for w in model.trainable_variables:
        w.assign(keras.ops.ones(w.shape))
    optimizer = Adafactor(0.5, weight_decay=head_and_body(0.2, 0.1))
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros(w.shape) for w in model.trainable_variables])
    for w in model.trainable_variables:
        factor = 0.9 if w.path == "head/kernel" else 0.95 if w.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(as_numpy(w), factor, rtol=1e-6, err_msg=w.path)


def test_variables_can_be_excluded_as_in_any_keras_optimizer():
    kept, excluded = variable(np.ones(3), "a_kernel"), variable(np.ones(3), "b_kernel")
    optimizer = Adafactor(0.5, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["b_"])
    optimizer.build([kept, excluded])
    optimizer.apply([keras.ops.zeros(3)] * 2)
    np.testing.assert_allclose(as_numpy(kept), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(as_numpy(excluded), 1)


@pytest.mark.parametrize(
    ("decay", "message"),
    [
        ({"haed/kernel": 3.0, "kernel": 0.1}, "haed/kernel"),
        ({"kernel": 0.1, "head/kernel": 3.0}, "head/kernel"),  # the first took all
    ],
)
def test_patterns_that_decide_nothing_are_refused(decay, message):
    optimizer = Adafactor(weight_decay=decay)
    with pytest.raises(ValueError, match="must decide for a variable") as error:
        optimizer.build(ViT(TINY, 5, image_size=8).trainable_variables)
    assert message in str(error.value)
    assert not optimizer.built


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -0.1}, "must be a number that is not negative"),
        ({"weight_decay": True}, "must be a number that is not negative"),
        ({"weight_decay": {"(": 0.1}}, "must be a regular expression"),
        ({"momentum": 1.0}, "`momentum` must be None or in"),
        ({"beta_2_cap": 1.0}, "`beta_2_cap` must be in"),
        ({"epsilon": 0.0}, "`epsilon` must be positive"),
        ({"min_dim_size_to_factor": 0}, "`min_dim_size_to_factor` must be positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adafactor(**options)


def test_misspelt_options_are_refused():
    with pytest.raises(TypeError, match="wieght_decay"):
        Adafactor(wieght_decay=0.1)


FIT_OPTIONS = {
    "plain": {},
    "no momentum": {"momentum": None},
    "global clip": {"global_clipnorm": 1.0},
    "moving average": {"use_ema": True, "ema_momentum": 0.5},
    "accumulation": {"gradient_accumulation_steps": 2},
    "loss scale": {"loss_scale_factor": 1024.0},
}


@pytest.mark.parametrize("options", FIT_OPTIONS.values(), ids=FIT_OPTIONS)
def test_fits_and_is_saved_with_its_model(options, rng, tmp_path):
    labels = np.arange(32) % 2
    images = (rng.normal(size=(32, 8, 8, 3)) * 0.3 + labels[:, None, None, None]).astype("float32")
    model = ViT(ViTConfig(32, 1, 32, 2, 4), 2, image_size=8)
    rate = ReciprocalSqrt(3e-3, warmup_steps=2, timescale=50)
    model.compile(
        Adafactor(rate, weight_decay=head_and_body(0.3, 0.03), **options),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = model.fit(images, labels, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for ours, theirs in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs), err_msg=ours.path)
    # The loaded model trains on exactly as the first would.
    for m in (model, again):
        m.train_on_batch(images[:8], labels[:8])
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(as_numpy(ours), as_numpy(theirs), rtol=1e-6, atol=1e-7)
