"""Resamples of a study: noise of whole trunks drawn anew, frontiers chosen anew, laws refitted."""

import numpy as np

from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.noise import Anatomy, fit_touching

#: A resample's noise is at most this many times the estimate: the tails of chi-square with
#: few degrees of freedom know no bounds, noise of trained models does.
MOST_INFLATION = 3.0


def draw_errors(
    rng: np.random.Generator, centre: np.ndarray, parts: Anatomy, trunk: np.ndarray, resamples: int
) -> np.ndarray:
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
    tilts = parts.tilts * rng.standard_normal((resamples, trunk.max() + 1))[:, trunk]
    own = parts.point_noise * rng.standard_normal((resamples, len(trunk)))
    # No error is above 1.
    return np.minimum(centre + parts.behind + shared[:, trunk] + tilts + own, 0)


def refit(
    kind: type[Law],
    parts: Anatomy,
    log_x: np.ndarray,
    drawn: np.ndarray,
    trunk: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    rounds: int = 2,
) -> np.ndarray:
    """Vectors of the laws of K studies (K, P), what touches the frontier chosen anew in each."""
    theta = np.tile(parts.theta, (len(drawn), 1))
    for _ in range(rounds):
        theta, _ = fit_touching(
            kind, theta, log_x, drawn, trunk, parts.trunk_noise**2, parts.point_noise, box
        )
    return theta
