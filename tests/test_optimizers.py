"""One table of optimizers against what every one of them must do inside Keras."""

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy
from trajectory import STEPS, make_case, trajectory, variable

from keras_vit_scale import (
    Adafactor,
    AdamW,
    Momentum,
    ReciprocalSqrt,
    ViT,
    ViTConfig,
    head_and_body,
)
from keras_vit_scale.optimizers.decay import decays_by_path
from keras_vit_scale.training.checkpoints import training_state

OURS = pytest.mark.parametrize("kind", [Adafactor, AdamW, Momentum])
BACKEND = keras.backend.backend()


# Decay by path


def test_decay_is_the_heads_and_the_bodys():
    model = ViT(TINY, 5, image_size=8)
    paths = [v.path for v in model.trainable_variables]
    decays = dict(zip(paths, decays_by_path(head_and_body(3.0, 0.03), paths), strict=True))
    # MAP keeps its weights in an attribute `head`, and is none.
    assert {p for p, d in decays.items() if d == 3.0} == {"head/kernel"}
    assert {p for p, d in decays.items() if d == 0.03} == {
        "patch_embedding/kernel",
        *(
            f"{layer}/{kernel}_kernel"
            for layer in ("encoder", "pooling")
            for kernel in ("query", "key", "value", "out", "mlp_in", "mlp_out")
        ),
    }
    assert dict(zip(paths, decays_by_path(0.1, paths), strict=True)) == {
        p: 0.1 if d else 0.0 for p, d in decays.items()
    }


@OURS
def test_decayed_weights_shrink_by_rate_times_decay(kind):
    """Thrice, since decay is kept out of the moments."""
    names = ["head_kernel", "body_kernel", "bias"]
    weights = [variable(np.ones(size), name) for name, size in zip(names, (3, 5, 7), strict=True)]
    optimizer = kind(0.5, weight_decay={"^head_kernel$": 0.2, "kernel$": 0.1})
    optimizer.build(weights)
    for _ in range(3):
        optimizer.apply([keras.ops.zeros(w.shape) for w in weights])
    for w, factor in zip(weights, (0.9, 0.95, 1.0), strict=True):
        np.testing.assert_allclose(as_numpy(w), factor**3, rtol=1e-6, err_msg=w.path)


@OURS
def test_variables_can_be_excluded_as_in_any_keras_optimizer(kind):
    kept, excluded = variable(np.ones(3), "a_kernel"), variable(np.ones(3), "b_kernel")
    optimizer = kind(0.5, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["b_"])
    optimizer.build([kept, excluded])
    optimizer.apply([keras.ops.zeros(3)] * 2)
    np.testing.assert_allclose(as_numpy(kept), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(as_numpy(excluded), 1)


@OURS
@pytest.mark.parametrize(
    ("decay", "message"),
    [
        ({"haed_kernel": 3.0, "kernel": 0.1}, "haed_kernel"),
        ({"kernel": 0.1, "head_kernel": 3.0}, "head_kernel"),  # the first took all
    ],
)
def test_patterns_that_decide_nothing_are_refused(kind, decay, message):
    optimizer = kind(weight_decay=decay)
    with pytest.raises(ValueError, match="must decide for a variable") as error:
        optimizer.build([variable(np.ones(3), "head_kernel"), variable(np.ones(5), "bias")])
    assert message in str(error.value)
    assert not optimizer.built


@OURS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -0.1}, "must be a number that is not negative"),
        ({"weight_decay": True}, "must be a number that is not negative"),
        ({"weight_decay": {"(": 0.1}}, "must be a regular expression"),
        ({"record_norms": 1}, "`record_norms` must be True or False"),
        ({"clipnorm": 0.0}, "`clipnorm` must be None or positive"),
        ({"clipvalue": -1}, "`clipvalue` must be None or positive"),
        ({"global_clipnorm": float("nan")}, "`global_clipnorm` must be None or positive"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "Only one of"),
    ],
)
def test_bad_options_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@OURS
def test_misspelt_options_are_refused(kind):
    with pytest.raises(TypeError, match="wieght_decay"):
        kind(wieght_decay=0.1)


