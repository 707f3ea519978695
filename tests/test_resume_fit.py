"""`fit` with `Checkpoints`: stopped anywhere and run again, it ends with the same bits."""

from collections import deque
from contextlib import nullcontext

import grain
import keras
import numpy as np
import pytest
from conftest import as_numpy
from safetensors.numpy import load_file

from keras_vit_scale import Adafactor, ReciprocalSqrt, ViT, ViTConfig
from keras_vit_scale.data import Augmentation, TrainTransform, digits, train_batches
from keras_vit_scale.data.resumable import ResumableBatches
from keras_vit_scale.ownership import OwnedError, owning
from keras_vit_scale.training import Checkpoints, Cooldown, CSVLog, Stopped, Stopping
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


@pytest.mark.slow
@pytest.mark.parametrize("data", [ours, grains])
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


def small(folder, epochs=9, every=4, others=(), length=3, stop_after=None, first=False, **compiled):
    """Fits a linear model; steps done in all, and its weights at the end."""
    keras.utils.set_random_seed(13)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10, name="head")]
    model = keras.Sequential(layers, name="linear")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    compiled = {"optimizer": keras.optimizers.SGD(0.01), "metrics": ["accuracy"]} | compiled
    model.compile(loss=loss, **compiled)
    stopping = None if stop_after is None else StopAfter(stop_after)
    checkpoints = Checkpoints(
        folder, ours(), every, steps_per_epoch=length, stopping=stopping, callbacks=others
    )
    callbacks = [checkpoints, *others] if first else [*others, checkpoints]
    model.fit(checkpoints.data, epochs=epochs, verbose=0, callbacks=callbacks)
    return int(model.optimizer.iterations), [as_numpy(w).copy() for w in model.weights]


def assert_same(one, other):
    assert one[0] == other[0]
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("monitor", "min_delta"), [("loss", 10), ("accuracy", 2)])
def test_what_counts_as_better_is_the_same_when_it_goes_on(monitor, min_delta, tmp_path):
    """Nothing is ever so much better: it ends after the second epoch."""

    def early():
        return [keras.callbacks.EarlyStopping(monitor, patience=1, min_delta=min_delta)]

    with pytest.raises(Stopped):
        small(tmp_path, others=early(), stop_after=5)
    assert small(tmp_path, others=early())[0] == 6


ENDED = "A callback ended this `fit` at step"


@pytest.mark.slow
@pytest.mark.parametrize(("first", "every"), [(False, 3), (True, 4)], ids=["last", "first"])
def test_a_fit_that_ended_early_does_nothing_more(first, every, tmp_path):
    """Wherever the callback stands that ended it, and whether a save was due then."""
    results = []
    for again in range(3):
        early = [keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10)]
        optimizer = keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.7)
        with pytest.warns(UserWarning, match=f"{ENDED} 6") if again else nullcontext():
            results += [
                small(tmp_path, every=every, others=early, first=first, optimizer=optimizer)
            ]
    assert results[0][0] == 6
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


class WeightsAtTheEnd(keras.callbacks.Callback):
    """What the weights are when an epoch ends, before Keras puts averages in their place."""

    def on_epoch_end(self, epoch, logs=None):
        self.weights = [as_numpy(w).copy() for w in self.model.weights]


@pytest.mark.slow
@pytest.mark.parametrize("every", [3, 4])
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_what_is_saved_when_a_callback_ends_a_fit_are_the_weights(first, every, tmp_path):
    """And no averages, whether the callback stands behind or before; the model has those."""
    before = WeightsAtTheEnd()
    early = [before, keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10)]
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7)
    steps, weights = small(tmp_path, every=every, others=early, first=first, optimizer=optimizer)
    assert steps == 6
    saved = tmp_path / "step-00000006"
    arrays = {k: v for f in saved.glob("*.safetensors") for k, v in load_file(f).items()}
    for average, weight in zip(weights, before.weights, strict=True):
        found = [a for a in arrays.values() if a.shape == weight.shape]
        assert any(np.array_equal(a, weight) for a in found)
        assert not np.array_equal(average, weight)
        averages = [k for k, a in arrays.items() if np.array_equal(a, average)]
        assert all(k.startswith("optimizer/") for k in averages)
        assert averages


@pytest.mark.slow
def test_a_fit_that_was_cooled_down_does_nothing_more(tmp_path):
    def cooled():
        optimizer = keras.optimizers.SGD(ReciprocalSqrt(0.1, warmup_steps=2))
        return small(tmp_path, others=[Cooldown(3, at_step=4)], optimizer=optimizer)

    first = cooled()
    assert first[0] == 7
    with pytest.warns(UserWarning, match=f"{ENDED} 7"):
        assert_same(first, cooled())


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has one step a call there")
def test_an_epoch_may_end_within_a_call_of_several_steps(tmp_path):
    options = {"every": 2, "length": 5, "steps_per_execution": 2}
    straight = small(tmp_path / "straight", 2, **options)
    assert straight[0] == 10
    with pytest.raises(Stopped):
        small(tmp_path / "stopped", 2, stop_after=1, **options)
    small(tmp_path / "stopped", 1, **options)
    assert_same(straight, small(tmp_path / "stopped", 2, **options))


def test_a_backend_may_read_on_while_a_place_is_looked_up():
    batches = ResumableBatches(ours(), steps_per_epoch=3)

    class Read(int):
        __hash__ = int.__hash__

        def __eq__(self, other):
            batches._places.append((9, {}))
            return int(self) == other

    batches._places = deque([(1, {"after": 1}), (Read(2), {})])
    assert batches.state(1) == {"batches": 1, "iterator": {"after": 1}}


def test_averages_at_the_end_are_not_what_goes_on(tmp_path):
    """Keras puts them in place of the weights when a `fit` ends; here no save was due just then."""

    def averaging(folder, epochs):
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7)
        return small(tmp_path / folder, epochs, optimizer=optimizer)

    straight = averaging("straight", 4)
    averaging("again", 2)
    assert_same(straight, averaging("again", 4))


@pytest.mark.slow
def test_a_folder_is_one_process_own(tmp_path):
    class Other(keras.callbacks.Callback):
        """What another process would find in an epoch."""

        def on_epoch_end(self, epoch, logs=None):
            with pytest.raises(OwnedError, match="Another process works in"), owning(tmp_path):
                pass
            if epoch == 1:
                raise KeyboardInterrupt

    with owning(tmp_path), pytest.raises(OwnedError, match="Another process works in"):
        small(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path, others=[Other()])
    # In a notebook, say; and then the folder is anybody's again.
    assert small(tmp_path)[0] == 27
    with owning(tmp_path):
        pass


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


@pytest.mark.slow
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
