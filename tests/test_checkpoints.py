"""Checkpoints: exact, complete, and refused when damaged."""

import json
import shutil
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import Adafactor, ReciprocalSqrt, SigmoidCrossEntropy, ViT, ViTConfig
from keras_vit_scale.data import TrainTransform, digits
from keras_vit_scale.formats import FormatError
from keras_vit_scale.training.callbacks.steps import steps_done
from keras_vit_scale.training.checkpoints import (
    CheckpointError,
    CheckpointStore,
    Keep,
    manifest,
    restore_folder,
    restoring,
    training_state,
)
from keras_vit_scale.training.checkpoints.chunks import (
    check_chunks,
    cut,
    read_region,
    write_chunks,
)
from keras_vit_scale.training.checkpoints.manifest import (
    MANIFEST,
    DamagedError,
    check_arrays,
    read_manifest,
)
from keras_vit_scale.training.checkpoints.state import Piece, set_metrics
from keras_vit_scale.training.checkpoints.storage import LocalFolder, open_folder
from keras_vit_scale.training.diverged import DivergedError
from keras_vit_scale.training.loop import train_steps

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


def save(folder, model, step, **options):
    store = CheckpointStore(folder)
    store.save(model, step, **options)
    store.wait()
    return store


def test_a_restored_run_is_the_run(tmp_path):
    """Stopped after 5 of 9 steps and continued in a new model: bit for bit the same."""
    straight = make_model()
    train(straight, 9)

    keras.utils.set_random_seed(7)
    first = make_model()
    train(first, 5)
    store = save(tmp_path, first, 5)
    keras.utils.set_random_seed(99)
    second = make_model()
    assert store.restore(second).step == 5
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


@pytest.mark.slow
def test_steps_are_batches_where_gradients_are_accumulated(tmp_path):
    """Saved between the two batches of an update."""
    whole, first, second = (make_model(gradient_accumulation_steps=2) for _ in range(3))
    first.set_weights(whole.get_weights())
    train(whole, 6)
    train(first, 3)
    assert (steps_done(first), int(first.optimizer.iterations)) == (3, 1)
    save(tmp_path, first, 3).restore(second)
    train(second, 6)
    assert_same(state_of(whole), state_of(second))


def test_half_precision_scalars_metrics_and_extras_survive(tmp_path):
    model = make_model()
    train(model, 2)
    store = save(tmp_path, model, 2, extra={"seen": 16, "rows": [1.5, None]})
    manifest = read_manifest(store.folder.folder("step-00000002"))
    kinds = {entry.dtype.name for entry in manifest.arrays.values()}
    assert {"float32", "bfloat16"} <= kinds
    assert manifest.arrays["optimizer/iteration"].shape == ()
    assert manifest.arrays["model/encoder/query_kernel"].shape == (2, 36, 2, 18)
    assert manifest.about["backend"] == keras.backend.backend()
    loss = model.get_metrics_result()["loss"]
    restored = store.restore(make_model())
    assert restored.extra == {"seen": 16, "rows": [1.5, None]}
    fresh = make_model()
    set_metrics(fresh, restored.metrics)
    assert fresh.get_metrics_result()["loss"] == loss


def test_a_file_is_what_safetensors_reads(tmp_path):
    from safetensors.numpy import load_file

    model = make_model()
    save(tmp_path, model, 0)
    arrays = load_file(tmp_path / "step-00000000" / "arrays-0000-000.safetensors")
    for name, value in state_of(model).items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)


class Waiting(LocalFolder):
    """One that is written to only once it may be."""

    may = threading.Event()

    def folder(self, name):
        return Waiting(self.path / name)

    @contextmanager
    def writing(self, name):
        assert self.may.wait(timeout=300)
        with super().writing(name) as file:
            yield file