# Gradients: clipped, recorded, accumulated, absent


def by_hand(clip, limit, gradients):
    """Clipped gradients of every step in float64, the first axis of "stack_kernel" apart."""
    clipped = {name: g.astype("float64") for name, g in gradients.items()}
    for step in range(STEPS):
        norm = np.sqrt(sum((g[step].astype("float64") ** 2).sum() for g in gradients.values()))
        for name, g in clipped.items():
            if clip == "clipvalue":
                g[step] = np.clip(g[step], -limit, limit)
            elif clip == "global_clipnorm":
                g[step] *= min(1, limit / norm)
            else:
                for weight in g[step] if name == "stack_kernel" else [g[step]]:
                    weight *= min(1, limit / np.sqrt((weight**2).sum()))
    return {name: g.astype("float32") for name, g in clipped.items()}


@OURS
@pytest.mark.parametrize(
    ("clip", "limit"), [("clipnorm", 40), ("clipvalue", 3), ("global_clipnorm", 80)]
)
def test_gradients_are_clipped_and_their_norm_is_recorded_before(kind, clip, limit, rng):
    shapes = {"stack_kernel": (3, 7, 37), "bias": (43,)}
    values, gradients = make_case(rng, shapes)
    for g in gradients.values():  # half of the steps, and one block, stay below the limits
        g *= (10.0 ** rng.uniform(-2, 1, STEPS)).reshape(-1, *[1] * (g.ndim - 1)).astype("float32")
    gradients["stack_kernel"][:, 1] *= 1e-3
    clipped = by_hand(clip, limit, gradients)
    touched = [(clipped[n][t] != g[t]).any() for n, g in gradients.items() for t in range(STEPS)]
    assert 0 < sum(touched) < len(touched)
    optimizer = kind(0.03, record_norms=True, momentum_dtype="float32", **{clip: limit})
    stacks = {"stack_kernel": 0}
    ours = trajectory(optimizer, values, gradients, stacks)
    expected = trajectory(kind(0.03, momentum_dtype="float32"), values, clipped, stacks)
    for step in range(STEPS):
        for value, wanted in zip(ours[step], expected[step], strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-6)
    last = np.sqrt(sum((g[-1].astype("float64") ** 2).sum() for g in gradients.values()))
    np.testing.assert_allclose(as_numpy(optimizer.gradient_norm), last, rtol=1e-6)


@OURS
def test_accumulated_gradients_are_the_big_batchs(kind, rng):
    values = {"a_kernel": rng.normal(size=(7, 5)), "bias": rng.normal(size=(11,))}
    steps = [[rng.normal(size=v.shape).astype("float32") for v in values.values()] for _ in "1234"]
    whole = [variable(v, n) for n, v in values.items()]
    parts = [variable(v, n) for n, v in values.items()]
    big = kind(0.1, weight_decay=0.3, record_norms=True)
    small = kind(0.1, weight_decay=0.3, record_norms=True, gradient_accumulation_steps=2)
    big.build(whole)
    small.build(parts)
    for first, second in (steps[:2], steps[2:]):
        before = as_numpy(small.gradient_norm)
        small.apply([keras.ops.convert_to_tensor(g) for g in first])
        np.testing.assert_array_equal(as_numpy(small.gradient_norm), before)
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(as_numpy(a), as_numpy(b))
        small.apply([keras.ops.convert_to_tensor(g) for g in second])
        means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        big.apply([keras.ops.convert_to_tensor(g) for g in means])
        for a, b in zip([*whole, big.gradient_norm], [*parts, small.gradient_norm], strict=True):
            np.testing.assert_allclose(as_numpy(a), as_numpy(b), rtol=1e-6, atol=1e-7)


