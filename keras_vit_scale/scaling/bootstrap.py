"""The law of a study's frontier with its uncertainty: a bootstrap of whole trunks."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.display import html_table
from keras_vit_scale.scaling.fit import as_law, fit_law, fit_vector, unit_free
from keras_vit_scale.scaling.forms import DEFAULT_LAW, law_class
from keras_vit_scale.scaling.frontier import check_points, pareto_frontier
from keras_vit_scale.scaling.identify import UNDETERMINED
from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.noise import take_apart, variance_of_repeats
from keras_vit_scale.scaling.resamples import draw_errors, refit

#: In log error, how far above the Pareto frontier's law a result may touch the frontier.
FARTHEST = 0.25

#: Most results this near that a bootstrap is for.
MOST_RESULTS = 2000


@dataclass(frozen=True)
class FrontierFit:
    """A law of a study's frontier, and what it is worth.

    Args:
        law: The law through what touches the frontier, lucky or not.
        uncorrected: The law of the Pareto frontier as measured, which selects the lucky.
        frontier: Indices of the results on that frontier, by rising compute.
        touching: Whether each result was taken to touch the noiseless frontier (N,).
        trunk_noise: Standard deviation of log error that the results of a trunk share.
        point_noise: The same of single results.
        behind: How far each result lies above the law without noise, in log error (N,).
        warnings: What the study could not tell, a sentence each.
        parameters: Vectors of the law's parameters, one a resample (K, P).
    """

    law: Law
    uncorrected: Law
    frontier: np.ndarray
    touching: np.ndarray
    trunk_noise: float
    point_noise: float
    behind: np.ndarray
    warnings: tuple[str, ...]
    parameters: np.ndarray
    _resampled: tuple[type[Law], np.ndarray, float]

    def __repr__(self) -> str:
        lines = [self.law.described()]
        lines += [f"  {name}: {value} ({ends})" for name, value, ends in self._rows()]
        return "\n".join([*lines, *(f"  note: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        columns = ["", "value", "90% interval"]
        above = [self.law.described()]
        return html_table(columns, self._rows(), above=above, below=self.warnings)

    def _rows(self):
        """Name, value and 90 % interval of each parameter, as text."""
        for name, (low, high) in self.parameter_intervals().items():
            yield name, f"{getattr(self.law, name):.4g}", f"{low:.4g} to {high:.4g}"

    def predict(self, compute: ArrayLike) -> np.ndarray:
        """Error of the corrected law."""
        return self.law.predict(compute)

    def deviations(self, compute: ArrayLike) -> np.ndarray:
        """How far each resample's law lies off their median, in log error: (K, n)."""
        kind, vectors, scale = self._resampled
        log_x = np.log(np.atleast_1d(np.asarray(compute, dtype=np.float64)) / scale)
        laws = kind.log_error(vectors, log_x)[0]
        return laws - np.median(laws, axis=0)

    def interval(
        self, compute: ArrayLike, level: float = 0.9, *, run: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest error that the study leaves possible, at one compute or an array.

        Args:
            compute: One number or an array.
            level: Part of such intervals that hold the truth.
            run: Whether it is about the result of one more run of the best size, which has noise
                of its own, instead of the frontier itself.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        deviations = self.deviations(compute)
        if run:
            noise = np.hypot(self.trunk_noise, self.point_noise)
            # One draw for each resample, the same in every call.
            draws = np.random.default_rng(0).standard_normal((len(deviations), 1))
            deviations = deviations + noise * draws
        low, high = np.quantile(deviations, tails(level), axis=0)
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
        least, most = cast(tuple[float, float], self.law.compute_range)  # it was fitted
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
    compute: ArrayLike,
    error: ArrayLike,
    trunk: ArrayLike | None = None,
    size: ArrayLike | None = None,
    *,
    law: str | type[Law] = DEFAULT_LAW,
    resamples: int = 1000,
    seed: int = 0,
) -> FrontierFit:
    """Fits a law to a study's frontier, with intervals, corrected for selected luck.

    Results that were cooled down from one trunk share its noise, so they are no independent
    evidence; and a frontier selects among noisy results the lucky ones, so it lies below
    the truth. Therefore the study is taken apart into law, noise of trunks, noise of
    results and distance to the frontier (`noise.take_apart`), and the law goes through what
    touches the frontier in all trunks that come near it. Then the study is simulated
    `resamples` times around that law: noise drawn anew for whole trunks, what touches the frontier
    chosen anew, the law refitted. How the refitted laws scatter gives the intervals. On
    simulated studies 90 % intervals hold the truth as often as they should
    (`benchmarks/law_coverage.py`). Deterministic for a seed.

    There are no weights, as `fit_law` has: what a result counts follows from the noise that is
    found, so weights given besides would be a second opinion of the same. Leave results out that
    should not count.

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
    x, y = check_points(compute, error)
    run = _labels("trunk", trunk, np.arange(len(x)))
    label = _labels("size", size, run)
    if not resamples >= 2:
        raise ValueError(f"`resamples` must be at least 2. Received: resamples={resamples}")
    on = pareto_frontier(x, y)
    uncorrected = fit_law(x[on], y[on], law=kind)
    log_x, scale = unit_free(x)
    log_e = np.log(y)
    box = kind.box(log_x, log_e)
    fitted, _ = fit_vector(kind, log_x[on], log_e[on], np.ones(len(on)), box=box)

    # What lies far above the frontier never touches it: no time is spent on it.
    behind = (log_e - kind.log_error(fitted, log_x)[0]).clip(0)
    close = behind <= FARTHEST
    close[on] = True
    if close.sum() > MOST_RESULTS:
        raise ValueError(
            f"Intervals are for at most {MOST_RESULTS:,} results near the frontier. Received: "
            f"{close.sum():,} of {len(x):,}; thin them out, or fit the law alone (`fit_law`)"
        )
    repeats = variance_of_repeats(x, log_e, run, label)
    x, y, log_x, log_e, run = (v[close] for v in (x, y, log_x, log_e, run))
    run = np.unique(run, return_inverse=True)[1]
    parts = take_apart(kind, fitted, log_x, log_e, run, box, repeats)
    centre = kind.log_error(parts.theta, log_x)[0]
    drawn = draw_errors(np.random.default_rng(seed), centre, parts, run, resamples)
    vectors = refit(kind, parts, log_x, drawn, run, box)

    chosen = parts.touching
    touching = np.zeros(len(close), bool)
    touching[close] = chosen
    behind[close] = parts.behind
    residual = kind.log_error(parts.theta, log_x[chosen])[0] - log_e[chosen]
    in_fields = [as_law(kind, v, scale, compute_range=None) for v in vectors]
    parameters = np.array([[getattr(v, p) for p in kind.parameters] for v in in_fields])
    best = as_law(
        kind, parts.theta, scale,
        points=int(chosen.sum()),
        rms_log_error=float(np.sqrt(np.mean(residual**2))),
        compute_range=(float(x[chosen].min()), float(x[chosen].max())),
        warnings=_undetermined(kind, parameters, y[chosen].min(), x[chosen].min()),
    )  # fmt: skip
    return FrontierFit(
        law=best,
        uncorrected=uncorrected,
        frontier=on,
        touching=touching,
        trunk_noise=parts.trunk_noise,
        point_noise=parts.point_noise,
        behind=behind,
        warnings=best.warnings + _few_points(kind, parts) + _few(run, parts, repeats),
        parameters=parameters,
        _resampled=(kind, vectors, scale),
    )


def _labels(name: str, labels: ArrayLike | None, default: np.ndarray) -> np.ndarray:
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


def _undetermined(kind, parameters, lowest, least):
    """A sentence for floor and shift where a 90 % interval reaches down to none."""
    told = []
    for name, none in (("c", 0.02 * lowest), ("d", 0.02 * least)):
        if name in kind.parameters:
            low, high = np.quantile(parameters[:, kind.parameters.index(name)], tails(0.9))
            if low < none:
                told.append(UNDETERMINED[name].format(f"{high:.3g}"))
    return tuple(told)


def _few_points(kind, parts):
    """What it means to fit a law to hardly more results than it has parameters."""
    results, free = int(parts.touching.sum()), len(kind.parameters)
    if results > free + 1:
        return ()
    return (
        f"The law's {free} parameters rest on the {results} results that touch the frontier: that "
        "it comes near them says little; more sizes or durations would test it.",
    )


def _few(trunk, parts, repeats):
    """What few trunks leave open."""
    touching = len(np.unique(trunk[parts.touching]))
    if repeats is not None or touching >= 5:
        return ()
    return (
        f"The frontier is touched by {touching} trunk{'s' * (touching > 1)} only, and none is "
        "repeated with another seed, so the noise of a trunk is mostly assumed; a second seed of "
        "some sizes would measure it.",
    )
