"""The training step compiled ahead of time: memory, products, and that it is the one of `fit`."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import TINY

import keras_vit_scale as kvs
from keras_vit_scale import planning
from keras_vit_scale.distribution import data_parallel, fully_sharded, tensor_parallel
from keras_vit_scale.optimizers import Adafactor, AdamW, Momentum
from keras_vit_scale.planning import OutOfMemoryError, compile_step, lower_step, tpu_devices
from keras_vit_scale.planning.flops import attention_and_mlp_flops

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="only JAX compiles ahead of time"
)

SIZE, BATCH, CLASSES = 14, 7, 5
TOKENS = (SIZE // TINY.patch_size) ** 2
BATCH_BYTES = BATCH * (SIZE**2 * 3 * 4 + 4)


OPTIONS = {"num_classes": CLASSES, "image_size": SIZE}


def lowered(**options):
    return lower_step(TINY, BATCH, **{**OPTIONS, **options})


def count(pooling="map"):
    return planning.parameters(TINY, SIZE, pooling=pooling, num_classes=CLASSES)


@pytest.mark.parametrize(
    ("optimizer", "bytes_a_parameter", "scalars"),
    [
        # A count of steps (int32) and a rate (float32), then the slots.
        (AdamW(), 6, 8),
        (AdamW(momentum_dtype="float32"), 8, 8),
        (Momentum(), 2, 8),
        (AdamW(gradient_accumulation_steps=3), 10, 8),
        (Momentum(use_ema=True, skip_nonfinite=True), 6, 8 + 4 * 4),
        (keras.optimizers.SGD(), 0, 8),
        # All axes are below 32, so nothing is factored.
        (Adafactor(), 6, 8),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_state_has_the_bytes_of_its_optimizer(optimizer, bytes_a_parameter, scalars):
    step = lowered(optimizer=optimizer, pooling="gap")
    assert step.state["trainable"] == 4 * count("gap")
    assert step.state["optimizer"] == bytes_a_parameter * count("gap") + scalars
    assert not optimizer.built


@pytest.mark.parametrize("pooling", planning.flops.POOLINGS)
def test_flops_are_three_forward_passes(pooling):
    """The backward pass is twice the forward pass, but images get no gradient."""
    step = lowered(pooling=pooling, remat=None)
    forward = planning.forward_flops(TINY, SIZE, pooling=pooling, num_classes=CLASSES)
    patches = 2 * TOKENS * TINY.patch_size**2 * 3 * TINY.width
    assert step.flops == BATCH * (3 * forward - patches)


def test_rematerialised_blocks_cost_a_forward_pass_without_its_last_product():
    kept, again = (lowered(remat=remat).flops for remat in (None, "full"))
    projections, products, mlp = attention_and_mlp_flops(TINY, TOKENS, TOKENS)
    assert again - kept == BATCH * TINY.depth * (projections + products + mlp // 2)


def test_it_is_the_step_that_training_runs(rng):
    """On real arrays it gives the very weights and loss that `train_on_batch` does."""
    import jax

    options = {"dropout": 0.3, "seed": 3}
    optimizer = Adafactor(0.01, weight_decay=0.1, global_clipnorm=1.0)
    step = lowered(optimizer=optimizer, metrics=["accuracy"], **options).compile()
    assert step.memory.arguments == sum(step.state.values()) + BATCH_BYTES
    assert step.memory.aliased == sum(step.state.values())  # all of it is donated

    model = kvs.ViT(TINY, **OPTIONS, **options)
    model.compile(
        type(optimizer).from_config(optimizer.get_config()),
        kvs.SigmoidCrossEntropy(),
        metrics=["accuracy"],
    )
    images = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype("float32")
    labels = rng.integers(CLASSES, size=BATCH).astype("int32")
    model._symbolic_build(data_batch=(images, labels))
    parts = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([jax.numpy.array(v.value) for v in part] for part in parts)
    logs, state = step.compiled(state, (images, labels))
    loss, _ = model.train_on_batch(images, labels)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-6)
    assert len(state[0]) > 10
    for ours, theirs in zip(state[0] + state[2], parts[0] + parts[2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_nothing_is_allocated():
    """Neither while it is compiled nor later, when Keras initialises what is on its list."""
    import jax

    shape = kvs.ViTConfig(width=2048, depth=2, mlp_dim=4096, heads=2, patch_size=7)
    before = sum(array.nbytes for array in jax.live_arrays())
    step = compile_step(shape, 2, **OPTIONS, pooling="gap")
    with keras.StatelessScope():
        pass
    left = sum(array.nbytes for array in jax.live_arrays()) - before
    assert step.state["trainable"] > 2**27 > 2**10 > left


def test_half_precision_keeps_the_state_of_its_policy():
    mixed, half = (
        lowered(dtype=dtype, optimizer=Momentum()) for dtype in ("mixed_bfloat16", "bfloat16")
    )
    assert mixed.state["trainable"] == 4 * count()
    # The final norm and the head keep float32.
    wide = 2 * TINY.width + (TINY.width + 1) * CLASSES
    assert half.state["trainable"] == 2 * count() + 2 * wide


# Layouts of four devices, and what each device sends in a step with it, in theory.
DISTRIBUTED = """
import json, sys, keras
from conftest import TINY
from keras_vit_scale.optimizers import Momentum
from keras_vit_scale.planning import compile_step

