"""Runs whose numbers go wrong: poisoned batches, leaps of the loss, and what is done about it."""

import contextlib
import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone
from test_run import CONFIG, StopAt, assert_same_end

from keras_vit_scale import AdamW
from keras_vit_scale.runs import RunError, TrainConfig, train
from keras_vit_scale.runs.rewinds import BEFORE, RewindAtSpikes, Rewinds, SpikeError
from keras_vit_scale.training import (
    CheckpointStore,
    DivergedError,
    FiniteLoss,
    Keep,
    LossSpikes,
    Stopped,
)
from keras_vit_scale.training.callbacks.saving import Saving
from keras_vit_scale.training.checkpoints import CheckpointError
from keras_vit_scale.training.spikes import HISTORY, LEAST, Spike, is_spike

# What a leap is: a pure function of a curve


def alarms(losses):
    return [i for i, loss in enumerate(losses) if is_spike(loss, losses[max(0, i - HISTORY) : i])]


@numpy_alone
@pytest.mark.parametrize("noise", [0.003, 0.03, 0.2])
def test_noise_gives_no_alarm_in_ten_thousand_windows(noise, rng):
    assert alarms(2 + 2 * noise * rng.normal(size=10_000)) == []
    falling = 2 * np.arange(1, 10_001) ** -0.3 + 0.5  # as losses do
    assert alarms(falling * (1 + noise * rng.normal(size=10_000))) == []


@numpy_alone
@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_a_leap_is_found_in_its_window(noise, rng):
    """A tenth of the loss and ten deviations high; in all of 200 curves."""
    for _ in range(200):
        losses = 2 * (1 + noise * rng.normal(size=HISTORY + 20))
        at = int(rng.integers(HISTORY, HISTORY + 20))
        losses[at] = 2 * (1 + 0.12 + 16 * noise)
        before = losses[at - HISTORY : at]
        assert is_spike(losses[at], before)
        assert not is_spike(2 * (1 + 3 * noise), before)


@numpy_alone
def test_leaps_by_hand():
    """Median 2, median absolute deviation 0.02: above 2 + 8 x 0.0297 = 2.237."""
    before = [1.97, 1.98, 2.0, 2.02, 2.03] * 4
    assert not is_spike(2.236, before)
    assert is_spike(2.238, before)
    assert is_spike(2.238, [*before, 9.0, 9.0])  # earlier leaps move neither
    assert not is_spike(9.0, before[: LEAST - 1])
    assert not is_spike(0.1, before)
    # Without noise a tenth of the loss decides, also of one below zero.
    assert not is_spike(2.19, [2.0] * 20)
    assert is_spike(2.21, [2.0] * 20)
    assert not is_spike(-1.95, [-2.0] * 20)


# Within fit


def linear(optimizer):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, name="head")])
    model.compile(optimizer, "mse")
    return model


def test_the_mean_loss_is_that_of_the_batches_that_counted(rng):
    x = rng.normal(size=(28, 5)).astype("float32")
    y = rng.normal(size=(28, 3)).astype("float32")
    x[8:12] = np.nan
    model = linear(AdamW(1e-9, skip_nonfinite=True))
    kept = np.r_[0:8, 12:28]
    kernel, bias = model.get_weights()
    expected = np.mean((x[kept] @ kernel + bias - y[kept]) ** 2)
    with pytest.warns(UserWarning, match="1 updates between steps 0 and 7 were skipped"):
        logs = model.fit(
            x, y, batch_size=4, shuffle=False, epochs=2, verbose=0,
            callbacks=[FiniteLoss(every=7)],
        ).history  # fmt: skip
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    assert logs["skipped"] == [1, 2]


def test_too_many_in_a_row_are_the_end(rng):
    x = rng.normal(size=(28, 5)).astype("float32")
    x[8:20] = np.nan  # three batches in a row
    y = np.zeros((28, 3), "float32")
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model = linear(AdamW(0.1, skip_nonfinite=True))
    with pytest.warns(UserWarning, match="3 updates"):
        model.fit(x, y, **fit, callbacks=[FiniteLoss(100, max_skipped=4)])
    model = linear(AdamW(0.1, skip_nonfinite=True))
    # Also if good ones came since.
    with pytest.raises(DivergedError, match="3 updates in a row were skipped between steps 0 and"):
        model.fit(x, y, **fit, callbacks=[FiniteLoss(7, max_skipped=3)])
    assert np.isfinite(model.get_weights()[0]).all()
    # All of an epoch: its mean is NaN, the state fine.
    model = linear(AdamW(0.1, skip_nonfinite=True))
    with pytest.warns(UserWarning, match="3 updates"):
        logs = model.fit(x[8:20], y[8:20], **fit, callbacks=[FiniteLoss(7)]).history
    assert np.isnan(logs["loss"][0])


