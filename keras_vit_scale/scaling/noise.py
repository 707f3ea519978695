"""What is noise in a study, and what is distance to its frontier.

The error of a result is taken apart, in logarithms:

    log E = law(C) + behind + trunk + point

`trunk` is noise that all results of one run share, since they are cooled down from one
trunk; `point` is each result's own; `behind` >= 0 says how far a noiseless study would lie
above the frontier at this size and duration. One trunk alone cannot tell `trunk` from
`behind`, so this is taken: where a trunk comes nearest to the law it touches it, unless
it stays further off than noise explains, and then it lies behind as a whole.
"""

from dataclasses import dataclass

import numpy as np

from keras_vit_scale.scaling.levenberg import levenberg_marquardt

#: Noise of a trunk before any is seen (a standard deviation of log error, and how many
#: trunks that guess is worth): few trunks say little about how much they vary.
USUAL_NOISE, USUAL_WORTH = 0.02, 4.0

#: Results of a trunk within this of its nearest touch the frontier with it.
NEAR = 0.01

#: A trunk touches the frontier unless it lies further above it than this many deviations.
FAR = 2.5


@dataclass(frozen=True)
class Anatomy:
    """A study taken apart.

    Args:
        theta: Vector of the law through what touches the frontier.
        behind: How far each result would lie above it without noise (N,).
        trunk_noise: Standard deviation of what trunks share, in log error.
        freedom: Degrees of freedom that this deviation is known with.
        point_noise: Standard deviation of what results do not share.
        touching: Whether each result belongs to a trunk that touches the frontier (N,).
    """

    theta: np.ndarray
    behind: np.ndarray
    trunk_noise: float
    freedom: float
    point_noise: float
    touching: np.ndarray


def anatomy(kind, theta, log_x, log_e, trunk, repeats=None, rounds: int = 8) -> Anatomy:
    """Takes a study apart, starting from a law through its frontier.

    Args:
        kind: A class of `Law`.
        theta: Its vector, fitted to the Pareto frontier.
        log_x, log_e: Logarithms of compute and error (N,).
        trunk: Index of the trunk of each result (N,), from 0.
        repeats: Variance among trunks that repeat each other with other seeds, and its
            degrees of freedom; `None` if none do.
        rounds: Times that law, noise and distances are brought to agree.
    """
    count = trunk.max() + 1
    point = point_noise(log_x, log_e, trunk)
    near_width = NEAR + 1.5 * point
    lower, upper = kind.box(log_x, log_e)
    variance, freedom = USUAL_NOISE**2, USUAL_WORTH
    for _ in range(rounds):
        above = log_e - kind.log_error(theta, log_x)[0]
        least = np.full(count, np.inf)
        np.minimum.at(least, trunk, above)
        near = above <= least[trunk] + near_width
        shared = np.bincount(trunk, above * near, count) / np.bincount(trunk, near, count)
        touches = shared <= FAR * np.sqrt(variance + point**2)
        chosen = near & touches[trunk]
        if len(np.unique(log_x[chosen])) <= len(theta):
            chosen = near | touches[trunk]
        weights = chosen.astype(float)
        theta = levenberg_marquardt(
            kind.log_error, log_x, log_e, weights, theta[None], lower, upper
        )[0][0]
        variance, freedom = _trunk_variance(
            kind, theta, log_x[chosen], log_e[chosen], trunk[chosen], point, repeats
        )
    above = log_e - kind.log_error(theta, log_x)[0]
    shared = np.bincount(trunk, above * near, count) / np.bincount(trunk, near, count)
    behind = np.where(touches[trunk], above - shared[trunk], above)
    behind = np.where(chosen, 0.0, behind.clip(0))
    return Anatomy(theta, behind, float(np.sqrt(variance)), freedom, point, touches[trunk])


def point_noise(log_x, log_e, trunk) -> float:
    """Noise of single results, from how far each lies off the line between its neighbours.

    The median over all trunks, so that a few real bends do not count; 0 if no trunk
    has three results.
    """
    order = np.lexsort((log_x, trunk))
    x, y, t = log_x[order], log_e[order], trunk[order]
    inner = (t[2:] == t[:-2]) & (x[2:] > x[:-2])
    if not inner.any():
        return 0.0
    part = (x[1:-1] - x[:-2])[inner] / (x[2:] - x[:-2])[inner]
    off = y[1:-1][inner] - (1 - part) * y[:-2][inner] - part * y[2:][inner]
    off = off / np.sqrt(1 + part**2 + (1 - part) ** 2)
    # A curve bends one way: what is left around the median bend is noise.
    return float(1.4826 * np.median(np.abs(off - np.median(off))))


def _trunk_variance(kind, theta, log_x, log_e, trunk, point, repeats):
    """Variance of the noise of trunks, and its degrees of freedom.

    By moments: residuals r of a fit with leverage H and trunks Z have E[r'r] = variance x
    tr((1 - H) Z Z') + point^2 (N - P). What few trunks say is averaged with the usual.
    """
    value, jacobian = kind.log_error(theta, log_x)
    residual = log_e - value
    # Singular directions, such as a floor of 0, take nothing from the residuals.
    basis, singular, _ = np.linalg.svd(jacobian, full_matrices=False)
    basis = basis[:, singular > 1e-4 * singular[0]]
    members = (trunk[:, None] == np.unique(trunk)).astype(float)
    left = members - basis @ (basis.T @ members)
    spread = left @ left.T
    total, square = np.trace(spread), (spread**2).sum()
    pieces = [(USUAL_NOISE**2, USUAL_WORTH)]
    if total > 1e-6:
        own = point**2 * (len(log_x) - basis.shape[1])
        seen = max(0.0, (residual**2).sum() - own) / total
        pieces.append((seen, total**2 / square))
    if repeats is not None:
        pieces.append(repeats)
    freedom = sum(f for _, f in pieces)
    return sum(v * f for v, f in pieces) / freedom, freedom


def variance_of_repeats(compute, log_e, trunk, size):
    """Variance among trunks of one size at one compute, and its degrees of freedom.

    A trunk's noise is the mean, over the computes that it shares with a repeat, of how far
    it lies off the mean of all trunks there; `None` if no trunk has a repeat.
    """
    total = freedom = 0.0
    for name in np.unique(size):
        mine = size == name
        trunks, row = np.unique(trunk[mine], return_inverse=True)
        steps, column = np.unique(compute[mine], return_inverse=True)
        errors = np.full((len(trunks), len(steps)), np.nan)
        errors[row, column] = log_e[mine]
        errors = errors[:, ~np.isnan(errors).any(0)]
        if len(trunks) > 1 and errors.size:
            total += errors.mean(1).var(ddof=1) * (len(trunks) - 1)
            freedom += len(trunks) - 1
    return (total / freedom, freedom) if freedom else None
