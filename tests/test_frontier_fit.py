"""The law of a frontier with its uncertainty: planted truths, hand-made studies, refusals."""

import numpy as np
import pytest
from conftest import numpy_alone
from scipy.optimize import least_squares

from keras_vit_scale.scaling import DoubleSaturatingLaw, fit_frontier, paper_results
from keras_vit_scale.scaling.noise import fit_touching, point_noise, variance_of_repeats

pytestmark = numpy_alone

TRUTH = DoubleSaturatingLaw(0.5, 0.3, 0.08, 0.2)


def study(rng, noise=0.02, trunks=7, results=5, valley=0.02):
    """Results of trunks that each touch the law in a stretch of their own."""
    middles = np.linspace(np.log(0.5), np.log(5e3), trunks)
    steps = np.linspace(-2, 2, results)
    log_c = (middles[:, None] + steps).ravel()
    trunk = np.repeat(np.arange(trunks), results)
    shared = noise * rng.standard_normal(trunks)[trunk]
    error = TRUTH.predict(np.exp(log_c)) * np.exp(valley * np.tile(steps, trunks) ** 2 + shared)
    return np.exp(log_c), np.minimum(error, 1), trunk


def test_intervals_hold_a_planted_law(rng):
    """25 studies, 90 % intervals: each share held lies where chance puts it, and bias is small.

    The benchmark law_coverage.py asks a thousand studies of several kinds.
    """
    held, beyond, off = [], [], []
    for i in range(25):
        compute, error, trunk = study(rng, noise=rng.uniform(0.01, 0.03))
        fit = fit_frontier(compute, error, trunk, resamples=80, seed=i)
        asked = np.array([3.0, 60.0, 1e3, 10 * compute.max()])
        low, high = fit.interval(asked)
        inside = (low <= TRUTH.predict(asked)) & (TRUTH.predict(asked) <= high)
        held.append(inside[:-1].mean())
        beyond.append(inside[-1])
        off.append(np.log(fit.predict(asked) / TRUTH.predict(asked)))
    assert 0.8 <= np.mean(held) <= 0.98
    assert 0.7 <= np.mean(beyond) <= 1.0
    assert abs(np.mean(off, axis=0)[-1]) < 0.025
    assert np.abs(np.mean(off, axis=0)[:-1]).max() < 0.012


def test_law_through_what_touches_is_generalised_least_squares(rng):
    """SciPy with the whole covariance matrix finds the same law."""
    compute, error, trunk = study(rng, valley=0.0)
    log_x, log_e = np.log(compute / 50), np.log(error)
    start = np.log([0.3, 0.3, 0.1, 0.01])
    box = DoubleSaturatingLaw.box(log_x, log_e)
    (ours,), (touching,) = fit_touching(
        DoubleSaturatingLaw, start[None], log_x, log_e[None], trunk, 0.03**2, 1.0, box
    )
    assert touching.all()
    covariance = 0.03**2 * (trunk[:, None] == trunk) + np.eye(len(trunk))
    root = np.linalg.cholesky(np.linalg.inv(covariance)).T

    def residual(theta):
        return root @ (DoubleSaturatingLaw.log_error(theta, log_x)[0] - log_e)

    theirs = least_squares(residual, start, bounds=box, xtol=1e-12, ftol=1e-12)
    assert (residual(ours) ** 2).sum() / 2 <= theirs.cost * (1 + 1e-4)


def test_a_frontier_of_lucky_trunks_is_set_right(rng):
    """Many trunks along the same law: the Pareto frontier lies below it, ours does not."""
    compute = np.tile(np.geomspace(1, 1e4, 6), 12)
    trunk = np.repeat(np.arange(12), 6)
    lucky, ours = [], []
    for _ in range(12):
        noise = 0.03 * rng.standard_normal(12)[trunk]
        fit = fit_frontier(compute, TRUTH.predict(compute) * np.exp(noise), trunk, resamples=2)
        lucky.append(np.log(fit.uncorrected.predict(100.0) / TRUTH.predict(100.0)))
        ours.append(np.log(fit.predict(100.0) / TRUTH.predict(100.0)))
    assert np.mean(lucky) < -0.03
    assert abs(np.mean(ours)) < 0.01


def test_a_trunk_that_lies_behind_takes_no_part(rng):
    compute, error, trunk = study(rng, noise=0.01)
    alone = fit_frontier(compute, error, trunk, resamples=2)
    behind = trunk == 3
    more = fit_frontier(
        np.append(compute, compute[behind] * 1.1),
        np.append(error, error[behind] * 1.3),
        np.append(trunk, np.full(behind.sum(), 99)),
        resamples=2,
    )
    assert not more.touching[-behind.sum() :].any()
    np.testing.assert_allclose(more.behind[-behind.sum() :], np.log(1.3), atol=0.15)
    assert more.predict(50.0) == pytest.approx(float(alone.predict(50.0)), rel=2e-3)