@OURS
def test_a_variable_without_gradient_stays_as_it_is(kind):
    moved, still = variable(np.ones(3), "a_kernel"), variable(np.ones(5), "b_kernel")
    optimizer = kind(0.5, weight_decay=0.1, record_norms=True, global_clipnorm=9.0)
    optimizer.build([still, moved])
    before = [as_numpy(v).copy() for v in optimizer.variables if "b_kernel" in v.path]
    with pytest.warns(UserWarning, match="Gradients do not exist.*b_kernel"):
        optimizer.apply([None, keras.ops.convert_to_tensor(np.array([3, 0, 4], "float32"))])
    np.testing.assert_array_equal(as_numpy(still), 1)
    after = [as_numpy(v) for v in optimizer.variables if "b_kernel" in v.path]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert as_numpy(moved)[0] < 0.94  # by more than its decay
    np.testing.assert_allclose(as_numpy(optimizer.gradient_norm), 5, rtol=1e-6)


# Inside fit


def two_classes(rng, images=16, size=8):
    labels = np.arange(images) % 2
    noise = rng.normal(size=(images, size, size, 3)) * 0.3
    return (noise + labels[:, None, None, None]).astype("float32"), labels


FIT_OPTIONS = {
    Adafactor: {"use_ema": True, "ema_momentum": 0.5},
    AdamW: {"global_clipnorm": 1.0, "loss_scale_factor": 1024.0},
    Momentum: {"global_clipnorm": 1.0, "use_ema": True, "ema_at_end": False},
}


