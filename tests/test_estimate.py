"""Estimates of a step, against models that are built and against what the compiler plans."""

import time

import keras
import numpy as np
import pytest
from conftest import TINY

import keras_vit_scale as kvs
from keras_vit_scale import planning
from keras_vit_scale.distribution import Cuts
from keras_vit_scale.models import preset
from keras_vit_scale.planning import Accelerator, Estimator, estimate, lower_step
from keras_vit_scale.planning.activations import Tokens, kept, workspace
from keras_vit_scale.planning.parameters import weights
from keras_vit_scale.planning.state import OPTIMIZERS, Slots, named_optimizer

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX compiles ahead")

SIZE, CLASSES = 14, 5
OPTIONS = {"num_classes": CLASSES, "image_size": SIZE}
GIB = 2**30


# Weights and the optimizer's state


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_weights_are_those_of_a_model(pooling, positions):
    config = kvs.ViTConfig(width=12, depth=2, mlp_dim=19, heads=3, patch_size=2)
    model = kvs.ViT(config, **OPTIONS, pooling=pooling, positions=positions)
    listed = weights(config, SIZE, pooling=pooling, num_classes=CLASSES, positions=positions)
    assert {w.path: w.shape for w in listed} == {
        v.path: tuple(v.shape) for v in model.trainable_variables
    }
    told = estimate(config, 1, **OPTIONS, pooling=pooling, positions=positions)
    assert sum(told.parameters.values()) == model.count_params()
    for part, number in told.parameters.items():
        layer = model.get_layer(part)
        assert number == sum(np.prod(v.shape) for v in layer.trainable_variables), part


@pytest.mark.parametrize(
    "optimizer",
    [
        *OPTIMIZERS,
        kvs.Adafactor(min_dim_size_to_factor=3, weight_decay={"kernel$": 0.1}),
        kvs.AdamW(use_ema=True, gradient_accumulation_steps=3, skip_nonfinite=True),
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.optimizers.Lion(kvs.Cosine(0.1, decay_steps=7)),
    ],
    ids=lambda o: o if isinstance(o, str) else o.name,
)
def test_state_is_that_of_a_built_optimizer(optimizer):
    model = kvs.ViT(TINY, **OPTIONS)
    given = named_optimizer(optimizer)
    built = type(given).from_config(given.get_config())
    built.build(model.trainable_variables)
    told = estimate(TINY, 1, **OPTIONS, optimizer=optimizer)
    assert told.memory.optimizer == sum(
        np.prod(v.shape, dtype=int) * int(str(v.dtype)[-2:]) // 8 for v in built.variables
    )
    assert told.memory.parameters == 4 * model.count_params()
    assert not given.built


def test_half_precision_keeps_the_types_of_its_policy():
    count = planning.parameters(TINY, SIZE, pooling="map", num_classes=CLASSES)
    mixed, half = (
        estimate(TINY, 1, **OPTIONS, dtype=dtype).memory for dtype in ("mixed_bfloat16", "bfloat16")
    )
    assert mixed.parameters == 4 * count
    # The final norm and the head keep float32.
    assert half.parameters == 2 * count + 2 * (2 * TINY.width + (TINY.width + 1) * CLASSES)
    assert half.gradients == mixed.gradients / 2


def test_an_optimizer_is_asked_once_a_shape():
    slots = Slots(kvs.AdamW())
    assert slots((3, 5), "float32", stacked=False) is slots((3, 5), "float32", stacked=False)
    assert slots((3, 5), "float32", stacked=True) == [((3, 5), 2), ((3, 5), 4)]


def test_a_stacked_weight_is_factored_as_its_blocks_are():
    slots = Slots(kvs.Adafactor(momentum=None))
    assert slots((40, 50, 60), "float32", stacked=True) == [((40, 50), 4), ((40, 60), 4)]
    assert slots((70, 50, 60), "float32", stacked=False) == [((50, 60), 4), ((70, 50), 4)]


# FLOPs and time


