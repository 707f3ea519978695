"""Frontier and law: planted truths, brute force, and refusals."""

import numpy as np
import pytest

from keras_vit_scale.scaling import DoubleSaturatingLaw, draw_frontier, fit_law, pareto_frontier

# a, b, c, d: the paper's two laws, one without a floor, one steep, in their own units.
PLANTED = [
    (0.63, 0.32, 0.12, 0.52),
    (0.26, 0.35, 0.09, 0.01),
    (0.4, 0.25, 0.0, 0.03),
    (0.5, 0.9, 0.05, 2.0),
]


def planted(a, b, c, d, points=25):
    """Points of a law, where it gives an error of at most 1."""
    compute = np.geomspace(d / 30, d * 3e4, points)
    error = a * (compute + d) ** -b + c
    return compute[error <= 1], error[error <= 1]


def test_frontier_equals_brute_force(rng):
    for _ in range(50):
        n = int(rng.integers(1, 30))
        compute = rng.integers(1, 12, n).astype(float)
        error = rng.integers(1, 12, n) / 12
        ours = pareto_frontier(compute, error)
        beaten = [
            any(
                (compute[j] <= compute[i] and error[j] <= error[i])
                and (compute[j] < compute[i] or error[j] < error[i] or j < i)
                for j in range(n)
            )
            for i in range(n)
        ]
        assert set(ours) == set(np.flatnonzero(~np.array(beaten)))
        assert (np.diff(compute[ours]) > 0).all()
        assert (np.diff(error[ours]) < 0).all()


@pytest.mark.parametrize("truth", PLANTED)
@pytest.mark.parametrize("unit", [1.0, 3e18])
def test_exact_points_give_back_the_law(truth, unit):
    a, b, c, d = truth
    compute, error = planted(*truth)
    law = fit_law(compute * unit, error)
    assert law.b == pytest.approx(b, rel=1e-3)
    assert law.c == pytest.approx(c, abs=2e-4)
    assert law.d == pytest.approx(d * unit, rel=5e-3)
    assert law.a == pytest.approx(a * unit**b, rel=0.05)
    np.testing.assert_allclose(law.predict(compute * unit), error, rtol=1e-3)


@pytest.mark.parametrize("truth", PLANTED[:2])
def test_recovers_planted_laws_under_one_percent_noise(truth, rng):
    """Twenty noisy draws: parameters within what 1 % of noise allows, predictions within 1 %."""
    _, b, c, _ = truth
    compute, error = planted(*truth, points=40)
    fits = []
    for _ in range(20):
        noisy = error * np.exp(0.01 * rng.normal(size=len(error)))
        fits.append(fit_law(compute, np.minimum(noisy, 1)))
    assert np.median([f.b for f in fits]) == pytest.approx(b, rel=0.03)
    assert np.median([f.c for f in fits]) == pytest.approx(c, rel=0.03)
    for law in fits:
        assert law.b == pytest.approx(b, rel=0.15)
        assert law.c == pytest.approx(c, rel=0.15)
        assert law.rms_log_error == pytest.approx(0.01, rel=0.5)
        np.testing.assert_allclose(law.predict(compute), error, rtol=0.015)


def test_no_start_of_least_squares_does_better(rng):
    """An independent optimiser from many random starts finds no lower cost."""
    from scipy.optimize import differential_evolution

    compute, error = planted(*PLANTED[0], points=12)
    error = error * np.exp(0.03 * rng.normal(size=len(error)))
    law = fit_law(compute, np.minimum(error, 1))

    def cost(p):
        a, b, c, d = np.exp(p)
        return np.mean(np.log((a * (compute + d) ** -b + c) / np.minimum(error, 1)) ** 2)

    found = differential_evolution(
        cost, [(-6, 6), (-3, 1), (-9, -1), (-7, 7)], seed=0, tol=1e-10, maxiter=3000
    )
    assert law.rms_log_error**2 <= found.fun * 1.001


def test_predict_and_compute_for_are_inverse():
    law = DoubleSaturatingLaw(0.63, 0.32, 0.12, 0.52)
    for compute in (0.1, 3.0, 4e4):
        assert law.compute_for(float(law.predict(compute))) == pytest.approx(compute, rel=1e-6)
    # By hand: E(0) = 0.63 * 0.52^-0.32 + 0.12.
    assert law.predict(0) == pytest.approx(0.63 * 0.52**-0.32 + 0.12)
    assert law.compute_for(0.99) == 0
    with pytest.raises(ValueError, match=r"does not go below 0\.12"):
        law.compute_for(0.12)


def test_units_change_nothing_but_the_unit():
    law = DoubleSaturatingLaw(0.63, 0.32, 0.12, 0.52, compute_range=(1.0, 10.0))
    hours = law.in_unit(24)
    assert float(hours.predict(24 * 7)) == pytest.approx(float(law.predict(7)))
    assert hours.compute_range == (24.0, 240.0)
    assert not hours.extrapolates(30)
    assert hours.extrapolates(241)
    assert hours.extrapolates(23)


REFUSED = {
    "too few": ([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6], "at least 5 points of different compute"),
    "repeats are no points": ([1, 2, 3, 4, 4], [0.9, 0.8, 0.7, 0.6, 0.5], "Received: 4"),
    "short span": ([1, 1.1, 1.2, 1.3, 1.4], [0.9, 0.8, 0.7, 0.6, 0.5], "at least a factor of 3"),
    "one error": ([1, 2, 4, 8, 16], [0.5] * 5, "differ by at least 1 %"),
    "rising": ([1, 2, 4, 8, 16], [0.1, 0.2, 0.3, 0.4, 0.5], "must fall as the compute grows"),
    "zero compute": ([0, 2, 4, 8, 16], [0.5, 0.4, 0.3, 0.2, 0.1], "Received: 0.0 at point 1"),
    "infinite": ([1, 2, 4, 8, np.inf], [0.5, 0.4, 0.3, 0.2, 0.1], "positive and finite"),
    "nan": ([1, 2, 4, 8, 16], [0.5, np.nan, 0.3, 0.2, 0.1], "Received: nan at point 2"),
    "percent": ([1, 2, 4, 8, 16], [50, 40, 30, 20, 10], r"in \(0, 1\]. Received: 50.0"),
    "zero error": ([1, 2, 4, 8, 16], [0.5, 0.4, 0.3, 0.2, 0], r"in \(0, 1\]. Received: 0.0"),
    "text": ([1, 2, 4, 8, 16], ["a", 0.4, 0.3, 0.2, 0.1], "must be numbers"),
    "lengths": ([1, 2, 4, 8], [0.5, 0.4, 0.3, 0.2, 0.1], "of one length"),
}  # fmt: skip


@pytest.mark.parametrize(("compute", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_shows_no_law_is_refused_with_the_reason(compute, error, message):
    with pytest.raises(ValueError, match=message):
        fit_law(compute, error)


def test_law_draws_itself_with_the_points_by_size(tmp_path):
    compute, error = planted(*PLANTED[0], points=9)
    error = np.minimum(error, 1)
    law = fit_law(compute, error)
    ax = law.draw(compute, error, ["small", "large", "<b>"] * 3, core_days=True)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:4] == ["small", "large", "<b>", "frontier"]
    assert labels[4] == str(law)
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["small"].get_xdata(), compute[::3])
    np.testing.assert_allclose(
        lines[str(law)].get_ydata(), law.predict(lines[str(law)].get_xdata())
    )
    ax.figure.savefig(tmp_path / "law.png")
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_needs_no_law():
    ax = draw_frontier([1.0, 2.0], [0.5, 0.25])
    assert len(ax.get_lines()) == 2