@pytest.mark.parametrize(
    "kind", [Adafactor, *(pytest.param(k, marks=pytest.mark.slow) for k in (AdamW, Momentum))]
)
def test_fits_freezes_and_is_saved_with_its_model(kind, rng, tmp_path):
    images, labels = two_classes(rng)
    model = ViT(ViTConfig(32, 1, 32, 2, 4), 2, image_size=8, pooling="gap")
    frozen = model.get_layer("position_embedding")
    frozen.trainable = False
    before = as_numpy(frozen.weights[0]).copy()
    rate = ReciprocalSqrt(1e-2, warmup_steps=2, timescale=50)
    decay = head_and_body(0.3, 0.03)
    model.compile(
        kind(rate, weight_decay=decay, record_norms=True, **FIT_OPTIONS[kind]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(images, labels, batch_size=8, epochs=8, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < 0.75 * losses[0]
    # A second fit goes on; with moving averages JAX would refuse to donate a buffer twice.
    model.fit(images, labels, batch_size=8, verbose=0)
    np.testing.assert_array_equal(as_numpy(frozen.weights[0]), before)
    assert not [v.path for v in model.optimizer.variables if "position" in v.path]
    assert 0 < float(as_numpy(model.optimizer.gradient_norm)) < 100

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert list(again.optimizer.weight_decay) == list(decay)  # the first match decides
    for ours, theirs in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs), err_msg=ours.path)
    # The loaded model trains on exactly as the first would.
    for m in (model, again):
        m.train_on_batch(images[:8], labels[:8])
        m.train_on_batch(images[8:16], labels[8:16])
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(as_numpy(ours), as_numpy(theirs), rtol=1e-6, atol=1e-7)
    # Every variable has a name of its own in a checkpoint.
    assert "optimizer/gradient_norm" in training_state(again)


@OURS
def test_loss_scaling_is_undone_before_norms_and_steps(kind):
    """One linear unit, by hand: loss (w x - y)^2 with w = 1, x = (3, 4), y = 0."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        kind(0.5, record_norms=True), initial_scale=2.0**10
    )
    unit = keras.layers.Dense(
        1, use_bias=False, kernel_initializer="ones", dtype="mixed_float16", name="unit"
    )
    model = keras.Sequential([keras.Input((2,)), unit])
    model.compile(optimizer, "mse")
    x, y = np.array([[3.0, 4.0]], "float32"), np.zeros((1, 1), "float32")
    model.train_on_batch(x, y)
    # The gradient is 2 (w x - y) x = 14 (3, 4), of norm 70.
    inner = optimizer.inner_optimizer
    np.testing.assert_allclose(as_numpy(inner.gradient_norm), 70, rtol=1e-3)
    # Adam's first step is the rate; Adafactor's a tenth of it, by the momentum; momentum's is
    # the rate times the gradient.
    first = {AdamW: 0.5, Adafactor: 0.05, Momentum: 0.5 * 14 * x.T}[kind]
    weights = as_numpy(unit.kernel).copy()
    np.testing.assert_allclose(weights, 1 - first, rtol=1e-3)
    model.train_on_batch(1e3 * x, y)  # overflows float16: the step is skipped
    np.testing.assert_array_equal(as_numpy(unit.kernel), weights)
    np.testing.assert_allclose(as_numpy(inner.gradient_norm), 70, rtol=1e-3)
    assert float(as_numpy(optimizer.dynamic_scale)) == 2.0**9
    assert int(as_numpy(inner.iterations)) == 1


@OURS
def test_moving_averages_overwrite_the_weights(kind, rng):
    """Every second step the weights become 0.5 average + 0.5 weights, the first average w1."""
    value, gradients = rng.normal(size=7), rng.normal(size=(2, 7)).astype("float32")
    plain, averaged = variable(value, "bias"), variable(value, "bias")
    optimizers = (
        kind(0.1),
        kind(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    )
    for optimizer, v in zip(optimizers, (plain, averaged), strict=True):
        optimizer.build([v])
    weights = []
    for gradient in gradients:
        for optimizer in optimizers:
            optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        weights.append(as_numpy(plain).copy())
    expected = 0.5 * weights[0] + 0.5 * weights[1]
    np.testing.assert_allclose(as_numpy(averaged), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.AdamW(3e-3, clipnorm=1.0),
        pytest.param(keras.optimizers.SGD(0.03, momentum=0.9), marks=pytest.mark.slow),
        pytest.param(keras.optimizers.Lion(3e-3), marks=pytest.mark.slow),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_stock_optimizers_of_keras_train_the_model(optimizer, rng):
    images, labels = two_classes(rng)
    model = ViT(ViTConfig(8, 1, 8, 2, 4), 2, image_size=8, pooling="gap")
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(images, labels, batch_size=8, epochs=16, verbose=0).history["loss"]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.skipif(BACKEND != "jax", reason="layouts of variables are JAX's alone")
def test_slots_are_laid_out_as_their_parameters():
    distribution = keras.distribution
    mesh = distribution.DeviceMesh((1, 1), ["batch", "model"], distribution.list_devices()[:1])
    layouts = distribution.LayoutMap(mesh)
    layouts["stack_kernel"] = (None, "batch", None, "model")
    parallel = distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    with parallel.scope():
        stack = keras.Variable(np.zeros((2, 37, 5, 41)), name="stack_kernel")
        stack.stack_axis = 0
        optimizers = [Adafactor(), AdamW()]
        for optimizer in optimizers:
            optimizer.build([stack])
        layouts = {v.path: v._layout for o in optimizers for v in o.variables if len(v.shape)}
    # Keras 3.12 keeps JAX's own.
    axes = {path: getattr(each, "axes", None) or each.spec for path, each in layouts.items()}
    assert {path: tuple(each) for path, each in axes.items()} == {
        "adafactor/stack_kernel_momentum": (None, "batch", None, "model"),
        "adafactor/stack_kernel_row": (None, "batch", None),  # the largest axis dropped
        "adafactor/stack_kernel_column": (None, None, "model"),
        "adamw/stack_kernel_momentum": (None, "batch", None, "model"),
        "adamw/stack_kernel_second_moment": (None, "batch", None, "model"),
    }
