"""Checkpoints: exact, complete, and refused when damaged."""

import json

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import Adafactor, ReciprocalSqrt, SigmoidCrossEntropy, ViT, ViTConfig
from keras_vit_scale.data import TrainTransform, digits
from keras_vit_scale.training.checkpoint import (
    ARRAYS,
    MANIFEST,
    CheckpointError,
    is_complete,
    restore_checkpoint,
    save_checkpoint,
    training_state,
)
from keras_vit_scale.training.loop import DivergedError, train_steps

SHAPE = ViTConfig(width=36, depth=2, mlp_dim=40, heads=2, patch_size=4)
TRANSFORM = TrainTransform(8, crop="shift", flip=False)


def make_model(peak=3e-3, **options):
    model = ViT(SHAPE, 10, image_size=8)
    model.compile(
        Adafactor(ReciprocalSqrt(peak, warmup_steps=2, timescale=9), weight_decay=0.1, **options),
        SigmoidCrossEntropy(),
    )
    return model


def train(model, stop):
    return train_steps(model, digits(), TRANSFORM, batch_size=8, seed=3, stop=stop)


def state_of(model):
    return {name: as_numpy(v).copy() for name, v in training_state(model).items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_restored_run_is_the_run(tmp_path):
    """Stopped after 5 of 9 steps and continued in a new model: bit for bit the same."""
    straight = make_model()
    train(straight, 9)

    keras.utils.set_random_seed(7)
    first = make_model()
    train(first, 5)
    save_checkpoint(tmp_path / "step-5", first, 5)
    keras.utils.set_random_seed(99)
    second = make_model()
    assert restore_checkpoint(tmp_path / "step-5", second) == 5
    assert_same(state_of(first), state_of(second))
    train(second, 9)
    assert int(second.optimizer.iterations) == 9
    keras.utils.set_random_seed(7)
    third = make_model()
    train(third, 5)
    train(third, 9)
    assert_same(state_of(third), state_of(second))
    for name, value in state_of(straight).items():
        np.testing.assert_allclose(value, state_of(second)[name], rtol=1e-5, atol=1e-5)


def test_half_precision_and_scalars_survive(tmp_path):
    model = make_model()
    train(model, 2)
    save_checkpoint(tmp_path, model, 2)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["step"] == 2
    kinds = {a["dtype"] for a in manifest["arrays"].values()}
    assert {"float32", "bfloat16"} <= kinds
    assert manifest["arrays"]["optimizer/iteration"]["shape"] == []
    assert manifest["arrays"]["model/encoder/query_kernel"]["shape"] == [2, 36, 2, 18]


@pytest.fixture
def saved(tmp_path):
    model = make_model()
    train(model, 1)
    save_checkpoint(tmp_path / "one", model, 1)
    return tmp_path / "one"


def flip_bit(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])


DAMAGE = {
    "bit flipped in the last array": (lambda d: flip_bit(d / ARRAYS, -3), "digest"),
    "bit flipped in the middle": (
        lambda d: flip_bit(d / ARRAYS, (d / ARRAYS).stat().st_size // 2),
        "digest",
    ),
    "arrays cut short": (lambda d: cut(d / ARRAYS, 10), "Cannot read"),
    "arrays gone": (lambda d: (d / ARRAYS).unlink(), "Cannot read"),
    "manifest gone": (lambda d: (d / MANIFEST).unlink(), "No readable checkpoint"),
    "manifest cut short": (lambda d: cut(d / MANIFEST, 10), "No readable checkpoint"),
    "manifest a number": (lambda d: (d / MANIFEST).write_text("2"), "No readable checkpoint"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_and_changes_nothing(damage, message, saved):
    damage(saved)
    model = make_model()
    before = state_of(model)
    with pytest.raises(CheckpointError, match=message):
        restore_checkpoint(saved, model)
    assert_same(before, state_of(model))


def test_another_models_checkpoint_is_told_and_changes_nothing(saved):
    other = ViT(ViTConfig(36, 3, 40, 2, 4), 10, image_size=8, pooling="gap")
    other.compile(Adafactor(), SigmoidCrossEntropy())
    before = state_of(other)
    with pytest.raises(CheckpointError) as error:
        restore_checkpoint(saved, other)
    assert "model/pooling/probe is unknown to the model" in str(error.value)
    assert "model/encoder/query_kernel is (2, 36, 2, 18), the model's (3, 36, 2, 18)" in str(
        error.value
    )
    assert_same(before, state_of(other))


def test_an_unfinished_save_is_no_checkpoint(saved, monkeypatch):
    """Dies after the arrays were written and before the manifest was."""
    from keras_vit_scale.training import checkpoint

    model = make_model()
    train(model, 2)
    monkeypatch.setattr(
        checkpoint, "write_text", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(saved, model, 2)
    assert not is_complete(saved)


def test_variables_of_one_name_are_refused():
    class Twin(keras.layers.Layer):
        def build(self, shape):
            self.a = self.add_weight(name="w", shape=(2,))
            self.b = self.add_weight(name="w", shape=(2,))

        def call(self, x):
            return x + self.a + self.b

    model = keras.Sequential([keras.Input((2,)), Twin(name="twin")])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="twin/w"):
        training_state(model)


def test_divergence_is_an_error():
    model = make_model(peak=1e30)
    with pytest.raises(DivergedError, match="lower the peak rate"):
        train(model, 20)
