"""Layouts: which axis of which weight is cut, what is refused, and the same results on any."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY

import keras_vit_scale as kvs
from keras_vit_scale import distribution
from keras_vit_scale.distribution.axes import axes_of
from keras_vit_scale.distribution.layouts import MeshParallel
from keras_vit_scale.models import to_blocks

on_jax = keras.backend.backend() == "jax"
needs_jax = pytest.mark.skipif(not on_jax, reason="keras.distribution is for JAX alone")
SCRIPT = Path(__file__).parent / "several" / "train_on.py"


def layout(data=4, model=2, **options):
    """A layout of devices that are not there: what it says of a variable needs none."""
    devices = [f"cpu:{i}" for i in range(data * model)]
    return MeshParallel(distribution.make_mesh(data, model, devices), **options)


@pytest.mark.skipif(on_jax, reason="JAX has it")
@pytest.mark.parametrize(
    "make",
    [
        distribution.data_parallel,
        distribution.fully_sharded,
        lambda: distribution.tensor_parallel(2),
        distribution.make_mesh,
        lambda: distribution.layout_map(None),
        lambda: distribution.describe(None),
    ],
)
def test_other_backends_are_refused_at_once(make):
    with pytest.raises(ValueError, match="needs the JAX backend: set KERAS_BACKEND=jax"):
        make()


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
@pytest.mark.parametrize("frozen", [0, 1])
def test_every_weight_of_a_vit_says_what_its_axes_count(pooling, frozen):
    """Sizes are distinct, so that each letter must stand for one size, and each size has one."""
    config = kvs.ViTConfig(width=12, depth=2, mlp_dim=19, heads=3, patch_size=5)
    model = kvs.ViT(config, 7, image_size=(5, 85), pooling=pooling, frozen_blocks=frozen)
    sizes = {"D": 12, "M": 19, "K": 3, "F": 4, "C": 7, "N": 17, "P": 5, "I": 3, "1": 1}
    for variable in model.variables:
        axes = axes_of(variable.path)
        assert axes is not None, variable.path
        stack = 1 if frozen else 2
        assert tuple({"L": stack, **sizes}[a] for a in axes) == tuple(variable.shape), variable.path


def test_every_weight_of_ordinary_blocks_too():
    model = to_blocks(kvs.ViT(TINY, 7, image_size=(4, 6)))
    assert [v.path for v in model.variables if axes_of(v.path) is None] == []


FULL, TENSOR = {"fully_sharded": True, "min_size": 1}, {}
PART = {**FULL, "shards": 2}
CASES = [
    # path, shape, options, mesh, axes
    ("encoder/query_kernel", (3, 40, 4, 10), TENSOR, (1, 2), (None, None, "model", None)),
    ("encoder/query_kernel", (3, 40, 4, 10), FULL, (4, 2), (None, "data", "model", None)),
    ("encoder/out_kernel", (3, 4, 10, 40), FULL, (4, 2), (None, "model", None, "data")),
    ("encoder/mlp_out_kernel", (3, 44, 40), FULL, (4, 2), (None, "model", "data")),
    ("pooling/mlp_in_bias", (44,), TENSOR, (1, 2), ("model",)),
    ("pooling/mlp_out_bias", (40,), TENSOR, (1, 2), (None,)),
    ("encoder/mlp_in_kernel", (3, 42, 44), PART, (8, 1), (None, "data", "model")),
    ("dense/kernel", (9, 10), PART, (4, 2), (None, "data")),
    ("head/kernel", (40, 29593), FULL, (4, 2), ("data", None)),
    ("head/bias", (29593,), FULL, (4, 2), (None,)),
    # Whole where it is small, but heads are cut all the same.
    ("encoder/key_bias", (3, 4, 10), {"fully_sharded": True}, (4, 2), (None, "model", None)),
    ("norm/gamma", (40,), {"fully_sharded": True}, (4, 2), (None,)),
    # No ViT's: the largest axis that divides; scalars never.
    ("dense/kernel", (9, 8), FULL, (4, 2), (None, "data")),
    ("adam/iteration", (), FULL, (4, 2), ()),
    ("dense/kernel", (9, 8), {"rules": {"den.*": ("model", None)}}, (4, 3), ("model", None)),
]


@needs_jax
@pytest.mark.parametrize(("path", "shape", "options", "mesh", "axes"), CASES)
def test_which_axis_is_cut(path, shape, options, mesh, axes):
    assert layout(*mesh, **options).axes(path, shape) == axes


REFUSED = [
    (("encoder/query_kernel", (3, 40, 6, 10), {}, (1, 4)), "model axis, 4.*query_k.*divides 6"),
    (("encoder/mlp_in_kernel", (3, 42, 44), FULL, (4, 1)), "data axis, 4.*mlp_in_k.*divides 42"),
    (("encoder/mlp_in_kernel", (3, 43, 44), PART, (8, 1)), "data axis, 2.*divides 43 for `shards`"),
    (("dense/kernel", (9, 7), FULL, (4, 1)), "multiple of the mesh's data axis.*'dense/kernel'"),
    (("dense/kernel", (300, 300), {}, (1, 2)), r"no rule.*{'dense/kernel': \(None, None\)}"),
    (("a", (4,), {"rules": {"a": (None, None)}}, (1, 1)), "an entry for each axis"),
]  # fmt: skip


@needs_jax
@pytest.mark.parametrize(("case", "told"), REFUSED)
def test_what_cannot_lie_so_is_named(case, told):
    path, shape, options, mesh = case
    with pytest.raises(ValueError, match=told):
        layout(*mesh, **options).axes(path, shape)


@needs_jax
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: distribution.make_mesh(2, 3, ["cpu:0"]), "data=2, model=3, 1 devices"),
        (lambda: distribution.make_mesh(model=2, devices=["cpu:0"]), "multiple of `model`"),
        (lambda: distribution.make_mesh(0), "`data` must be a positive integer"),
        (lambda: layout(min_size=0), "`min_size` must be a positive integer"),
        (lambda: layout(fully_sharded=True, shards=3), "`shards` must divide.*shards=3, data=4"),
        (lambda: layout(shards=2), "fully sharded. Received.*fully_sharded=False"),
        (lambda: layout(fully_sharded=True, shards=0), "`shards` must be a positive integer"),
        (lambda: layout(rules={"a[": (None,)}), "must be a regular expression"),
        (lambda: layout(rules={"a": ("batch",)}), "axes must be 'data', 'model'"),
        (lambda: layout(rules={"a": ("data", "data")}), "each once"),
        (
            lambda: MeshParallel(keras.distribution.DeviceMesh((1,), ("x",), ["cpu:0"])),
            "must have the axes 'data' and 'model'",
        ),
    ],
)
def test_what_is_no_layout(make, told):
    with pytest.raises(ValueError, match=told):
        make()


@pytest.mark.parametrize("text", ["", "data", "data=0", "data=2,data=3", "batch=2", "model=-1"])
def test_what_is_no_mesh(text):
    with pytest.raises(ValueError, match="A mesh must be numbers of devices by axis"):
        distribution.parse_mesh(text)


@needs_jax
def test_a_rule_for_nothing_and_a_model_from_before_are_refused():
    one = keras.distribution.list_devices()[:1]
    with MeshParallel(distribution.make_mesh(devices=one), rules={"encodr/.*": ()}):
        model = kvs.ViT(TINY, 7, image_size=(4, 6))
        with pytest.raises(ValueError, match=r"Each rule must match.*encodr"):
            distribution.describe(model)
    assert keras.distribution.distribution() is None
    with pytest.raises(ValueError, match="must be built after the distribution is set"):
        layout().check(model)


@needs_jax
def test_a_layout_map_says_the_same():
    mesh = layout().device_mesh
    layouts = distribution.layout_map(mesh, fully_sharded=True)
    assert layouts["my_model/encoder/frozen_out_kernel"].axes == (None, "model", None, "data")
    assert layouts["dense/kernel"] is None


def run(out, *layouts):
    options = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, str(SCRIPT), str(out), *layouts]
    ran = subprocess.run(command, env=options, capture_output=True, text=True, timeout=1500)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [np.load(Path(out, f"{layout}.npz")) for layout in layouts]


def check_same(one, other, large):
    """What any layout must have in common with one device after 20 steps at a rate of 1e-3.

    Losses, logits, and features in another mesh: 1e-5. Weights move by up to 2e-2; sums in another
    order, which Adafactor divides by roots of second moments near zero, come to 2e-4 at most.
    Gradients of key biases are zero but for rounding, of which the optimizer makes steps of full
    size.
    """
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-5)
    scale = np.abs(one["logits"]).max()
    np.testing.assert_allclose(other["logits"], one["logits"], rtol=0, atol=1e-5 * scale)
    scale = np.abs(one["features"]).max()
    for features in ("features", "features elsewhere"):
        np.testing.assert_allclose(other[features], one["features"], rtol=0, atol=1e-5 * scale)
    names = [n for n in one.files if n.startswith("weights/") and "key_bias" not in n]
    assert len(names) > 30
    for name in names:
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=2e-4, err_msg=name)
    moved = max(np.abs(one[n] - np.mean(one[n])).max() for n in names)
    assert moved > 1e-2
    if large:
        assert other["bytes_a_device"] < 1.3 * other["bytes"] / large


@needs_jax
def test_the_same_training_on_eight_devices(tmp_path):
    layouts = ("one", "data=8+full", "data=4,model=2+full+shards2", "data=2,model=4")
    one, full, copies, tensor = run(tmp_path, *layouts)
    check_same(one, full, large=8)
    check_same(one, copies, large=4)
    check_same(one, tensor, large=0)
    # Heads and MLP hold most of the weights; what tensor parallelism leaves whole is here.
    assert tensor["bytes_a_device"] < 0.35 * tensor["bytes"]
    assert one["bytes"] == full["bytes"] == tensor["bytes"]


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "+all"])
def test_the_same_training_on_any_number_of_devices(tmp_path, options):
    layouts = ["one", "data=2", "data=4", "data=8", "model=2", "data=2+full", "data=4,model=2+full"]
    one, *others = run(tmp_path, *[layout + options for layout in layouts])
    for name, other in zip(layouts[1:], others, strict=True):
        large = {"data=2+full": 2, "data=4,model=2+full": 8}.get(name, 0)
        check_same(one, other, large)
