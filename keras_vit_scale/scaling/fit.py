"""Fitting a law: least squares in log error, from many starts at once."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_vit_scale.checks import check_one_of, check_positive
from keras_vit_scale.scaling.forms import DEFAULT_LAW, law_class
from keras_vit_scale.scaling.frontier import check_points
from keras_vit_scale.scaling.identify import unidentified
from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.levenberg import LOSSES, levenberg_marquardt

#: Least ratio of the largest to the smallest compute that a law is fitted to.
MIN_SPAN = 3.0

#: More points than this are averaged in as many bins of log compute before the fit.
MOST_POINTS = 2000


#: A point is an outlier if it lies further off than this many deviations of the others, and
#: further than this in log error.
OUTLYING, LEAST_OUTLYING = 8.0, 0.1


def fit_law(
    compute: ArrayLike,
    error: ArrayLike,
    *,
    law: str | type[Law] = DEFAULT_LAW,
    weights: ArrayLike | None = None,
    loss: str = "squares",
    loss_scale: float = 0.03,
) -> Law:
    """Fits a law by least squares in log error.

    Give it the points of a frontier (`pareto_frontier`): the law is about the best
    error for each compute. It starts from a fixed set of parameters (80 for the
    default law) and keeps the best, so it is deterministic.

    Args:
        compute: Positive, in any unit; the law is in that unit. Images seen will do.
        error: In (0, 1].
        law: A name in `LAWS`; by default the paper's, `DEFAULT_LAW`.
        weights: What each point counts, such as 1 / variance of log error; by default
            all alike. Only their ratios matter, and 0 leaves a point out.
        loss: "squares", or "soft-l1" or "huber", for which a point counts less when it
            lies further off than `loss_scale`, in log error.

    Returns:
        The law; its `warnings` tell what the points do not determine.

    Raises:
        ValueError: If the points are too few or out of range, or do not show a
            law: one error, too little span of compute, or errors that do not fall; if
            law or loss have no such name.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.scaling import fit_law
    >>> compute = np.geomspace(1e-1, 1e4, 12)
    >>> law = fit_law(compute, 0.26 * (compute + 0.01) ** -0.35 + 0.09)
    >>> round(law.b, 3), round(law.c, 3)
    (0.35, 0.09)
    """
    kind = law_class(law)
    compute, error, weights = check_fit(kind, compute, error, weights, loss, loss_scale)
    log_x, scale = unit_free(compute)
    log_e = np.log(error)
    few = binned(log_x, log_e, weights, MOST_POINTS)
    theta, _ = fit_vector(kind, *few, loss, loss_scale)
    residual = kind.log_error(theta, log_x)[0] - log_e
    rms = float(np.sqrt(np.average(residual**2, weights=weights)))
    told = unidentified(kind, theta, *few, scale)
    if loss == "squares":
        told += _outliers(kind, few, log_x, compute, error)
    return as_law(
        kind,
        theta,
        scale,
        points=int((weights > 0).sum()),
        rms_log_error=rms,
        compute_range=(float(compute.min()), float(compute.max())),
        warnings=tuple(told),
    )


def as_law(kind: type[Law], theta: np.ndarray, scale: float, **record: Any) -> Law:
    """The law of a fitted vector, for which compute was divided by `scale`."""
    limits = record.pop("compute_range")
    fields: dict[str, Any] = {name: float(value) for name, value in kind.from_vector(theta).items()}
    fitted = kind(**fields, **record).in_unit(float(scale))
    return type(fitted)(**{**vars(fitted), "compute_range": limits})


def unit_free(compute: np.ndarray) -> tuple[np.ndarray, float]:
    """Logarithms of compute around 0, and the unit (its geometric mean) that they are in."""
    log_compute = np.log(compute)
    centre = log_compute.mean()
    return log_compute - centre, np.exp(centre)


def fit_vector(
    kind: type[Law],
    log_x: np.ndarray,
    log_e: np.ndarray,
    weights: np.ndarray,
    loss: str = "squares",
    loss_scale: float = 1.0,
    box: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, float]:
    """The best vector of a law's parameters from all of its starts, and its cost."""
    theta, cost = levenberg_marquardt(
        kind.log_error, log_x, log_e, weights, kind.starts(log_x, log_e),
        *(kind.box(log_x, log_e) if box is None else box), loss=loss, scale=loss_scale,
    )  # fmt: skip
    best = np.argmin(cost)
    return theta[best], cost[best]