@pytest.mark.parametrize("optimizer", ["adam", AdamW(0.1)], ids=["keras", "ours"])
def test_by_default_the_first_is_the_end(optimizer, rng):
    x = rng.normal(size=(28, 5)).astype("float32")
    x[12] = np.inf
    model = linear(optimizer)
    with pytest.raises(DivergedError, match=r"between steps 2 and 4; lower .* `skip_nonfinite`"):
        model.fit(
            x, np.zeros((28, 3)), batch_size=4, shuffle=False, verbose=0,
            callbacks=[FiniteLoss(every=2)],
        )  # fmt: skip


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    """The gradient is not, although the loss was: the state is what tells."""
    model = linear(AdamW(0.1))
    model.optimizer.build(model.trainable_variables)
    model.trainable_variables[1].assign([1, np.nan, 2])
    store = CheckpointStore(tmp_path)
    store.save(model, 3)
    with pytest.raises(DivergedError, match=r"must be finite; lower the peak rate.*head/bias"):
        store.wait()
    assert store.steps() == []
    store.save(model, 3)
    with pytest.raises(CheckpointError):
        store.wait()


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on PyTorch"
)
def test_spikes_are_the_same_with_a_validation_and_late_looks(rng):
    """Windows of 3 steps over epochs of 35 and with four steps executed at once."""
    y = 1 + 0.01 * rng.normal(size=(70, 1)).astype("float32")
    y[66:] = 9
    x = np.zeros((70, 5), "float32")
    found = {}
    for together in (1, 5):
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse", steps_per_execution=together)
        found[together] = []
        spikes = LossSpikes(3 * together, found=found[together].append)
        for part in (slice(0, 35), slice(35, 70)):
            model.fit(
                np.repeat(x[part], together, 0), np.repeat(y[part], together, 0), batch_size=1,
                shuffle=False, verbose=0, callbacks=[spikes], validation_data=(x[:2] - 7, y[:2]),
            )  # fmt: skip
    ((a,), (b,)) = found.values()
    assert (a.after, a.step) == (66, 69)
    assert (b.after, b.step) == (330, 345)
    np.testing.assert_allclose([a.loss, b.loss], 81, rtol=1e-5)
    np.testing.assert_allclose(a.usual, b.usual, rtol=1e-5)


# Runs


@dataclasses.dataclass(frozen=True)
class Poison:
    """Shares of the classes as targets; those of the batches at given places are spoilt."""

    places: tuple[int, ...]
    spoilt: float

    def __call__(self, images, labels, classes, rng):
        targets = np.eye(classes, dtype="float32")[labels]
        # The draws belong to the place of the first image, and so tell it.
        spread = int(np.random.SeedSequence(CONFIG.seed).generate_state(1)[0])
        if rng.random() in [np.random.default_rng((spread, p)).random() for p in self.places]:
            targets[:] = self.spoilt
        return images, targets


def poisoned(spoilt, share=float("nan"), **options):
    """A run with spoilt batches: at which steps, counted without rewinds, and what targets."""

    class Poisoned(TrainConfig):
        def augmentation(self):
            return Poison(tuple(step * self.batch_size for step in spoilt), share)

    fields = {f.name: getattr(CONFIG, f.name) for f in dataclasses.fields(CONFIG)}
    return Poisoned(**{**fields, "mixup": 0.0, **options})


def train_with_stops(config, out, stops):
    """A run that is stopped at steps, and each time begun again."""
    for stop in stops:
        with pytest.raises(Stopped):
            train(config, out, stopping=StopAt(out, stop))
    train(config, out)


@pytest.mark.slow
def test_a_poisoned_batch_ends_a_run_and_is_not_saved(tmp_path):
    config = poisoned(spoilt=(8,))
    with pytest.raises(
        RunError, match=r"At a peak rate of 0.01: The loss became nan between steps"
    ):
        train(config, tmp_path / "run")
    assert max(CheckpointStore(tmp_path / "run" / "checkpoints").steps()) <= 8


@pytest.mark.slow
def test_a_run_that_skips_ends_the_same_when_it_is_stopped(tmp_path):
    """Poisoned first and last batches of stretches, a log without NaN, checkpoints all the way."""
    config = poisoned(spoilt=(0, 6, 8, 9, 14), on_nonfinite="skip", log_every=1)
    with pytest.warns(UserWarning, match="were skipped"):
        train(config, tmp_path / "whole")
    log = pd.read_csv(tmp_path / "whole" / "log.csv")
    assert list(log["skipped"].astype(int)) == [1] * 6 + [2, 2, 3] + [4] * 5 + [5] * 3
    # All that was seen of a stretch was skipped.
    assert list(log["step"][log["loss"].isna()]) == [1, 15]
    with pytest.warns(UserWarning, match="were skipped"):
        train_with_stops(config, tmp_path / "stopped", (9,))
    assert_same_end(tmp_path / "whole", tmp_path / "stopped")
    other = pd.read_csv(tmp_path / "stopped" / "log.csv")
    for column in ("step", "loss", "skipped"):
        np.testing.assert_array_equal(log[column], other[column])
    config = dataclasses.replace(config, max_skipped=2)
    with pytest.raises(RunError, match="2 updates in a row were skipped"):
        train(config, tmp_path / "ended")