@on_jax
@pytest.mark.parametrize("remat", ["auto", None, "full", "dots"])
def test_flops_are_those_of_the_traced_step(remat):
    told = estimate(TINY, 3, **OPTIONS, remat=remat)
    # Images get no gradient, which three forward passes count.
    patches = 2 * (SIZE // 2) ** 2 * 2**2 * 3 * TINY.width
    assert told.computed_flops - 3 * patches == lower_step(TINY, 3, **OPTIONS, remat=remat).flops


def test_time_and_cost_are_of_the_peak_that_is_reached():
    mine = Accelerator("mine", None, 100e12, 20e12, 48 * GIB, mfu=0.25)
    told = estimate(
        "B/16", 64, dtype="mixed_bfloat16", remat=None, device=mine, distribution=Cuts(data=4)
    )
    forward = planning.forward_flops(preset("B/16"), pooling="map", num_classes=1000)
    assert told.flops == 3 * forward * 64
    assert told.seconds == pytest.approx(3 * forward * 64 / (4 * 100e12 * 0.25))
    assert told.images_per_second == pytest.approx(64 / told.seconds)
    training = told.training(7200, price=3.0)
    assert training["hours"] == pytest.approx(2 * told.seconds)
    assert training["cost"] == pytest.approx(3 * 4 * training["hours"])
    assert training["tpuv3_core_days"] == planning.tpuv3_core_days(7200 * told.flops)
    slower = estimate("B/16", 64, dtype="float32", remat=None, device=mine)
    assert slower.seconds == pytest.approx(told.seconds * 4 * 5)
    assert estimate("B/16", 1, dtype="float16", device=mine).seconds is None


def test_it_takes_a_tenth_of_a_second():
    estimate("G/14", 8)
    begun = time.process_time()
    estimate("G/14", 9, optimizer="adamw", distribution=Cuts(data=3, model=2))
    assert time.process_time() - begun < 0.1


# What blocks keep


#: Bytes a token that a block's scan hands to the backward pass, counted by hand from the equations
#: of `models/block.py`: D = 6, M = 24, 2 heads, 10 tokens.
@pytest.mark.parametrize(
    ("remat", "half", "expected"),
    [
        ("full", True, 2 * 6),
        ("full", False, 4 * 6),
        ("dots_with_no_batch_dims_saveable", True, 2 * (6 + 3 * 6 + 6 + 24)),
        ("dots", True, 4 * 20 + 2 * (6 + 4 * 6 + 6 + 24)),
        (None, True, 4 * (2 * 3 * 6 + 20) + 2 * (2 * 6 + 4 * 6 + 20 + 6 * 24)),
        (None, False, 4 * (2 * 3 * 6 + 20 + 2 * 6 + 4 * 6 + 20 + 6 * 24)),
    ],
)
def test_kept_bytes_by_hand(remat, half, expected):
    tokens = Tokens(3, 10, 6, 24, 2, 3, half=half, tiled=False)
    assert kept(tokens, remat) == 3 * 10 * expected


@on_jax
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float32"])
@pytest.mark.parametrize("remat", ["auto", "full", "dots", None])
def test_kept_bytes_are_those_of_the_traced_scan(remat, dtype):
    """What the forward scan stacks up is what JAX hands to the backward pass."""
    import jax

    shape = kvs.ViTConfig(width=60, depth=7, mlp_dim=88, heads=4, patch_size=8)
    model = kvs.ViT(shape, image_size=56, num_classes=11, dtype=dtype, remat=remat)
    state = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )

    def loss(trainable, rest, images):
        return model.stateless_call(trainable, rest, images)[0].sum()

    images = np.zeros((5, 56, 56, 3), "float32")
    forward = scans(jax.make_jaxpr(jax.grad(loss))(*state, images).jaxpr)[0]
    stacked = forward.outvars[forward.params["num_carry"] :]
    measured = sum(v.aval.size * v.aval.dtype.itemsize for v in stacked)
    tokens = Tokens(5, 49, 60, 88, 4, 15, half=dtype != "float32", tiled=False)
    # Beside them are a few numbers a token, such as means.
    assert measured == pytest.approx(7 * kept(tokens, remat), rel=0.03)


