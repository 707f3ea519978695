"""Which parameters of a law the points determine: profiles of the likelihood."""

import numpy as np
from scipy.special import chdtri

from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.levenberg import levenberg_marquardt

#: Values of a parameter at which its profile is taken.
GRID = 41

#: What is said of a parameter that could as well be 0, or endless.
UNDETERMINED = {
    "c": "The floor c is not determined: the points show no sign that the error levels off; any "
    "floor from 0 to {} fits them about as well.",
    "d": "The shift d is not determined: the points show no bend at small compute; any shift from "
    "0 to {} fits them about as well.",
    "e0": "The ceiling e0 is not determined: the points show no plateau at small compute; any "
    "ceiling from {} up fits them about as well.",
}


def profile(kind, theta, log_x, log_e, weights, index, values):
    """Least cost of a law for each of `values` of one of its fitted numbers, the others free.

    Args:
        kind: A class of `Law`.
        theta: Its best vector.
        index: Which of its numbers is held.

    Returns:
        Costs (len(values),): half the weighted sum of squares.
    """
    lower, upper = (np.tile(side, (len(values), 1)) for side in kind.box(log_x, log_e))
    lower[:, index] = upper[:, index] = values
    # From the best vector, and from its neighbour's solution in a second turn.
    start = np.tile(theta, (len(values), 1))
    found, cost = levenberg_marquardt(kind.log_error, log_x, log_e, weights, start, lower, upper)
    for towards in (1, -1):
        start = np.roll(found, towards, axis=0)
        again, lower_cost = levenberg_marquardt(
            kind.log_error, log_x, log_e, weights, start, lower, upper
        )
        better = lower_cost < cost
        found[better], cost[better] = again[better], lower_cost[better]
    return cost


def profile_interval(kind, theta, log_x, log_e, weights, index, values, level=0.9):
    """Least and largest of `values` that the points do not refute, by a likelihood-ratio test.

    The noise is taken from the fit, with as many degrees of freedom as it left; it is
    taken as independent from point to point, so where points share runs this interval
    is too short, and what it cannot exclude surely is not determined.
    """
    cost = profile(kind, theta, log_x, log_e, weights, index, values)
    residual = kind.log_error(theta, log_x)[0] - log_e
    best = min(0.5 * (weights * residual**2).sum(), cost.min())
    freedom = max(1, len(log_x) - len(theta))
    # Errors are known to 0.1 % at best, however well a law runs through few points.
    variance = max(2 * best / freedom, 1e-6)
    kept = values[2 * (cost - best) / variance <= chdtri(1, 1 - level)]
    return (kept.min(), kept.max()) if len(kept) else (theta[index], theta[index])


def unidentified(
    kind: type[Law],
    theta: np.ndarray,
    log_x: np.ndarray,
    log_e: np.ndarray,
    weights: np.ndarray,
    scale: float,
) -> list[str]:
    """A sentence for each parameter whose effect at one end the points cannot show."""
    told = []
    lower, upper = kind.box(log_x, log_e)
    lowest = np.exp(log_e.min())
    if "c" in kind.parameters:
        index = 0 if kind.name == "sigmoidal" else kind.parameters.index("c")
        values = np.append(lower[index], np.log(lowest * np.linspace(0.025, 1, GRID - 1)))
        least, most = profile_interval(kind, theta, log_x, log_e, weights, index, values)
        if least == values[0]:
            told.append(UNDETERMINED["c"].format(f"{np.exp(most):.3g}"))
    if "d" in kind.parameters:
        index = kind.parameters.index("d")
        values = np.append(lower[index], np.linspace(log_x.min() - 3, log_x.max(), GRID - 1))
        least, most = profile_interval(kind, theta, log_x, log_e, weights, index, values)
        if least == values[0]:
            told.append(UNDETERMINED["d"].format(f"{np.exp(most) * scale:.3g}"))
    if "e0" in kind.parameters:
        values = np.linspace(lower[1], upper[1], GRID)
        least, most = profile_interval(kind, theta, log_x, log_e, weights, 1, values)
        if most == values[-1]:
            told.append(UNDETERMINED["e0"].format(f"{np.exp(least) + np.exp(theta[0]):.3g}"))
    return told
