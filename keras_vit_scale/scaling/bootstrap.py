"""The law of a study's frontier with its uncertainty: a bootstrap of whole trunks."""

from dataclasses import dataclass, field, replace

import numpy as np

from keras_vit_scale.scaling.fit import as_law, check_fit, fit_law, fit_vector, unit_free
from keras_vit_scale.scaling.forms import law_class
from keras_vit_scale.scaling.frontier import check_points, pareto_frontier
from keras_vit_scale.scaling.law import DoubleSaturatingLaw, Law
from keras_vit_scale.scaling.levenberg import levenberg_marquardt
from keras_vit_scale.scaling.noise import anatomy, variance_of_repeats
from keras_vit_scale.scaling.resamples import draw_errors, frontiers, refit

#: How far beyond the study the corrected law is fitted, as a factor of compute.
REACH = 10.0


@dataclass(frozen=True)
class FrontierFit:
    """A law of a study's frontier, and what it is worth.

    Args:
        law: The law, corrected for the luck that a frontier selects.
        uncorrected: The law of the Pareto frontier as measured.
        frontier: Indices of the results on that frontier, by rising compute.
        trunk_noise: Standard deviation of log error that the results of a trunk share.
        point_noise: The same of single results.
        behind: How far each result lies above the law without noise, in log error (N,).
        warnings: What the study could not tell, a sentence each.
        parameters: Vectors of the law's parameters, one a resample (K, P).
    """

    law: Law
    uncorrected: Law
    frontier: np.ndarray
    trunk_noise: float
    point_noise: float
    behind: np.ndarray = field(repr=False)
    warnings: tuple[str, ...]
    parameters: np.ndarray = field(repr=False)
    _resampled: tuple = field(repr=False)

    def predict(self, compute):
        """Error of the corrected law."""
        return self.law.predict(compute)

    def deviations(self, compute):
        """How far each resample's law lies off their median, in log error: (K, n)."""
        kind, vectors, scale = self._resampled
        log_x = np.log(np.atleast_1d(np.asarray(compute, dtype=np.float64)) / scale)
        laws = kind.log_error(vectors, log_x)[0]
        return laws - np.median(laws, axis=0)

    def interval(self, compute, level: float = 0.9):
        """Least and largest error that the study leaves possible, at one compute or an array.

        It is about the frontier itself, the error expected of the best size; one more run
        has the noise of its trunk besides.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        low, high = np.quantile(self.deviations(compute), tails(level), axis=0)
        error = self.law.predict(compute)
        shape = np.shape(error)
        return error * np.exp(low.reshape(shape)), error * np.exp(high.reshape(shape))

    def parameter_intervals(self, level: float = 0.9) -> dict[str, tuple[float, float]]:
        """The same for each parameter of the law.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        ends = np.quantile(self.parameters, tails(level), axis=0)
        return {
            name: (float(low), float(high))
            for name, low, high in zip(self.law.parameters, *ends, strict=True)
        }

    def compute_interval(self, error: float, level: float = 0.9) -> tuple[float, float]:
        """Least and largest compute at which the law may reach `error`; infinite if never.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        least, most = self.law.compute_range
        grid = np.geomspace(least * 1e-2, most * 1e6, 1200)
        curves = np.log(self.law.predict(grid)) + self.deviations(grid)
        reached = curves <= np.log(error)
        first = np.where(reached.any(1), grid[reached.argmax(1)], np.inf)
        # Without interpolation, since half of the draws may be infinite.
        low, high = np.quantile(first, tails(level), method="nearest")
        return float(low), float(high)


def tails(level: float) -> tuple[float, float]:
    """Quantiles between which a part `level` lies."""
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1. Received: level={level}")
    return (1 - level) / 2, (1 + level) / 2


def fit_frontier(
    compute,
    error,
    trunk=None,
    size=None,
    *,
    law: str | type[Law] = DoubleSaturatingLaw,
    resamples: int = 1000,
    seed: int = 0,
) -> FrontierFit:
    """Fits a law to a study's frontier, with intervals, corrected for selected luck.

    Results that were cooled down from one trunk share its noise, so they are no independent
    evidence; and a frontier selects among noisy results the lucky ones, so it lies below
    the truth. Therefore the study is taken apart into law, noise of trunks, noise of
    results and distance to the frontier (`noise.anatomy`). Then it is simulated
    `resamples` times around its law: noise drawn anew for whole trunks, the frontier selected
    anew, the law refitted. How far the refitted laws lie off the simulated truth in the
    median corrects the law; how they scatter gives the intervals. Deterministic for a seed.

    Args:
        compute: Positive, in any unit; the law is in that unit.
        error: In (0, 1].
        trunk: A label for each result; results of one label share a run up to their
            cooldown. By default each result is a run of its own.
        size: A label for each result; trunks of one size repeat each other with other
            seeds, and where their results have one compute, the noise is measured from them.
            By default no trunk repeats another.
        law: A name in `LAWS`.
        resamples: How many; 1,000 for the 5 % ends of a 90 % interval.
        seed: Of the resamples.

    Raises:
        ValueError: As `fit_law`, about the points of the frontier; if labels are missing.

    Example:

    >>> from keras_vit_scale.scaling import fit_frontier, paper_results
    >>> results = paper_results("fewshot")
    >>> fit = fit_frontier(results["tpuv3_core_days"], results["imagenet_10shot"], results["trunk"],
    ...                    resamples=200)
    >>> low, high = fit.interval(1000.0)
    >>> bool(low < fit.predict(1000.0) < high)
    True
    """
    kind = law_class(law)
    compute, error = check_points(compute, error)
    trunk = _labels("trunk", trunk, np.arange(len(compute)))
    size = _labels("size", size, trunk)
    if not resamples >= 2:
        raise ValueError(f"`resamples` must be at least 2. Received: resamples={resamples}")
    on = pareto_frontier(compute, error)
    uncorrected = fit_law(compute[on], error[on], law=kind)
    log_x, scale = unit_free(compute)
    log_e = np.log(error)
    box = kind.box(log_x, log_e)
    fitted, _ = fit_vector(kind, log_x[on], log_e[on], np.ones(len(on)), box=box)

    repeats = variance_of_repeats(compute, log_e, trunk, size)
    parts = anatomy(kind, fitted, log_x, log_e, trunk, repeats)
    centre = kind.log_error(parts.theta, log_x)[0]
    drawn = draw_errors(np.random.default_rng(seed), centre, parts, trunk, resamples)
    vectors = refit(
        kind, log_x, drawn, frontiers(compute, drawn), [parts.theta, fitted], box
    )

    # The refitted laws lie off the law that they were drawn around as ours lies off the truth.
    grid = np.linspace(log_x.min(), log_x.max() + np.log(REACH), 60)
    off = np.median(kind.log_error(vectors, grid)[0], axis=0) - kind.log_error(parts.theta, grid)[0]
    aim = kind.log_error(fitted, grid)[0] - off
    corrected, _ = levenberg_marquardt(
        kind.log_error, grid, aim, np.ones(len(grid)), np.stack([fitted, parts.theta]), *box
    )
    misses = ((kind.log_error(corrected, grid)[0] - aim) ** 2).sum(1)
    record = {
        "points": len(on),
        "compute_range": (float(compute.min()), float(compute.max())),
        "warnings": uncorrected.warnings,
    }
    best = as_law(kind, corrected[misses.argmin()], scale, **record)
    rms = np.sqrt(np.mean(np.log(best.predict(compute[on]) / error[on]) ** 2))
    in_fields = [as_law(kind, v, scale, compute_range=None) for v in vectors]
    return FrontierFit(
        law=replace(best, rms_log_error=float(rms)),
        uncorrected=uncorrected,
        frontier=on,
        trunk_noise=parts.trunk_noise,
        point_noise=parts.point_noise,
        behind=parts.behind,
        warnings=uncorrected.warnings + _few(trunk, size, parts, repeats),
        parameters=np.array([[getattr(v, p) for p in kind.parameters] for v in in_fields]),
        _resampled=(kind, vectors, scale),
    )


def _labels(name, labels, default):
    """Labels as indices from 0."""
    if labels is None:
        return default
    labels = np.asarray(labels)
    if labels.shape != default.shape:
        raise ValueError(
            f"There must be a {name} for each point. "
            f"Received: shapes {labels.shape} and {default.shape}"
        )
    return np.unique(labels.astype(str), return_inverse=True)[1]


def _few(trunk, size, parts, repeats):
    """What few trunks leave open."""
    touching = len(np.unique(trunk[parts.touching]))
    if repeats is not None or touching >= 5:
        return ()
    return (
        f"Only {touching} trunks reach the frontier and none is repeated with another seed, so the "
        "noise of a trunk is mostly assumed; a second seed of some sizes would measure it.",
    )
