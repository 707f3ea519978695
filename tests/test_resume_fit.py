"""`fit` with `Checkpoints`: stopped anywhere and run again, it ends with the same bits."""

import grain
import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import Adafactor, ReciprocalSqrt, ViT, ViTConfig
from keras_vit_scale.data import Augmentation, TrainTransform, digits, train_batches
from keras_vit_scale.training import Checkpoints, CSVLog, Stopped, Stopping
from keras_vit_scale.training.checkpoints import training_state

SHAPE = ViTConfig(width=12, depth=2, mlp_dim=14, heads=2, patch_size=4)
#: Batches of 7 in epochs of 11: three epochs.
STEPS, EPOCHS = 11, 3


def ours():
    """Shuffled, augmented and mixed."""
    return train_batches(
        digits(), TrainTransform(8, crop="shift"), 7, seed=3, augmentation=Augmentation(mixup=0.3)
    )


def grains():
    """A Grain pipeline of the user's own, whose iterator has a state: a window that shuffles."""
    source = grain.MapDataset.range(40).seed(5).shuffle()

    def image(i):
        return np.full((8, 8, 3), i / 40, "float32"), np.eye(10, dtype="float32")[i % 10]

    data = source.map(image).to_iter_dataset()
    return grain.experimental.WindowShuffleIterDataset(data, window_size=9, seed=2).batch(7)


def build():
    keras.utils.set_random_seed(13)
    model = ViT(SHAPE, 10, image_size=8, dropout=0.1, stochastic_depth=0.2)
    optimizer = Adafactor(
        ReciprocalSqrt(0.01, warmup_steps=3, timescale=9),
        use_ema=True, ema_momentum=0.7, ema_at_end=False, gradient_accumulation_steps=2,
    )  # fmt: skip
    model.compile(
        optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    return model


class StopAfter(Stopping):
    """Asks to stop when it was asked so many times whether to."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def unsaved(self):
        self.left -= 1

    def reason(self):
        return "the test" if self.left <= 0 else None


def run(folder, data, every=4, stop_after=None):
    model = build()
    early = keras.callbacks.EarlyStopping("loss", patience=9)
    stopping = None if stop_after is None else StopAfter(stop_after)
    checkpoints = Checkpoints(
        folder, data(), every, steps_per_epoch=STEPS, stopping=stopping, callbacks=[early]
    )
    log = CSVLog(folder.with_suffix(".csv"), every=1)
    callbacks = [early, log, checkpoints]
    model.fit(checkpoints.data, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    return {name: as_numpy(v).copy() for name, v in training_state(model).items()}, early.best


@pytest.mark.parametrize("data", [ours, pytest.param(grains, marks=pytest.mark.slow)])
def test_stopped_again_and_again_it_ends_with_the_same_bits(data, tmp_path):
    """Weights, slots, averages, accumulated gradients, seeds, the log, and when to stop early."""
    straight, best = run(tmp_path / "straight", data)
    stops = [5, 9, None]
    for stop in stops:
        if stop is None:
            resumed, other_best = run(tmp_path / "stopped", data)
        else:
            with pytest.raises(Stopped):
                run(tmp_path / "stopped", data, stop_after=stop)
    assert straight.keys() == resumed.keys()
    for name, value in straight.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
    assert (tmp_path / "straight.csv").read_text() == (tmp_path / "stopped.csv").read_text()
    assert best == other_best


@pytest.mark.slow
def test_a_finished_fit_does_nothing_more(tmp_path):
    first, _ = run(tmp_path / "run", ours)
    second, _ = run(tmp_path / "run", ours)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


REFUSED = {
    "arrays": lambda: (np.zeros((4, 8, 8, 3)), np.zeros(4)),
    "generator": lambda: (x for x in ()),
    "a list": list,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_data_that_cannot_save_their_place_are_refused(data, tmp_path):
    with pytest.raises(TypeError, match=r"data that save their place.*Received: "):
        Checkpoints(tmp_path, data(), every=3, steps_per_epoch=5)


def test_an_epoch_needs_a_length(tmp_path):
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given"):
        Checkpoints(tmp_path, ours(), every=3)


@pytest.mark.parametrize("steps", [None, 5])
def test_fit_must_be_given_the_same_data(steps, tmp_path):
    checkpoints = Checkpoints(tmp_path, ours(), every=3, steps_per_epoch=STEPS)
    with pytest.raises(ValueError, match="`fit` must be given the `data` of its `Checkpoints`"):
        build().fit(ours(), steps_per_epoch=steps or STEPS, verbose=0, callbacks=[checkpoints])


@pytest.mark.parametrize(("batch_size", "step"), [(7, 10), (14, 3), (5, 1)])
def test_a_run_with_another_batch_size_sees_the_images_that_come_next(batch_size, step):
    """70 images were seen in batches of 7; from then on in others."""
    options = {"seed": 3, "source": digits(), "transform": TrainTransform(8, crop="shift")}
    straight = train_batches(batch_size=7, start=10, stop=20, **options)
    other = train_batches(
        batch_size=batch_size, start=step, stop=step + 70 // batch_size,
        offset=70 - step * batch_size, **options,
    )  # fmt: skip
    for a, b in zip(zip(*straight, strict=True), zip(*other, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(a), np.concatenate(b))


def test_a_stream_begins_at_its_first_image():
    with pytest.raises(ValueError, match=r"before the first image. Received: start=1.*offset=-9"):
        train_batches(digits(), TrainTransform(8, crop="shift"), 7, start=1, offset=-9)
