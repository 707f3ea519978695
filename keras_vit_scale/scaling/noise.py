"""What is noise in a study, and what is distance to its frontier.

The error of a result is taken apart, in logarithms:

    log E = law(C) + behind + trunk + point

`trunk` is noise that all results of one run share, since they are cooled down from one
trunk; `point` is each result's own; `behind` >= 0 says how far a noiseless study would lie
above the frontier at this size and duration. One trunk alone cannot tell `trunk` from
`behind`, so this is taken: where a trunk comes nearest to the law it touches it, unless
it stays further off than noise explains, and then it lies behind as a whole.

A Pareto frontier picks, among trunks that touch, the lucky ones. The law here goes through
the touching stretches of all of them, lucky or not, so luck does not select.
"""

from dataclasses import dataclass

import numpy as np

from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.levenberg import levenberg_marquardt

#: Noise of a trunk before any is seen (a standard deviation of log error), and how many
#: degrees of freedom that guess is worth: few trunks say little about how much they vary.
USUAL_NOISE, USUAL_FREEDOM = 0.025, 4.0

#: Least noise of single results that is reckoned with: no trunk follows the law more closely.
LEAST_NOISE = 0.01

#: How far a trunk's own slope takes its touching results off the law, as a root mean square,
#: before any is seen; and how many trunks that guess is worth.
USUAL_TILT, USUAL_TILTS = 0.005, 2.0

#: Results of a trunk within this of its nearest, or of one and a half deviations of a
#: single result, touch the frontier with it.
NEAR, NEAR_DEVIATIONS = 0.0075, 1.5

#: A trunk touches the frontier unless it lies further above it than this many deviations. At
#: first, when the law is that of the lucky trunks, it may lie further.
FAR, FAR_AT_FIRST = 3.0, 5.0


@dataclass(frozen=True)
class Anatomy:
    """A study taken apart.

    Args:
        theta: Vector of the law through what touches the frontier (P,).
        touching: Whether each result does (N,).
        behind: How far each result would lie above the law without noise (N,).
        trunk_noise: Standard deviation of what trunks share, in log error.
        freedom: Degrees of freedom that this deviation is known with.
        point_noise: Standard deviation of what results do not share.
        tilts: For a tilt of each trunk of one deviation, what it adds to its results (N,): no
            trunk follows the law exactly where it touches it.
    """

    theta: np.ndarray
    touching: np.ndarray
    behind: np.ndarray
    trunk_noise: float
    freedom: float
    point_noise: float
    tilts: np.ndarray


def take_apart(
    kind: type[Law],
    theta: np.ndarray,
    log_x: np.ndarray,
    log_e: np.ndarray,
    trunk: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    repeats: tuple[float, float] | None = None,
    rounds: int = 10,
) -> Anatomy:
    """Takes a study apart, starting from a law near its frontier.

    Args:
        kind: A class of `Law`.
        theta: Its vector, fitted to the Pareto frontier.
        log_x, log_e: Logarithms of compute and error (N,).
        trunk: Index of the trunk of each result (N,), from 0.
        box: Least and largest vector.
        repeats: Variance among trunks that repeat each other with other seeds, and its
            degrees of freedom; `None` if none do.
        rounds: Times that law, noise and distances are brought to agree.
    """
    point = point_noise(log_x, log_e, trunk)
    variance, freedom = USUAL_NOISE**2, USUAL_FREEDOM
    for i in range(rounds):
        far = FAR_AT_FIRST if 2 * i < rounds else FAR
        (theta,), (touching,) = fit_touching(
            kind, theta[None], log_x, log_e[None], trunk, variance, point, box, far
        )
        variance, freedom = trunk_variance(
            kind, theta, log_x[touching], log_e[touching], trunk[touching], variance, point, repeats
        )
    above = log_e - kind.log_error(theta, log_x)[0]
    count = trunk.max() + 1
    members = np.bincount(trunk, touching, count)
    # A trunk that touches nowhere is taken to lie behind without noise.
    shared = np.bincount(trunk, above * touching, count) / np.maximum(members, 1)
    behind = np.where(touching, 0.0, (above - shared[trunk]).clip(0))
    return Anatomy(
        theta, touching, behind, float(np.sqrt(variance)), freedom, point,
        trunk_tilts(log_x, above, trunk, touching, len(theta)),
    )  # fmt: skip


