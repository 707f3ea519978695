"""What a learning curve says for a law: its fit, with drift, and its marginal likelihood.

Points y at log images x are taken apart as

    y = law(x) + drift(x) + noise

No law is exact over a whole curve, so `drift` is a Gaussian process whose correlation falls by e
for each e-fold of images. How large it is against the noise is not known: each of `DRIFTS` is
tried, and what the points say for it counts. Where a law fits, no drift is seen and each point
tells of the law; where none does, the last points tell where the curve is now. What they show
of drift is carried on from the last point, and fades.
"""

from dataclasses import dataclass

import numpy as np

from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.levenberg import levenberg_marquardt, with_priors

#: Variance of drift, in units of the variance of single points' noise.
DRIFTS = (0.0, 0.3, 3.0, 30.0)

#: What is usual for a point's noise, in log error, and how many points that guess is worth.
USUAL_NOISE, USUAL_FREEDOM = 0.003, 2.0

#: Mean and deviation of the logarithms of what short curves hardly tell. Exponents are near 1/2
#: within a factor of 2, a floor near half of the lowest error, a ceiling near the highest; it is
#: left about symmetrically; a shift is near the fewest images, within a factor of 7.
EXPONENT, FLOOR, CEILING = (np.log(0.5), 0.7), (-0.6, 0.8), (0.0, 1.0)
ABRUPTNESS, SHIFT = (0.0, 0.5), (0.5, 2.0)

#: Deviations of an amplitude and of a sigmoid's place, wide enough to say nothing.
LEVEL, PUSH = 2.0, 4.0


@dataclass(frozen=True)
class DriftingLaw:
    """A law fitted with each amount of drift (R of them).

    Args:
        kind: The law's class.
        vectors: What was fitted (R, P).
        log_evidence: Logarithm of the marginal likelihood (R,).
        drift: How far the curve lies off the law at the last point (R,).
    """

    kind: type[Law]
    vectors: np.ndarray
    log_evidence: np.ndarray
    drift: np.ndarray


def usual(kind, x, y):
    """Means and deviations (P,) of a law's fitted numbers, for points in logarithms."""
    level = (np.median(y), LEVEL)
    floor = (y.min() + FLOOR[0], FLOOR[1])
    numbers = {
        "power": (level, EXPONENT),
        "power+floor": (level, EXPONENT, floor),
        "double-saturating": (level, EXPONENT, floor, (x.min() + SHIFT[0], SHIFT[1])),
        "sigmoidal": (floor, (y.max() + CEILING[0], CEILING[1]), ABRUPTNESS, EXPONENT, (0.0, PUSH)),
    }
    return np.array(numbers[kind.name]).T


def fit_robustly(kind, x, y, weights, noise, tolerance):
    """A law's best vector without drift, points beyond `tolerance` counting less, and its cost."""
    means, deviations = usual(kind, x, y)
    n = len(x)

    def model(theta, x):
        value, jacobian = kind.log_error(theta, x[:, :n])
        return with_priors(theta, value, jacobian)

    vectors, costs = levenberg_marquardt(
        model,
        np.append(x, means),
        np.append(y, means),
        np.append(weights, (noise / deviations) ** 2),
        kind.starts(x, y),
        *kind.box(x, y),
        loss="soft-l1",
        scale=tolerance,
        tolerance=1e-7,
    )
    best = np.argmin(costs)
    return vectors[best], costs[best]


def fit_with_drift(
    kind: type[Law],
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    noise: float,
    rounds: int = 3,
) -> DriftingLaw:
    """Fits a law with each amount of drift, and says what the points say for each.

    The posterior is taken as normal around its maximum (Laplace's method), the noise's variance
    as inverse gamma.

    Args:
        kind: A class of `Law`.
        x, y, weights: Logarithms of images and error, and what each point counts (N,), by
            rising images.
        start: A vector to start from (P,).
        noise: A guess of the noise of single points.
        rounds: Times that laws and noise are brought to agree.
    """
    means, deviations = usual(kind, x, y)
    n, count, tried = len(x), len(means), np.array(DRIFTS)
    near = np.exp(-np.abs(x[:, None] - x))
    covariance = np.diag(1 / weights) + tried[:, None, None] * near
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    target = whiten @ y

    def model(theta, which):
        which = which[:, 0].astype(int)
        value, jacobian = kind.log_error(theta, np.broadcast_to(x, (len(theta), n)))
        value = np.matmul(whiten[which], value[..., None])[..., 0]
        return with_priors(theta, value, np.matmul(whiten[which], jacobian))

    every = np.arange(len(tried))
    which = np.tile(every[:, None], n + count)
    theta, variance = np.tile(start, (len(tried), 1)), np.full(len(tried), noise**2)
    for i in range(rounds):
        theta, _ = levenberg_marquardt(
            model,
            which,
            np.hstack([target, np.tile(means, (len(tried), 1))]),
            np.hstack([np.ones_like(target), variance[:, None] / deviations**2]),
            theta,
            *kind.box(x, y),
            tolerance=1e-6,
        )
        value, jacobian = model(theta, which)
        residual, jacobian = target - value[:, :n], jacobian[:, :n]
        squares = (residual**2).sum(1) + USUAL_FREEDOM * USUAL_NOISE**2
        if i < rounds - 1:
            variance = squares / (max(n - count, 1) + USUAL_FREEDOM)
    precision = np.matmul(jacobian.transpose(0, 2, 1), jacobian) / variance[:, None, None]
    precision += np.diag(deviations**-2)
    log_evidence = (
        np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(1)
        - (n + USUAL_FREEDOM) / 2 * np.log(squares)
        - 0.5 * (((theta - means) / deviations) ** 2).sum(1)
        - 0.5 * np.linalg.slogdet(precision)[1]
        - np.log(deviations).sum()
    )
    # The mean of the drift at the last point, given all residuals.
    back = np.matmul(whiten.transpose(0, 2, 1), residual[..., None])[..., 0]
    return DriftingLaw(kind, theta, log_evidence, tried * (back @ near[-1]))
