"""Learning curves, extrapolated; and what is no curve."""

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.scaling import (
    DoubleSaturatingLaw,
    LearningCurve,
    PowerLawWithFloor,
    SigmoidalLaw,
    fit_curve,
    fit_law,
    paper_results,
)

pytestmark = numpy_alone

TRUTHS = [
    PowerLawWithFloor(0.6, 0.4, 0.1),
    DoubleSaturatingLaw(2.0, 0.6, 0.15, 5.0),
    SigmoidalLaw(c=0.2, e0=0.95, alpha=0.8, beta=30.0, b=0.7),
]


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda t: t.name)
def test_each_form_is_extrapolated_to_twice_the_images(truth, rng):
    """Half a percent of noise, 15 points: within 3 % in the median of 9 curves."""
    images = np.geomspace(1, 500, 15)
    misses = []
    for _ in range(9):
        error = np.minimum(truth.predict(images) * np.exp(0.005 * rng.standard_normal(15)), 1)
        curve = fit_curve(images, error)
        assert sum(curve.weights) == pytest.approx(1)
        misses.append(abs(np.log(curve.predict(1000.0) / truth.predict(1000.0))))
    assert np.median(misses) < 0.03


def test_is_near_the_form_that_made_the_curves_whichever_it_was(monkeypatch):
    """The benchmark in small: at most 1.5 times the generating form, on 7 curves of each."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    monkeypatch.delitem(sys.modules, "curve_extrapolation", raising=False)
    import curve_extrapolation

    misses = curve_extrapolation.simulated(7, seed=1)
    for made in curve_extrapolation.ALONE:
        ours, theirs = (np.median(misses[made][name]) for name in ("fit_curve", made))
        assert ours < 1.5 * theirs, made
    medians = {
        name: np.median(np.concatenate([m[name] for m in misses.values()]))
        for name in ("fit_curve", *curve_extrapolation.ALONE)
    }
    assert min(medians, key=medians.get) == "fit_curve"


def test_a_plateau_at_chance_is_no_obstacle(rng):
    """A law without a ceiling misses by far what ours foretells."""
    truth = SigmoidalLaw(c=0.2, e0=0.9, alpha=1.0, beta=1e4, b=1.6)
    images = np.geomspace(1, 1e3, 20)
    error = truth.predict(images) * np.exp(0.005 * rng.standard_normal(20))
    ours = fit_curve(images, np.minimum(error, 1)).predict(2e3)
    power = fit_law(images, np.minimum(error, 1), law="power+floor").predict(2e3)
    assert abs(np.log(ours / truth.predict(2e3))) < 0.03
    assert abs(np.log(power / truth.predict(2e3))) > 0.2


def test_drift_at_the_end_is_carried_on_and_fades():
    """By hand: a curve e^-0.1 below its law is e^(-0.1 / e) below it after e times the images."""
    law = TRUTHS[0]
    curve = LearningCurve((law,), (1.0,), (-0.1,), 9, 0.0, (1.0, 50.0))
    for images, left in ((50.0, -0.1), (50 * np.e, -0.1 / np.e), (50 / np.e, -0.1 / np.e)):
        assert np.log(curve.predict(images) / law.predict(images)) == pytest.approx(left)


def test_one_outlier_moves_little(rng):
    truth = TRUTHS[1]
    images = np.geomspace(1, 500, 17)
    error = truth.predict(images) * np.exp(0.003 * rng.standard_normal(17))
    error[9] *= 1.3
    assert fit_curve(images, error).predict(1000.0) == pytest.approx(
        truth.predict(1000.0), rel=0.03
    )


def test_curves_of_the_paper():
    """The last result of each model on the full data, from those before: 3 % in the median."""
    results = paper_results("fewshot").query("images_in_dataset == 3e9")
    misses = []
    for _, runs in results.groupby("model"):
        if len(runs) >= 6:
            images, error = (runs[c].to_numpy(float) for c in ("images_seen", "imagenet_10shot"))
            curve = fit_curve(images[:-1], error[:-1])
            misses.append(abs(np.log(curve.predict(images[-1]) / error[-1])))
    assert len(misses) >= 5
    assert np.median(misses) < 0.03


def test_inverse_and_losses_above_one():
    truth = PowerLawWithFloor(6.0, 0.3, 1.5)
    images = np.geomspace(1e3, 1e7, 13)
    curve = fit_curve(images, truth.predict(images))
    assert curve.predict(2e7) == pytest.approx(truth.predict(2e7), rel=0.005)
    assert curve.images_for(float(curve.predict(2e7))) == pytest.approx(2e7, rel=1e-6)
    assert curve.images_for(1e9) == 0
    with pytest.raises(ValueError, match="does not go below"):
        curve.images_for(1.0)


def test_order_does_not_matter_and_repeats_are_fine(rng):
    truth, images = TRUTHS[2], np.repeat(np.geomspace(1, 300, 8), 2)
    error = truth.predict(images) * np.exp(0.005 * rng.standard_normal(16))
    mixed = rng.permutation(16)
    assert fit_curve(images[mixed], error[mixed]).predict(600.0) == pytest.approx(
        float(fit_curve(images, error).predict(600.0)), rel=1e-4
    )


def test_many_points_are_as_good_as_few(rng):
    truth = TRUTHS[1]
    images = np.exp(rng.uniform(0, 7, 300_000))
    error = truth.predict(images) * np.exp(0.05 * rng.standard_normal(300_000))
    curve = fit_curve(images, error)
    assert curve.predict(2e3) == pytest.approx(truth.predict(2e3), rel=0.01)


def test_a_short_curve_and_one_that_rises_at_the_end_say_so():
    curve = fit_curve([1, 2, 4], [0.5, 0.4, 0.33])
    assert 0.2 < curve.predict(8) < 0.33
    assert "3 points hardly tell" in curve.warnings[0]
    curve = fit_curve([1, 2, 4, 8, 16, 32, 64], [0.9, 0.7, 0.5, 0.4, 0.3, 0.33, 0.38])
    assert "rises at the end, by 27%" in curve.warnings[0]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([1, 2], [0.5, 0.4], "at least 3 points of different images. Received: 2"),
        ([1, 1, 1, 2], [0.5, 0.4, 0.5, 0.3], "Received: 2"),
        ([1, 1.1, 1.2], [0.5, 0.4, 0.3], "a factor of 1.5"),
        ([1, 2, 4], [0.5, 0.5, 0.5], "differ by at least 1 %"),
        ([1, 2, 4], [0.3, 0.4, 0.5], "must fall"),
        ([1, 2, 4], [0.3, np.nan, 0.2], "positive and finite. Received: nan at point 2"),
        ([1, 2, 4], [0.3, 0.2, 0.0], "Received: 0.0 at point 3"),
        ([1, 2, -4], [0.3, 0.2, 0.1], "Received: -4.0 at point 3"),
    ],
)
def test_what_is_no_curve_is_refused(images, error, message):
    with pytest.raises(ValueError, match=message):
        fit_curve(images, error)