def binned(
    log_x: np.ndarray, log_e: np.ndarray, weights: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and weights (of mean 1), averaged in bins of log compute if more than `most`.

    A million rows then cost no more than their reading.
    """
    if len(log_x) > most:
        edges = np.linspace(log_x.min(), log_x.max(), most + 1)[1:-1]
        bins = np.searchsorted(edges, log_x, side="right")
        total = np.bincount(bins, weights, most)
        filled = total > 0
        log_x, log_e = (
            np.bincount(bins, weights * v, most)[filled] / total[filled] for v in (log_x, log_e)
        )
        weights = total[filled]
    return log_x, log_e, weights / weights.mean()


def _outliers(
    kind: type[Law],
    few: tuple[np.ndarray, np.ndarray, np.ndarray],
    log_x: np.ndarray,
    compute: np.ndarray,
    error: np.ndarray,
) -> list[str]:
    """A sentence about points that a fit which hardly heeds them would leave far off."""
    theta, _ = fit_vector(kind, *few, "soft-l1", 0.01)
    off = np.abs(np.log(error) - kind.log_error(theta, log_x)[0])
    out = off > max(OUTLYING * 1.4826 * np.median(off), LEAST_OUTLYING)
    if not out.any():
        return []
    worst = off.argmax()
    return [
        f"{out.sum()} of {len(off)} points lie far off the others' law and may have bent this one, "
        f"most of all the error {error[worst]:.4g} at compute {compute[worst]:.4g}: look at them, "
        'or fit with loss="soft-l1".'
    ]


def check_fit(
    kind: type[Law],
    compute: ArrayLike,
    error: ArrayLike,
    weights: ArrayLike | None,
    loss: str = "squares",
    loss_scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and weights to fit as arrays, those of weight 0 left out, after checking them.

    Raises:
        ValueError: As `fit_law`.
    """
    compute, error = check_points(compute, error)
    check_one_of(LOSSES, loss=loss)
    check_positive(loss_scale=loss_scale)
    weights = np.ones_like(compute) if weights is None else check_weights(weights, compute)
    counted = weights > 0
    compute, error, weights = (v[counted] for v in (compute, error, weights))
    _check_shows_a_law(kind, compute, error)
    return compute, error, weights


def check_weights(weights: ArrayLike, compute: np.ndarray) -> np.ndarray:
    """Weights as an array, after checking that each is a number and none negative."""
    try:
        weights = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"Weights must be numbers. Received: {problem}") from problem
    if weights.shape != compute.shape:
        raise ValueError(
            "There must be a weight for each point. "
            f"Received: shapes {weights.shape} and {compute.shape}"
        )
    valid = np.isfinite(weights) & (weights >= 0)
    if not valid.all():
        i = int(np.flatnonzero(~valid)[0])
        raise ValueError(
            f"Each weight must be finite and not negative. Received: {weights[i]} at point {i + 1}"
        )
    if not weights.any():
        raise ValueError("Some weight must be positive. Received: none")
    return weights


def _check_shows_a_law(kind, compute, error):
    distinct, needed = len(np.unique(compute)), len(kind.parameters) + 1
    if distinct < needed:
        number = ("two", "three", "four", "five")[needed - 3]
        raise ValueError(
            f"A law with {number} parameters needs at least {needed} points of different compute. "
            f"Received: {distinct}"
        )
    span = compute.max() / compute.min()
    if span < MIN_SPAN:
        raise ValueError(
            f"The compute must span at least a factor of {MIN_SPAN:g} to show a law. "
            f"Received: a factor of {span:.3g}"
        )
    if error.max() / error.min() < 1.01:
        raise ValueError(
            "The errors must differ by at least 1 % to show a law. "
            f"Received: errors from {error.min():.4g} to {error.max():.4g}"
        )
    if np.corrcoef(np.log(compute), np.log(error))[0, 1] >= 0:
        raise ValueError(
            "The error must fall as the compute grows. Received: errors that rise with it; "
            "check which column is which, and that the column holds errors, not accuracies"
        )