def test_same_seed_same_intervals_other_seed_others(rng):
    compute, error, trunk = study(rng)
    one, two, three = (
        fit_frontier(compute, error, trunk, resamples=40, seed=s).interval(1e5) for s in (0, 0, 1)
    )
    assert one == two
    assert one != three


def test_order_and_labels_of_results_change_nothing(rng):
    compute, error, trunk = study(rng)
    mixed = rng.permutation(len(compute))
    plain = fit_frontier(compute, error, trunk, resamples=2)
    named = fit_frontier(
        compute[mixed], error[mixed], [f"run {trunk[i]}" for i in mixed], resamples=2
    )
    np.testing.assert_allclose(named.predict([1.0, 1e5]), plain.predict([1.0, 1e5]), rtol=1e-5)
    assert named.trunk_noise == pytest.approx(plain.trunk_noise, rel=1e-5)


def test_noise_is_measured_where_seeds_are_repeated():
    """By hand: two sizes of two seeds, means of log error 0.02 apart: variance 2 * 0.01^2 each."""
    compute = np.array([1, 2, 1, 2, 5, 6, 5, 6.0])
    log_e = np.array([0, 0.1, 0.02, 0.12, -1, -1.1, -1.02, -1.12])
    trunk, size = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert variance_of_repeats(compute, log_e, trunk, size) == pytest.approx((2e-4, 2))
    assert variance_of_repeats(compute, log_e, trunk, trunk) is None


def test_noise_of_results_is_measured_along_a_trunk(rng):
    log_x = np.linspace(0, 9, 400)
    trunk = np.repeat(np.arange(20), 20)
    shared = rng.standard_normal(20)[trunk]
    smooth = 0.01 * log_x**2 + shared
    assert point_noise(log_x, smooth, trunk) < 1e-4
    noisy = smooth + 0.01 * rng.standard_normal(400)
    assert point_noise(log_x, noisy, trunk) == pytest.approx(0.01, rel=0.2)


def test_intervals_are_ordered_and_widen_away_from_the_results(rng):
    compute, error, trunk = study(rng)
    fit = fit_frontier(compute, error, trunk, resamples=100)
    asked = np.array([100.0, 1e6, 1e9])
    low, high = fit.interval(asked)
    assert (low < fit.predict(asked)).all()
    assert (fit.predict(asked) < high).all()
    assert (np.diff(high / low) > 0).all()
    inner_low, inner_high = fit.interval(asked, level=0.5)
    assert (low < inner_low).all()
    assert (inner_high < high).all()
    run_low, run_high = fit.interval(100.0, run=True)
    noise = np.hypot(fit.trunk_noise, fit.point_noise)
    assert run_low < low[0]
    assert np.log(run_high / run_low) > 2 * 1.3 * noise
    for name, (least, most) in fit.parameter_intervals().items():
        assert least <= getattr(fit.law, name) * 1.2, name
        assert most >= getattr(fit.law, name) / 1.2, name
    cheap, dear = fit.compute_interval(float(fit.predict(100.0)))
    assert cheap < 100 < dear
    assert fit.compute_interval(1e-3) == (np.inf, np.inf)
    with pytest.raises(ValueError, match="`level` must be between 0 and 1"):
        fit.interval(1.0, level=90)


def test_paper_keeps_its_law_and_tells_what_it_cannot():
    """Few-shot: the law of what touches lies within 4 % of that of the Pareto frontier."""
    results = paper_results("fewshot")
    fit = fit_frontier(
        results["tpuv3_core_days"], results["imagenet_10shot"], results["trunk"], resamples=50
    )
    asked = np.geomspace(1, 1e4, 9)
    np.testing.assert_allclose(fit.predict(asked), fit.uncorrected.predict(asked), rtol=0.04)
    assert 0.002 < fit.trunk_noise < 0.04
    low, high = fit.interval(2e4)
    assert low < 0.151 < high


def test_undetermined_floor_is_told(rng):
    compute = np.geomspace(1, 1e3, 30)
    trunk = np.arange(30) // 5
    error = 0.8 * (compute + 1) ** -0.2 * np.exp(0.02 * rng.standard_normal(6))[trunk]
    fit = fit_frontier(compute, error, trunk, resamples=100)
    assert any("floor c is not determined" in warning for warning in fit.warnings)
    few = fit_frontier(compute, error, trunk // 2, resamples=100)
    assert any("touched by 3 trunks only" in warning for warning in few.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trunk": [0, 1]}, "a trunk for each point"),
        ({"size": [0, 1]}, "a size for each point"),
        ({"resamples": 1}, "`resamples` must be at least 2"),
        ({"law": "quadratic"}, "`law` must be one of"),
        ({"error": [0.5] * 6}, "at least 5 points"),
    ],
)
def test_mistakes_are_refused(change, message):
    given = {
        "compute": [1, 2, 4, 8, 16, 32],
        "error": [0.8, 0.7, 0.6, 0.5, 0.45, 0.4],
        "trunk": [0, 0, 1, 1, 2, 2],
    }
    with pytest.raises(ValueError, match=message):
        fit_frontier(**{**given, **change})
