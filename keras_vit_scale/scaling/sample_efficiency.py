"""Sample efficiency: the images that one size needs for an error, against another's."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.bootstrap import tails
from keras_vit_scale.scaling.frontier import check_points


def images_to_reach(images: ArrayLike, error: ArrayLike, target: float) -> np.ndarray:
    """Images after which a learning curve first reaches an error.

    Interpolated between results, on logarithmic axes; never extrapolated.

    Args:
        images: Images seen, rising (n,).
        error: Errors after them, (n,), or (..., n) for several curves.
        target: The error.

    Returns:
        A number for each curve: 0 if the first result already is that good, infinity if none is.

    Example:

    >>> from keras_vit_scale.scaling import images_to_reach
    >>> round(images_to_reach([1e6, 4e6, 16e6], [0.8, 0.4, 0.2], 0.4).item())
    4000000
    >>> [images_to_reach([1e6, 4e6], [0.8, 0.4], target).item() for target in (0.9, 0.3)]
    [0.0, inf]
    """
    log_x, log_e = np.log(np.asarray(images, float)), np.log(np.asarray(error, float))
    reached = log_e <= np.log(target)
    after = reached.argmax(-1)[..., None]
    before = np.maximum(after - 1, 0)
    high, low = (np.take_along_axis(log_e, i, -1)[..., 0] for i in (before, after))
    part = np.divide(high - np.log(target), high - low, out=np.zeros_like(high), where=high > low)
    x0, x1 = log_x[before[..., 0]], log_x[after[..., 0]]
    found = np.exp(x0 + part * (x1 - x0))
    return np.where(reached.any(-1), np.where(reached[..., 0], 0.0, found), np.inf)


def sample_efficiency(
    images: ArrayLike,
    error: ArrayLike,
    size: ArrayLike,
    *,
    slow: str,
    fast: str,
    targets: ArrayLike | None = None,
    trunk: ArrayLike | None = None,
    trunk_noise: float = 0.025,
    point_noise: float = 0.01,
    level: float = 0.9,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How many times the images one size needs for the errors that both sizes reached.

    A size's curve is the geometric mean of its results after the same images, interpolated on
    logarithmic axes. Nothing is extrapolated: sizes of very different capacity share few errors,
    and there the small one's curve is nearly flat, so the ratio is told roughly. The
    intervals draw noise of trunks and results around the measured curves. Deterministic for a
    seed.

    Args:
        images: Images seen by each result.
        error: Its error, in (0, 1].
        size: A label for each result.
        slow, fast: The two labels that are compared.
        targets: Errors; by default five, evenly apart in logarithm, inside what both reached.
        trunk: A label for each result; results of one label share noise. By default each size
            is one trunk.
        trunk_noise, point_noise: Standard deviations of log error that the results of a trunk
            share, and that they do not; `fit_frontier` measures both. The defaults are what is
            usual where they are not measured.
        level: Of the intervals.
        resamples, seed: Of the noise.

    Returns:
        A row a target: `error`, `images_slow`, `images_fast`, `ratio`, `low`, `high`. An infinite
        `high` says that with other luck the slow size might not have got there, or the fast one
        before its first result.

    Raises:
        ValueError: If a value is out of range, a size has no results, or the two share no error.

    Example:

    >>> from keras_vit_scale.scaling import sample_efficiency
    >>> images, error = [1e6, 1e7, 1e8, 1e5, 1e6], [0.8, 0.4, 0.2, 0.8, 0.2]
    >>> table = sample_efficiency(images, error, ["S"] * 3 + ["L"] * 2, slow="S", fast="L",
    ...                           targets=[0.4])
    >>> round(table["ratio"].item(), 1)  # 1e7 against 10^5.5
    31.6
    """
    images, error = check_points(images, error)
    size = np.asarray(size)
    trunk = size if trunk is None else np.asarray(trunk)
    for name, labels in (("size", size), ("trunk", trunk)):
        if labels.shape != images.shape:
            raise ValueError(
                f"There must be a {name} for each result. "
                f"Received: shapes {labels.shape} and {images.shape}"
            )
    rng = np.random.default_rng(seed)
    curves = []
    for name in (slow, fast):
        mine = size == name
        if not mine.any():
            raise ValueError(
                f"There must be results of both sizes. Received: none of {name!r}, but of "
                f"{', '.join(map(str, dict.fromkeys(size.tolist())))}"
            )
        noise = _noise(rng, trunk[mine], resamples, trunk_noise, point_noise)
        curves.append(_curve(images[mine], np.log(error[mine]) + noise))
    (x_slow, e_slow), (x_fast, e_fast) = curves
    best = max(e_slow[0].min(), e_fast[0].min())
    worst = min(e_slow[0].max(), e_fast[0].max())
    if targets is None:
        if not best < worst:
            raise ValueError(
                f"{slow} and {fast} must have reached some error in common. Received: "
                f"{e_slow[0].min():.4g} to {e_slow[0].max():.4g}, and "
                f"{e_fast[0].min():.4g} to {e_fast[0].max():.4g}"
            )
        targets = np.geomspace(worst, best, 7)[1:-1]
    rows = []
    for target in np.atleast_1d(targets):
        needed = [images_to_reach(x_slow, e_slow, target), images_to_reach(x_fast, e_fast, target)]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = needed[0] / needed[1]
        # Neither known: with that luck the target is no shared error, so it says nothing.
        drawn = ratio[1:][~np.isnan(ratio[1:])]
        low, high = (
            np.quantile(drawn, tails(level), method="nearest") if len(drawn) else (np.nan, np.nan)
        )
        rows.append(
            {
                "error": float(target),
                "images_slow": float(needed[0][0]),
                "images_fast": float(needed[1][0]),
                "ratio": float(ratio[0]),
                "low": float(low),
                "high": float(high),
            }
        )
    return pd.DataFrame(rows)


def _noise(rng, trunk, resamples, trunk_noise, point_noise):
    """Noise of log error (1 + K, n), the first without any."""
    names, index = np.unique(trunk, return_inverse=True)
    shared = trunk_noise * rng.standard_normal((resamples, len(names)))
    own = point_noise * rng.standard_normal((resamples, len(trunk)))
    return np.concatenate([np.zeros((1, len(trunk))), shared[:, index] + own])


def _curve(images, log_error):
    """Images, rising, and the geometric means of the errors after them (..., n)."""
    x, index = np.unique(images, return_inverse=True)
    members = (index[:, None] == np.arange(len(x))) / np.bincount(index)
    return x, np.exp(log_error @ members)