def fit_touching(kind, theta, log_x, log_e, trunk, variance, point, box, far=FAR):
    """One round for K studies: what touches the law, and the law through that.

    By generalised least squares: residuals of one trunk share noise, so their mean counts
    for little more than one result, and their differences for much.

    Args:
        kind, log_x, trunk, box: As for `take_apart`.
        theta: Vectors (K, P).
        log_e: (K, N).
        variance: Of the noise of trunks.
        point: Standard deviation of that of results.
        far: Deviations above the law at which a trunk still touches it.

    Returns:
        Vectors (K, P), and which results touch (K, N).
    """
    problems, count = len(theta), trunk.max() + 1
    own = max(point, LEAST_NOISE)
    above = log_e - kind.log_error(theta, log_x)[0]
    order = np.argsort(trunk, kind="stable")
    starts = np.searchsorted(trunk[order], np.arange(count))
    least = np.minimum.reduceat(above[:, order], starts, axis=1)
    near = above <= least[:, trunk] + max(NEAR, NEAR_DEVIATIONS * point)
    touches = least <= far * np.sqrt(variance + own**2)
    touching = near & touches[:, trunk]
    # Where too little touches to carry a law, all that is near does.
    few = touching.sum(1) <= theta.shape[1]
    touching[few] = near[few]

    # The touching results first, so that no time is spent on others.
    chosen = np.argsort(~touching, axis=1, kind="stable")[:, : touching.sum(1).max()]
    x, y = log_x[chosen], np.take_along_axis(log_e, chosen, axis=1)
    weights = np.take_along_axis(touching, chosen, axis=1).astype(float)
    member = trunk[chosen] + count * np.arange(problems)[:, None]
    size = np.bincount(member.ravel(), weights.ravel(), problems * count)
    share = (1 - own / np.sqrt(own**2 + size * variance)) / np.maximum(size, 1)

    def whitened(values, rows):
        """Values less the part of their trunk's mean that noise shares."""
        compact = np.searchsorted(np.unique(rows), rows)
        ids = member[rows] - count * (rows - compact)[:, None]
        sums = np.bincount(ids.ravel(), (values * weights[rows]).ravel(), len(rows) * count)
        return values - share[member[rows]] * sums[ids]

    def model(theta, rows):
        rows = rows[:, 0]
        value, jacobian = kind.log_error(theta, x[rows])
        columns = [whitened(jacobian[..., i], rows) for i in range(jacobian.shape[-1])]
        return whitened(value, rows), np.stack(columns, axis=-1)

    every = np.arange(problems)
    theta, _ = levenberg_marquardt(
        model, every[:, None], whitened(y, every), weights, theta, *box, tolerance=1e-5
    )
    return theta, touching


def trunk_tilts(log_x, above, trunk, touching, count):
    """What a tilt of one standard deviation adds to each result (N,).

    The deviation is that of the linear parts of residuals within trunks, pooled; the fit of
    `count` parameters has taken part of them away.
    """
    members = np.maximum(np.bincount(trunk, touching), 1)
    middle = np.bincount(trunk, log_x * touching) / members
    off = (log_x - middle[trunk]) * touching
    spread = np.bincount(trunk, off**2)
    slopes = np.bincount(trunk, off * above) / np.maximum(spread, 1e-12)
    # Each trunk's slope counts for the stretch that it was seen over.
    stretch = np.sqrt(spread / members)
    total = USUAL_TILTS * USUAL_TILT**2 + ((slopes * stretch) ** 2).sum()
    left = max((spread > 1e-12).sum() - (count - 1) / 2, 0)
    pooled = np.sqrt(total / (USUAL_TILTS + left))
    return pooled * off / np.maximum(stretch, 1e-6)[trunk]


def point_noise(log_x: np.ndarray, log_e: np.ndarray, trunk: np.ndarray) -> float:
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


def trunk_variance(kind, theta, log_x, log_e, trunk, variance, point, repeats=None):
    """Variance of the noise of trunks, and its degrees of freedom, from what touches a law.

    By moments: the mean residuals m of the trunks have E[m'm] = variance x tr(A) + point^2 x
    tr(B), where A and B follow from the leverage of the fit. What few trunks say is averaged
    with the usual, and with what repeats say.
    """
    own = max(point, LEAST_NOISE)
    value, jacobian = kind.log_error(theta, log_x)
    # Directions that the results hardly tell, such as a floor of 0, take nothing from them.
    members = (trunk[:, None] == np.unique(trunk)).astype(float)
    means = members / members.sum(0)
    inverse = np.linalg.inv(variance * members @ members.T + own**2 * np.eye(len(log_x)))
    root = np.linalg.cholesky(inverse).T
    basis, singular, _ = np.linalg.svd(root @ jacobian, full_matrices=False)
    basis = basis[:, singular > 1e-3 * singular[0]]
    left = np.eye(len(log_x)) - np.linalg.solve(root, basis @ (basis.T @ root))
    spread = means.T @ left @ members
    total, square = (spread**2).sum(), ((spread @ spread.T) ** 2).sum()
    pieces = [(USUAL_NOISE**2, USUAL_FREEDOM)]
    if total > 1e-6:
        own_part = point**2 * ((means.T @ left) ** 2).sum()
        mean_residuals = means.T @ (log_e - value)
        seen = max(0.0, (mean_residuals**2).sum() - own_part) / total
        pieces.append((seen, total**2 / square))
    if repeats is not None:
        pieces.append(repeats)
    freedom = sum(f for _, f in pieces)
    return sum(v * f for v, f in pieces) / freedom, freedom


def variance_of_repeats(compute, log_e, trunk, size):
    """Variance among trunks of one size at one compute, and its degrees of freedom.

    A trunk's noise is the mean, over the computes that it shares with its repeats, of how far
    it lies off the mean of all of them; `None` if no trunk has a repeat.
    """
    total = freedom = 0.0
    # Sizes of more than one trunk alone: there may be as many sizes as results.
    pairs = np.unique(np.stack([size, trunk]), axis=1)
    names, trunks_of = np.unique(pairs[0], return_counts=True)
    for name in names[trunks_of > 1]:
        mine = size == name
        trunks, row = np.unique(trunk[mine], return_inverse=True)
        steps, column = np.unique(compute[mine], return_inverse=True)
        errors = np.full((len(trunks), len(steps)), np.nan)
        errors[row, column] = log_e[mine]
        errors = errors[:, ~np.isnan(errors).any(0)]
        if errors.size:
            total += errors.mean(1).var(ddof=1) * (len(trunks) - 1)
            freedom += len(trunks) - 1
    return (total / freedom, freedom) if freedom else None
