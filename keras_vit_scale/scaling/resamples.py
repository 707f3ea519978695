"""Resamples of a study: noise of whole trunks drawn anew, frontiers selected anew, laws refitted."""

import numpy as np

from keras_vit_scale.scaling.levenberg import levenberg_marquardt

#: A resample's noise is at most this many times the estimate: the tails of chi-square with
#: few degrees of freedom know no bounds, noise of trained models does.
MOST_INFLATION = 3.0


def draw_errors(rng, centre, parts, trunk, resamples: int):
    """Logarithms of the errors of `resamples` studies like one that was taken apart (K, N).

    The noise of each trunk is drawn once for all of its results. Its deviation is drawn too,
    since few trunks tell it roughly: that gives the tails of Student's t.

    Args:
        rng: A NumPy generator.
        centre: Logarithm of the law at the results (N,).
        parts: The study's `Anatomy`.
        trunk: Index of the trunk of each result (N,).
        resamples: K.
    """
    ratio = parts.freedom / rng.chisquare(parts.freedom, (resamples, 1))
    deviation = parts.trunk_noise * np.sqrt(ratio).clip(max=MOST_INFLATION)
    shared = deviation * rng.standard_normal((resamples, trunk.max() + 1))
    own = parts.point_noise * rng.standard_normal((resamples, len(trunk)))
    # No error is above 1.
    return np.minimum(centre + parts.behind + shared[:, trunk] + own, 0)


def frontiers(compute, log_e):
    """Which points are on the Pareto frontier, for K sets of errors (K, N) of one compute (N,).

    Row by row the points of `pareto_frontier`.
    """
    order = np.argsort(compute, kind="stable")
    log_e = log_e[:, order]
    # Points of one compute stand together: only the best of them can be on the frontier.
    starts = np.flatnonzero(np.diff(compute[order], prepend=-np.inf))
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    best = np.minimum.reduceat(log_e, starts, axis=1)
    before = np.minimum.accumulate(best, axis=1)
    improves = np.ones_like(best, bool)
    improves[:, 1:] = best[:, 1:] < before[:, :-1]
    on = improves[:, group] & (log_e == best[:, group])
    if len(starts) < len(order):
        # Of equal points of one compute the first.
        among = np.cumsum(on, axis=1)
        earlier = np.where(starts > 0, among[:, starts - 1], 0)
        on &= among - earlier[:, group] == 1
    chosen = np.empty_like(on)
    chosen[:, order] = on
    return chosen


def refit(kind, log_x, log_e, chosen, starts, box):
    """Best vectors of a law for K sets of points, of each set those that are chosen.

    Args:
        kind: A class of `Law`.
        log_x, log_e, chosen: (N,), (K, N), (K, N).
        starts: Vectors to start each from.
        box: Least and largest vector.

    Returns:
        Vectors (K, P).
    """
    # The chosen points first, so that no time is spent on others.
    order = np.argsort(~chosen, axis=1, kind="stable")[:, : chosen.sum(1).max()]
    x, y = log_x[order], np.take_along_axis(log_e, order, axis=1)
    weights = np.take_along_axis(chosen, order, axis=1).astype(float)
    best, least = None, np.full(len(y), np.inf)
    for start in starts:
        begin = np.tile(start, (len(y), 1))
        theta, cost = levenberg_marquardt(
            kind.log_error, x, y, weights, begin, *box, tolerance=1e-5
        )
        better = cost < least
        best = theta if best is None else np.where(better[:, None], theta, best)
        least = np.minimum(cost, least)
    return best