# Every image of all classes: a loss of 23 where it was 3.
SPIKES = {
    "steps": 57, "on_spike": "rewind", "spike_window": 2, "spoilt": (45, 50), "share": 1.0,
    "evaluate_every": 43, "cooldown": 0.1, "peak": 1e-4,
}  # fmt: skip


@pytest.fixture(scope="module")
def rewound(tmp_path_factory):
    """A run whose loss leaps at step 46, and there again with the images that come then."""
    out = tmp_path_factory.mktemp("rewound") / "run"
    with pytest.warns(UserWarning, match="The run goes back to step 40, and on without the 78"):
        train(poisoned(**SPIKES), out)
    return out


@pytest.mark.slow
def test_a_run_goes_back_to_before_a_leap_and_leaves_its_images_out(rewound):
    """By hand: the window of steps 45 and 46 is one; checkpoints are at the multiples of five."""
    stored = json.loads((rewound / "rewinds.json").read_text())
    assert stored["format"] == 1
    # Then 6 steps are left out: what would have been step 51 is the 45th.
    found = [(r["step"], r["to"], r["images"]) for r in stored["rewinds"]]
    assert found == [(46, 40, 6 * 13), (46, 40, 6 * 13)]
    for rewind in stored["rewinds"]:
        # Half of the window by hand: log(1 + 9) + 9 log(1 + 1 / 9), and ten times log(10).
        usual, spoilt = np.log(10) + 9 * np.log(10 / 9), 10 * np.log(10)
        assert rewind["usual"] == pytest.approx(usual, rel=1e-3)
        assert rewind["loss"] == pytest.approx((usual + spoilt) / 2, rel=1e-3)
    log = pd.read_csv(rewound / "log.csv")
    assert log["step"].is_monotonic_increasing
    assert log["loss"].max() < 3.3
    assert Rewinds(rewound / "rewinds.json").offset(39) == 0
    assert Rewinds(rewound / "rewinds.json").offset(40) == 12 * 13


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, 71, 72])
def test_what_a_leap_goes_back_to_stays_until_its_window_begins(stop, tmp_path, rng):
    """Windows of 3 steps, checkpoints of 10 of which one is kept, stopped before or at step 72.

    A leap in steps 73 to 75 goes back to 70, whatever was saved since.
    """
    store = CheckpointStore(tmp_path, Keep(last=1))
    model = linear(keras.optimizers.SGD(0.0))
    x, y = np.zeros((90, 5)), np.ones((90, 3))
    y[73] = 9
    spikes = None
    for part in (slice(0, 61), slice(61, stop), slice(stop, 90))[: 3 if stop else 2]:
        before, spikes = spikes, RewindAtSpikes(3, store, 10)
        if before is not None:
            spikes.set_state(before.state())
        saving = Saving(store, 10)
        with pytest.raises(SpikeError) if part.stop in (90, None) else contextlib.nullcontext():
            model.fit(
                x[part], y[part], batch_size=1, shuffle=False, verbose=0,
                callbacks=[spikes, saving],
            )  # fmt: skip
        saving.save_last()
        store.wait()
    assert 70 in store.steps()


@pytest.mark.slow
def test_a_leap_in_the_rest_of_a_window_goes_back_as_far_whatever_else_is_kept(tmp_path):
    """After a return to step 70, in the window from 69 on, whose step 70 was no part of a leap."""
    for kept in ((60, 70), (70,)):
        store = CheckpointStore(tmp_path / str(kept))
        for step in kept:
            store.save(linear(keras.optimizers.SGD(0.0)), step)
        store.wait()
        store.name(70, BEFORE)
        with pytest.raises(SpikeError) as found:
            RewindAtSpikes(3, store, 10)._go_back(Spike(69, 72, loss=9, usual=1))
        assert found.value.to == 70


@pytest.mark.slow
def test_it_goes_back_only_so_often(rewound, tmp_path):
    config = poisoned(**SPIKES, max_rewinds=1)
    with pytest.warns(UserWarning, match="goes back"), pytest.raises(RunError, match="after 1 rew"):
        train(config, tmp_path / "run")
    # Where there is nothing to go back to, or that is not asked for, the run goes on.
    for options in ({"checkpoint_every": 100}, {"on_spike": "warn"}):
        out = tmp_path / str(options)
        with pytest.warns(UserWarning, match="The loss leapt between steps 44 and 46"):
            results = train(poisoned(**{**SPIKES, "steps": 47, **options}), out)
        assert results["steps"] == 47
        assert not (out / "rewinds.json").exists()


@pytest.mark.parametrize("stops", [(45,), (44, 48, 41)], ids=["once", "thrice"])
@pytest.mark.slow
def test_a_run_with_a_rewind_ends_the_same_when_it_is_stopped(stops, rewound, tmp_path):
    """Before and after the rewind, between its planned checkpoints."""
    out = tmp_path / "run"
    with pytest.warns(UserWarning, match="goes back to step 40"):
        train_with_stops(poisoned(**SPIKES), out, stops)
    assert_same_end(out, rewound)
    assert (out / "rewinds.json").read_text() == (rewound / "rewinds.json").read_text()