def test_the_copy_is_of_the_moment(tmp_path):
    """Training goes on while a save is written; what it writes is of when it was asked for."""
    model = make_model()
    train(model, 2)
    expected = state_of(model)
    store = CheckpointStore(Waiting(tmp_path))
    store.save(model, 2)
    train(model, 5)
    assert not store.steps()
    Waiting.may.set()
    store.wait()
    other = make_model()
    store.restore(other)
    assert_same(expected, state_of(other))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with checkpoints of steps 1 and 2, and the states that they hold."""
    keras.utils.set_random_seed(7)
    model, states = make_model(), {}
    store = CheckpointStore(tmp_path_factory.mktemp("trained") / "store")
    for step in (1, 2):
        train(model, step)
        store.save(model, step)
        states[step] = state_of(model)
    store.wait()
    return store.folder.path, states


@pytest.fixture
def saved(trained, tmp_path):
    """A copy of these checkpoints, and the states that they hold."""
    shutil.copytree(trained[0], tmp_path / "store")
    return CheckpointStore(tmp_path / "store"), trained[1]


def flip_bit(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


def shorten(path, by):
    path.write_bytes(path.read_bytes()[:-by])


def arrays_file(folder):
    return folder / "arrays-0000-000.safetensors"


def bytes_of_arrays(folder):
    """Where the arrays' bytes lie in the file."""
    content = arrays_file(folder).read_bytes()
    return range(8 + struct.unpack("<Q", content[:8])[0], len(content))