def scans(jaxpr):
    """The scans of a program, in their order, also those in functions that it calls."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            found.append(equation)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                found += scans(inner) if hasattr(inner, "eqns") else []
    return found


def test_tiles_fill_up_the_tokens_of_an_image():
    flat, tiled = (
        Tokens(1, 196, 384, 1536, 6, 64, half=True, tiled=tiled) for tiled in (False, True)
    )
    assert kept(tiled, "full") == kept(flat, "full") * 208 / 196
    assert workspace(tiled) > workspace(flat)


# Several devices


def test_cuts_share_weights_state_and_images():
    options = {**OPTIONS, "optimizer": "adamw", "remat": "full"}
    shape = kvs.ViTConfig(width=12, depth=3, mlp_dim=28, heads=4, patch_size=2)
    one = estimate(shape, 8, **options).memory
    data = estimate(shape, 8, **options, distribution=Cuts(data=4))
    assert data.devices == 4
    assert data.memory.parameters == one.parameters
    assert data.memory.activations == one.activations / 4
    cuts = Cuts(data=4, fully_sharded=True, min_size=1)
    sharded = estimate(shape, 8, **options, distribution=cuts).memory
    # All weights have the width for an axis but for the classes' bias and those of heads and MLP.
    whole = 3 * (3 * 12 + 28) + 4 * 12 + 28 - 12 + 5
    total = planning.parameters(shape, SIZE, pooling="map", num_classes=CLASSES)
    assert sharded.parameters == pytest.approx(4 * ((total - whole) / 4 + whole), rel=0.03)
    cuts = Cuts(data=4, fully_sharded=True, shards=2, min_size=1)
    copies = estimate(shape, 8, **options, distribution=cuts).memory
    assert copies.parameters == pytest.approx(4 * ((total - whole) / 2 + whole), rel=0.03)
    assert copies.activations == sharded.activations
    tensor = estimate(shape, 8, **options, distribution=Cuts(model=2)).memory
    assert one.parameters / 2 < tensor.parameters < one.parameters
    assert tensor.activations == one.activations


@on_jax
def test_cuts_are_those_of_a_layout():
    """The bytes of a step that is lowered for four devices, which processors stand in for."""
    mesh = kvs.distribution.make_mesh(devices=["cpu:0"])
    layout = kvs.distribution.MeshParallel(mesh, fully_sharded=True, min_size=7)
    told = estimate(TINY, 2, **OPTIONS, optimizer="adamw", distribution=layout)
    step = lower_step(TINY, 2, **OPTIONS, optimizer=kvs.AdamW(), distribution=layout)
    assert told.memory.parameters == step.state["trainable"]
    assert told.memory.optimizer == step.state["optimizer"]


# Models


def test_a_model_tells_what_it_is():
    model = kvs.ViT(TINY, 3, image_size=(6, 8), pooling="token", remat="full", dtype="float32")
    model.compile(kvs.AdamW(), "mse")
    told = estimate(model, 5)
    expected = estimate(
        TINY, 5, num_classes=3, image_size=(6, 8), pooling="token", remat="full",
        dtype="float32", optimizer="adamw",
    )  # fmt: skip
    assert told == expected
    assert estimate(model, 5, optimizer="momentum").memory.optimizer < told.memory.optimizer


def test_an_estimator_tells_what_estimate_does():
    settings = {"dtype": "mixed_bfloat16", "remat": "full", "device": "H100 SXM"}
    told = Estimator("momentum", **settings)
    for name, batch in (("S/16", 7), ("B/32", 3), ("S/16", 2)):
        assert told(preset(name), batch) == estimate(name, batch, optimizer="momentum", **settings)


# Against the compiler


@on_jax
def test_exact_is_what_the_compiler_says_of_this_device():
    options = {**OPTIONS, "remat": "full", "dtype": "float32"}
    told = estimate(TINY, 3, **options, exact=True)
    assert told.compiled == planning.compile_step(TINY, 3, **options).memory.total
    assert told.needed == told.compiled


#: GiB that the compiler for TPUs planned on 2026-11-29: a thousand classes, mixed_bfloat16.
PLANNED = [
    ("S/16", 1024, "full", "adafactor", "v5p", 7.20),
    ("S/16", 256, None, "adafactor", "v5p", 24.60),
    ("B/16", 128, "auto", "adafactor", "v5p", 6.20),
    ("B/16", 16, "full", "adam", "v5p", 1.58),
    ("L/16", 64, "full", "adafactor", "v5p", 4.25),
    ("L/16", 256, None, "adafactor", "v5p", 129.92),
    ("L/16", 8, "full", "adamw", "v5p", 4.25),
    ("g/14", 4, "full", "adafactor", "v3", 9.77),
    ("g/14", 64, "auto", "adafactor", "v5p", 26.72),
    ("G/14", 1, "full", "adam", "v5p", 27.96),
    ("G/14", 32, None, "adafactor", "v5p", 84.81),
]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason='`remat="auto"` is that of JAX')
@pytest.mark.parametrize(("name", "batch", "remat", "optimizer", "device", "planned"), PLANNED)
def test_within_a_tenth_of_what_the_compiler_planned(
    name, batch, remat, optimizer, device, planned
):
    told = estimate(
        name, batch, remat=remat, optimizer=optimizer, device=device, dtype="mixed_bfloat16"
    )
    assert told.needed / GIB == pytest.approx(planned, rel=0.1)


@on_jax
@pytest.mark.libtpu
def test_exact_for_a_tpu_that_is_not_there():
    told = estimate("B/16", 32, dtype="mixed_bfloat16", device="TPU v5e", remat="full", exact=True)
    assert told.needed == pytest.approx(told.memory.total, rel=0.1)
    assert told.fits


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": -3}, "positive integer"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"pooling": "cls"}, "pooling='cls'"),
        ({"remat": "ful"}, "remat='ful'"),
        ({"optimizer": "adamx"}, "optimizer='adamx'"),
        ({"device": "H100 SMX"}, "Did you mean one of .*H100 SXM"),
        ({"device": "v9"}, "Did you mean"),
        ({"image_size": 15}, "multiple of the patch"),
        ({"distribution": "data=4"}, "distribution.Cuts"),
        ({"distribution": Cuts(data=4)}, "batch_size=6, data=4"),
        ({"distribution": Cuts(model=2)}, "multiple of the mesh's model axis, 2"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        estimate(TINY, **{"batch_size": 6, **OPTIONS, **options})


def test_bad_steps_and_prices_are_refused():
    told = estimate(TINY, 1, **OPTIONS)
    with pytest.raises(ValueError, match="steps=0"):
        told.training(0)
    with pytest.raises(ValueError, match="price=-1"):
        told.training(1, price=-1)


@on_jax
def test_what_cannot_be_compiled_is_refused_with_what_can():
    with pytest.raises(NotImplementedError, match="TPU v3 core"):
        estimate(TINY, 1, **OPTIONS, device="H100 SXM", exact=True)
    with pytest.raises(ValueError, match="tpu_devices"):
        estimate(TINY, 4, **OPTIONS, distribution=Cuts(data=4), exact=True)