mesh = keras.distribution.DeviceMesh((4,), ["data"])
layouts = keras.distribution.LayoutMap(mesh)
layouts["encoder/mlp_in_kernel"] = (None, None, "data")
data = keras.distribution.DataParallel(device_mesh=mesh)
sharded = keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="data")
shape = type(TINY)(15, 3, 20, 3, 2)
for name, distribution in (("data", data), ("sharded", sharded)):
    step = compile_step(
        shape, 8, num_classes=5, image_size=14, optimizer=Momentum(), distribution=distribution
    )
    print(json.dumps({
        "name": name, "devices": step.devices, "sent": step.sent, "state": step.state,
        "memory": step.memory.arguments,
        "collectives": [vars(c) for c in step.collectives],
    }))
"""


@pytest.fixture(scope="module")
def distributed():
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


SHAPE = type(TINY)(15, 3, 20, 3, 2)
KERNEL = SHAPE.depth * 15 * 20 * 4


def test_data_parallel_reduces_each_gradient_once(distributed):
    step = distributed["data"]
    gradients = 4 * planning.parameters(SHAPE, 14, pooling="map", num_classes=5)
    assert step["devices"] == 4
    assert {c["kind"] for c in step["collectives"]} == {"all-reduce"}
    reduced = sum(c["bytes"] * c["times"] for c in step["collectives"])
    # Beside them, the loss and what its mean is taken over.
    assert gradients <= reduced < 1.02 * gradients
    assert step["sent"] == pytest.approx(2 * 3 / 4 * reduced)
    assert step["memory"] == sum(step["state"].values()) + 2 * (14**2 * 3 * 4 + 4)


def test_a_sharded_kernel_takes_its_share_and_is_gathered_block_by_block(distributed):
    whole, sharded = distributed["data"], distributed["sharded"]
    share = KERNEL - KERNEL // 4
    assert whole["state"]["trainable"] - sharded["state"]["trainable"] == share
    assert whole["state"]["optimizer"] - sharded["state"]["optimizer"] == share // 2
    inside = [c for c in sharded["collectives"] if c["in_loop"]]
    assert inside
    assert all(c["times"] % SHAPE.depth == 0 for c in inside)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_classes": None}, "num_classes=None"),
        ({"device": "v5e", "distribution": object()}, "device='v5e'"),
        ({"device": "v9"}, "topology='v9'"),
        ({"remat": "ful"}, "remat='ful'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lower_step(TINY, **{"batch_size": 2, **OPTIONS, **options})


@pytest.mark.parametrize("name", ["v5e:2", "v4:2x2", "v5e:0x2", "v5e:2x2x1", "v7", "", 4])
def test_unknown_topologies_are_refused(name):
    with pytest.raises(ValueError, match="`topology` must be"):
        tpu_devices(name)


@pytest.mark.libtpu
@pytest.mark.parametrize(
    ("name", "devices", "kind"),
    [
        ("v3", 1, "TPU v3"),
        ("v3:2x2", 8, "TPU v3"),
        ("v4:2x2x1", 4, "TPU v4"),
        ("v5e", 1, "TPU v5 lite"),
        ("v5e:1x1", 1, "TPU v5 lite"),
        ("v5e:4x8", 32, "TPU v5 lite"),
        ("v5p:2x2x2", 8, "TPU v5"),
        ("v6e:2x4", 8, "TPU v6 lite"),
    ],
)
def test_topologies_have_their_devices(name, devices, kind):
    found = tpu_devices(name)
    assert len(found) == devices
    assert {device.device_kind for device in found} == {kind}
    recognised = planning.recognised(kind)
    assert recognised is not None
    assert name.partition(":")[0] in recognised.name


@pytest.mark.libtpu
def test_several_processes_compile_at_once():
    code = (
        "from keras_vit_scale.planning import tpu_devices; "
        "print(len(tpu_devices('v5e:2x2'))); input()"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    # Each holds libtpu until both have it.
    lines = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate("\n")
    assert lines == ["4\n", "4\n"]


@pytest.mark.libtpu
def test_a_tpu_that_is_not_there():
    mesh = keras.distribution.DeviceMesh((4,), ["data"], tpu_devices("v5e:2x2"))
    step = compile_step(
        TINY, 8, **OPTIONS,
        distribution=keras.distribution.DataParallel(device_mesh=mesh),
    )  # fmt: skip
    gradients = 4 * count()
    assert (step.device, step.devices) == ("TPU v5 lite", 4)
    reduced = sum(c.bytes * c.times for c in step.collectives if c.kind == "all-reduce")
    assert gradients <= reduced
    # TPUs lay arrays out in tiles, so that a small one takes more than its numbers.
    assert step.memory.arguments >= sum(step.state.values())


WIDE = kvs.ViTConfig(width=20, depth=3, mlp_dim=28, heads=5, patch_size=2)


def planned(batch, layout, **options):
    """The step of WIDE on four chips, with a layout of all its variables."""
    devices = tpu_devices("v5e:2x2")
    step = lower_step(
        WIDE,
        batch,
        **OPTIONS,
        optimizer=Momentum(),
        remat="full",
        distribution=layout(devices=devices, **options),
    )
    return step, step.plan()


@pytest.mark.libtpu
def test_full_sharding_sends_weights_and_no_tokens():
    """Hardly more with four times the images; and it holds a quarter of what is cut."""
    (step, few), (_, many) = (planned(n, fully_sharded, min_size=1) for n in (8, 32))
    weights = 4 * planning.parameters(WIDE, SIZE, pooling="map", num_classes=CLASSES)
    assert weights / 4 < step.state["trainable"] < 0.3 * weights
    assert many.sent < 1.2 * few.sent
    # Gathered for the forward pass and again for the backward pass, whose sums are then cut; XLA
    # sends some of it in 16 bits.
    assert 2 * 3 / 4 * weights < few.sent < 5 * 3 / 4 * weights


@pytest.mark.libtpu
def test_copies_of_a_sharded_model_are_halves():
    step, plan = planned(8, fully_sharded, min_size=1, shards=2)
    weights = 4 * planning.parameters(WIDE, SIZE, pooling="map", num_classes=CLASSES)
    assert weights / 2 < step.state["trainable"] < 0.53 * weights
    # Gathered twice from one neighbour; gradients are summed over all.
    assert 2 / 2 * weights < plan.sent < (2 / 2 + 2) * weights


@pytest.mark.libtpu
def test_tensor_parallelism_sums_tokens_and_data_parallelism_gradients():
    weights = 4 * planning.parameters(WIDE, SIZE, pooling="map", num_classes=CLASSES)
    _, data = planned(8, data_parallel)
    assert weights <= sum(c.bytes * c.times for c in data.collectives) < 1.1 * weights
    shape = kvs.ViTConfig(width=20, depth=3, mlp_dim=28, heads=4, patch_size=2)
    step = lower_step(
        shape,
        8,
        **OPTIONS,
        remat="full",
        distribution=tensor_parallel(4, devices=tpu_devices("v5e:2x2")),
    )
    tokens = 8 * TOKENS * shape.width * 4
    sums = [c for c in step.plan().collectives if c.in_loop and c.bytes == tokens]
    # Two in a block forward and two backward; of the former one again, where it is rematerialised.
    assert {c.kind for c in sums} == {"all-reduce"}
    assert sum(c.times for c in sums) == 5 * shape.depth


@pytest.mark.libtpu
def test_what_a_tpu_cannot_hold_is_refused_with_its_size():
    images = 2**24
    with pytest.raises(OutOfMemoryError, match="GiB of a device that has") as raised:
        compile_step("mu/16", images, num_classes=5, image_size=16, device="v5e")
    assert 14 * 2**30 < raised.value.available < 16 * 2**30
    assert raised.value.needed > 4 * images * 16**2 * 3