DAMAGE = {
    "bit in the last array": (lambda d: flip_bit(arrays_file(d), -3), "digest"),
    "arrays cut short": (lambda d: shorten(arrays_file(d), 10), "bytes before an array does"),
    "arrays gone": (lambda d: arrays_file(d).unlink(), "cannot be read"),
    "manifest gone": (lambda d: (d / MANIFEST).unlink(), "must be a checkpoint of that step"),
    "manifest cut short": (lambda d: shorten(d / MANIFEST, 10), "is damaged: JSONDecodeError"),
    "another step in it": (
        lambda d: (d / MANIFEST).write_text(
            (d / MANIFEST).read_text().replace('"step": 2', '"step": 3')
        ),
        "digest",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_and_changes_nothing(damage, message, saved):
    store, states = saved
    damage(store.folder.path / "step-00000002")
    model = make_model()
    before = state_of(model)
    with pytest.raises(CheckpointError, match=message):
        store.restore(model, 2)
    assert_same(before, state_of(model))
    if "gone" in message or "must be" in message:
        assert store.restore(model).step == 1
    else:
        with pytest.warns(UserWarning, match="The checkpoint of step 1 is taken"):
            assert store.restore(model).step == 1
    assert_same(states[1], state_of(model))


def test_a_later_format_is_refused_with_the_cure(saved):
    """And not deleted, or passed over for the one before, as a damaged one is."""
    content = {"format": 3, "novel": True}
    content["blake2b"] = manifest._digest(content)
    (saved[0].folder.path / "step-00000002" / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"the formats 1 to 2 of a checkpoint.*--upgrade"):
        saved[0].restore(make_model())


def test_every_flipped_bit_and_every_truncation_is_noticed(saved):
    """300 random bits of the arrays, 100 of the manifest, 100 lengths."""
    store, _ = saved
    folder = store.folder.path / "step-00000002"
    model = make_model()
    before = state_of(model)
    rng = np.random.default_rng(0)
    places = bytes_of_arrays(folder)
    manifest_length = (folder / MANIFEST).stat().st_size
    cases = [(arrays_file(folder), int(p)) for p in rng.choice(places, 300)]
    cases += [(folder / MANIFEST, int(p)) for p in rng.integers(0, manifest_length, 100)]
    cases += [(folder / MANIFEST, p) for p in range(24)]  # where the format stands
    for path, place in cases:
        bit = int(rng.integers(8))
        flip_bit(path, place, bit)
        with pytest.raises(DamagedError):
            restore_folder(LocalFolder(folder), model)
        flip_bit(path, place, bit)
    for path in (arrays_file(folder), folder / MANIFEST):
        content = path.read_bytes()
        for length in rng.integers(0, len(content), 50):
            path.write_bytes(content[:length])
            with pytest.raises(DamagedError):
                restore_folder(LocalFolder(folder), model)
        path.write_bytes(content)
    assert_same(before, state_of(model))
    restore_folder(LocalFolder(folder), model)


def test_of_three_parts_of_a_checkpoint_one_has_the_damage(saved):
    """As three processes read them, each its own."""
    folder = saved[0].folder.path / "step-00000002"
    manifest = read_manifest(LocalFolder(folder))

    def damages():
        return [check_arrays(LocalFolder(folder), manifest, (i, 3)) for i in range(3)]

    assert damages() == [[], [], []]
    places = np.random.default_rng(1).choice(bytes_of_arrays(folder), 30)
    finders = set()
    for place in places:
        flip_bit(arrays_file(folder), int(place))
        found = damages()
        assert sum(map(len, found)) == 1
        finders |= {i for i, problems in enumerate(found) if problems}
        flip_bit(arrays_file(folder), int(place))
    assert finders == {0, 1, 2}


def test_another_models_checkpoint_is_told_and_changes_nothing(saved):
    other = ViT(ViTConfig(36, 3, 40, 2, 4), 10, image_size=8, pooling="gap")
    other.compile(Adafactor(), SigmoidCrossEntropy())
    before = state_of(other)
    with pytest.raises(CheckpointError) as error:
        saved[0].restore(other, 2)
    assert "model/pooling/probe is unknown to the model" in str(error.value)
    assert "model/encoder/query_kernel is (2, 36, 2, 18), the model's (3, 36, 2, 18)" in str(
        error.value
    )
    assert_same(before, state_of(other))


def test_a_save_that_fails_is_an_error_and_leaves_the_one_before(saved):
    """The disk is full when the manifest is to be written."""
    store, _ = saved
    model = make_model()
    train(model, 3)
    store.save(model, 3)
    store.wait()
    blocked = CheckpointStore(Blocked(store.folder.path))
    blocked.save(model, 4)
    with pytest.raises(OSError, match="No space left"):
        blocked.wait()
    blocked.wait()  # told once
    assert store.steps() == [2, 3]


class Blocked(LocalFolder):
    """A folder on a full disk."""

    def folder(self, name):
        return Blocked(self.path / name)

    def writing(self, name):
        if name == MANIFEST:
            raise OSError(28, "No space left on device")
        return super().writing(name)


def test_what_is_not_finite_is_never_saved(saved):
    store, _ = saved
    model = make_model()
    variable = model.trainable_variables[0]
    value = as_numpy(variable).copy()
    value.flat[-1] = np.nan
    variable.assign(value)
    store.save(model, 3)
    with pytest.raises(CheckpointError, match=r"must be finite;.*Received: model/patch_embedding"):
        store.wait()
    assert store.steps() == [1, 2]


def test_large_finite_values_whose_sum_overflows_are_saved(tmp_path):
    model = make_model()
    variable = model.trainable_variables[0]
    variable.assign(np.full(variable.shape, 3e38, "float32"))
    assert save(tmp_path, model, 0).steps() == [0]


# Steps saved in this order, what is kept, and which stay.
KEPT = {
    "the last two": (Keep(), [5, 10, 15], {}, [10, 15]),
    "the last": (Keep(last=1), [5, 10, 15], {}, [15]),
    "every ten": (Keep(last=1, every=10), [5, 10, 15, 20, 25], {}, [10, 20, 25]),
    "by name": (Keep(last=1), [5, 10, 15], {"best": 5}, [5, 15]),
}


@pytest.mark.parametrize(("keep", "steps", "names", "left"), KEPT.values(), ids=KEPT)
def test_what_stays(keep, steps, names, left, tmp_path):
    model, store = make_model(), CheckpointStore(tmp_path, keep)
    by_step = {step: name for name, step in names.items()}
    (tmp_path / "step-00000003").mkdir()  # begun by a process that was killed
    for step in steps:
        store.save(model, step, name=by_step.get(step))
    store.wait()
    assert store.steps() == left
    assert sorted(f.name for f in tmp_path.glob("step-*")) == [f"step-{s:08d}" for s in left]
    for name, step in names.items():
        assert store.restore(model, name).step == step


def test_steps_before_those_that_are_there_stay_as_if_they_were_the_last(tmp_path):
    """As where later ones are damaged, or a study trains an earlier part of its trunk."""
    store, model = CheckpointStore(tmp_path / "run", Keep(last=2)), make_model()
    for step in (20, 50, 5, 7, 9):
        store.save(model, step)
    store.wait()
    assert store.steps() == [7, 9, 20, 50]


def test_what_a_kill_left_makes_room_before_the_next_save(saved):
    store, left = saved[0], saved[0].folder_of(1)
    left.delete(MANIFEST)
    model = make_model()
    model.weights[0].assign(model.weights[0] * np.nan)
    store.save(model, 3)
    with pytest.raises(DivergedError):
        store.wait()
    assert not left.path.exists()
    assert store.steps() == [2]


def test_a_bucket_holds_the_same(saved):
    import fsspec

    store, states = saved
    remote = CheckpointStore("memory://checkpoints/run", Keep(last=1))
    model = make_model()
    store.restore(model, 2)
    for step in (2, 7):
        remote.save(model, step, name="first" if step == 2 else None)
    remote.wait()
    assert remote.steps() == [2, 7]
    other = make_model()
    assert remote.restore(other).step == 7
    assert_same(states[2], state_of(other))
    files = fsspec.filesystem("memory")
    path = next(p for p in files.find("/checkpoints/run/step-00000007") if "arrays" in p)
    content = bytearray(files.cat_file(path))
    content[-1] ^= 1
    files.pipe_file(path, bytes(content))
    with pytest.warns(UserWarning, match="The checkpoint of step 2 is taken"):
        assert remote.restore(other).step == 2


def test_a_checkpoint_of_the_first_format_is_read(saved, tmp_path):
    """One file, one digest an array: made here by hand, as the first version wrote it."""
    import hashlib

    from safetensors.numpy import save_file

    _, states = saved
    folder = tmp_path / "old" / "step-00000002"
    folder.mkdir(parents=True)
    save_file(states[2], folder / "arrays.safetensors")
    manifest = {
        "format": 1,
        "step": 2,
        "keras": "3.15.1",
        "backend": "jax",
        "arrays": {
            name: {
                "shape": list(a.shape),
                "dtype": a.dtype.name,
                "blake2b": hashlib.blake2b(a.tobytes(), digest_size=16).hexdigest(),
            }
            for name, a in states[2].items()
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    model = make_model()
    store = CheckpointStore(tmp_path / "old")
    assert store.restore(model).step == 2
    assert_same(states[2], state_of(model))
    flip_bit(folder / "arrays.safetensors", -3)
    with pytest.raises(CheckpointError, match="digest"):
        store.restore(model)


@pytest.mark.parametrize("chunk_bytes", [1, 29, 10**6])
def test_chunks_put_together_are_the_array(chunk_bytes, tmp_path, monkeypatch):
    """Shards of an array, in chunks, over several files; read whole and in boxes."""
    from keras_vit_scale.training.checkpoints import chunks as module

    monkeypatch.setattr(module, "FILE_BYTES", 100)
    monkeypatch.setattr(cut, "__defaults__", (chunk_bytes,))
    rng = np.random.default_rng(1)
    whole = rng.standard_normal((1, 7, 5, 3)).astype("float32")
    shards = [
        Piece((0, a, b, 0), np.ascontiguousarray(whole[:, a : a + 4, b : b + 2]))
        for a in (0, 4)
        for b in (0, 2, 4)
    ]
    scalar, empty = np.float32(2.5), np.zeros((0, 3), "int32")
    arrays = {"w": shards, "s": [Piece((), np.array(scalar))], "e": [Piece((0, 0), empty)]}
    folder = open_folder(tmp_path)
    found = write_chunks(folder, arrays, "arrays-0000")
    dtypes = {"w": np.dtype("float32"), "s": np.dtype("float32"), "e": np.dtype("int32")}
    assert check_chunks(folder, found, dtypes) == []
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for start, shape in (((0, 0, 0, 0), (1, 7, 5, 3)), ((0, 3, 1, 2), (1, 3, 3, 1))):
        box = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        region = read_region(folder, found["w"], dtypes["w"], start, shape)
        np.testing.assert_array_equal(region, whole[box])
    assert read_region(folder, found["s"], dtypes["s"], (), ()) == scalar
    assert read_region(folder, found["e"], dtypes["e"], (0, 0), (0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match="of 105 values"):
        read_region(folder, found["w"][:-1], dtypes["w"], (0, 0, 0, 0), (1, 7, 5, 3))


def dense(widths):
    layers = [keras.layers.Dense(width) for width in widths]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, widths[-1])), verbose=0)
    return model


def test_layers_that_keras_numbered_are_known_by_their_order(tmp_path):
    """As in a notebook, where the same lines make dense_3 and dense_4 of dense_1 and dense_2."""
    first, second = dense([5, 5, 2]), dense([5, 5, 2])
    store = save(tmp_path, first, 1)
    store.restore(second)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    slots = [[as_numpy(v) for v in model.optimizer.variables] for model in (first, second)]
    for a, b in zip(*slots, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(CheckpointError, match="is unknown to the model"):
        store.restore(dense([5, 2, 2]))


def test_what_is_not_there_is_said(tmp_path, saved):
    with pytest.raises(CheckpointError, match="There is no checkpoint in"):
        CheckpointStore(tmp_path / "none").restore(make_model())
    with pytest.raises(CheckpointError, match=r"Received: 'best'; there are \[1, 2\]"):
        saved[0].restore(make_model(), "best")
    shutil.rmtree(saved[0].folder.path)
    assert saved[0].steps() == []


#: Saves, as fast as it can, a model whose weights are all the step, and keeps the newest.
WRITER = """
import itertools, sys
from keras import Input, Sequential, layers
from keras_vit_scale.training import CheckpointStore, Keep

model = Sequential([Input((31,)), layers.Dense(37, name="a"), layers.Dense(41, name="b")])
model.compile("sgd", "mse", jit_compile=False)
store = CheckpointStore(sys.argv[1], Keep(last=1))
for step in itertools.count():
    for weight in model.weights:
        weight.assign(0 * weight + step)
    store.save(model, step)
"""


@pytest.mark.filterwarnings("error::UserWarning")
def test_beside_a_process_that_saves_and_deletes_a_reader_finds_what_is_whole(tmp_path):
    """Each time one checkpoint, no earlier than the last, although most are gone soon."""
    model = keras.Sequential(
        [
            keras.Input((31,)), keras.layers.Dense(37, name="a"), keras.layers.Dense(41, name="b"),
        ]
    )  # fmt: skip
    model.compile("sgd", "mse", jit_compile=False)
    store = CheckpointStore(tmp_path / "run")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "run"])
    try:
        while not store.steps():
            assert writer.poll() is None
            time.sleep(0.01)
        found = []
        while len(set(found)) < 30:
            assert writer.poll() is None
            found.append(store.restore(model).step)
            for weight in model.weights:
                np.testing.assert_array_equal(as_numpy(weight), found[-1])
    finally:
        writer.kill()
        writer.wait()
    assert found == sorted(found)


def test_a_checkpoint_that_is_deleted_while_it_is_restored_is_told(saved, monkeypatch):
    """By its step; without one, the newest that is left is taken."""
    store, folder = saved[0], saved[0].folder_of(2)
    shutil.copytree(store.folder.path, store.folder.path.with_name("copy"))
    copy = CheckpointStore(store.folder.path.with_name("copy"))
    checked = restoring.check_arrays

    def then_deleted(folder, manifest, part):
        problems = checked(folder, manifest, part)
        if manifest.step == 2:
            folder.delete(MANIFEST)
            shutil.rmtree(folder.path)
        return problems

    monkeypatch.setattr(restoring, "check_arrays", then_deleted)
    with pytest.raises(CheckpointError, match=f"{folder} was deleted while it was restored"):
        store.restore(make_model(), 2)
    assert copy.restore(make_model()).step == 1


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
