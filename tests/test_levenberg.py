"""Many fits at once against SciPy, one after another."""

import numpy as np
import pytest
from conftest import numpy_alone
from scipy.optimize import differential_evolution, least_squares

from keras_vit_scale.scaling import LAWS
from keras_vit_scale.scaling.fit import fit_vector
from keras_vit_scale.scaling.levenberg import levenberg_marquardt

pytestmark = numpy_alone


def problems(kind, rng, count=5, points=17):
    """Noisy points of one law, some with weight 0, and a start."""
    log_x = np.sort(rng.uniform(-4, 4, (count, points)), axis=1)
    truth = {
        "power": [-1.0, np.log(0.2)],
        "power+floor": [-1.5, np.log(0.4), np.log(0.1)],
        "double-saturating": [-1.0, np.log(0.5), np.log(0.1), -2.0],
        "sigmoidal": [np.log(0.1), np.log(0.8), 0.2, np.log(0.6), -0.5],
    }[kind.name]
    log_e = kind.log_error(np.tile(truth, (count, 1)), log_x)[0]
    log_e = log_e + 0.02 * rng.normal(size=log_e.shape)
    log_e[:, 3] += 0.4  # an outlier
    weights = rng.uniform(0.5, 2, (count, points)) * (rng.random((count, points)) < 0.8)
    return log_x, log_e, weights, np.array(truth) + 0.1


@pytest.mark.parametrize(
    "loss", [("squares", "linear"), ("soft-l1", "soft_l1"), ("huber", "huber")]
)
@pytest.mark.parametrize("name", LAWS)
def test_costs_are_those_of_scipy(name, loss, rng):
    kind = LAWS[name]
    log_x, log_e, weights, start = problems(kind, rng)
    ours, theirs = loss
    lower, upper = kind.box(log_x, log_e)
    for x, y, w in zip(log_x, log_e, weights, strict=True):
        # SciPy's robust losses take no weights: points are repeated instead.
        repeats = np.round(4 * w).astype(int)
        whole, repeated_x, repeated_y = (
            repeats.astype(float),
            *(np.repeat(v, repeats) for v in (x, y)),
        )
        starts = np.vstack([start, kind.starts(x, y)])
        _, costs = levenberg_marquardt(
            kind.log_error, x, y, whole, starts, lower, upper, loss=ours, scale=0.03
        )
        expected = least_squares(
            lambda t, x=repeated_x, y=repeated_y: kind.log_error(t, x)[0] - y,
            start, bounds=(lower - 1e-9, upper + 1e-9), loss=theirs, f_scale=0.03,
            xtol=1e-12, ftol=1e-12, gtol=1e-12,
        )  # fmt: skip
        assert costs.min() <= expected.cost * (1 + 1e-6)


def test_many_together_are_each_alone(rng):
    """Weights of 0 take points out; a batch changes no member."""
    kind = LAWS["double-saturating"]
    log_x, log_e, weights, start = problems(kind, rng)
    lower, upper = kind.box(log_x, log_e)
    together, costs = levenberg_marquardt(
        kind.log_error, log_x, log_e, weights, np.tile(start, (5, 1)), lower, upper
    )
    for i in range(5):
        kept = weights[i] > 0
        alone, cost = levenberg_marquardt(
            kind.log_error, log_x[i, kept], log_e[i, kept], weights[i, kept], start[None], lower,
            upper,
        )  # fmt: skip
        assert cost[0] == pytest.approx(costs[i], rel=1e-6)
        np.testing.assert_allclose(
            kind.log_error(alone, log_x[i : i + 1])[0],
            kind.log_error(together[i : i + 1], log_x[i : i + 1])[0],
            atol=1e-4,
        )


def test_equal_bounds_hold_a_parameter(rng):
    kind = LAWS["power+floor"]
    log_x, log_e, weights, start = problems(kind, rng)
    lower, upper = (side.copy() for side in kind.box(log_x, log_e))
    lower[2] = upper[2] = np.log(0.05)
    found, _ = levenberg_marquardt(
        kind.log_error, log_x, log_e, weights, np.tile(start, (5, 1)), lower, upper
    )
    np.testing.assert_array_equal(found[:, 2], np.log(0.05))


@pytest.mark.parametrize("name", LAWS)
def test_many_starts_find_what_a_global_search_finds(name, rng):
    """Differential evolution over the whole box finds no cost that is lower by 0.1 %."""
    kind = LAWS[name]
    log_x, log_e, _, _ = problems(kind, rng, count=2)
    for x, y in zip(log_x, log_e, strict=True):
        _, cost = fit_vector(kind, x, y, np.ones(len(x)))

        def misfit(theta, x=x, y=y):
            theta = theta.reshape(len(theta), -1).T  # at the end SciPy asks for one alone
            value = kind.log_error(theta, np.broadcast_to(x, (len(theta), len(x))))[0]
            return 0.5 * ((value - y) ** 2).sum(1)

        found = differential_evolution(
            misfit, list(zip(*kind.box(x, y), strict=True)), seed=0, maxiter=300,
            vectorized=True, updating="deferred",
        )  # fmt: skip
        assert cost < 1.001 * found.fun
