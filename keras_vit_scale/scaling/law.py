"""The double-saturating power law of error against compute."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from keras_vit_scale.scaling.frontier import check_points

#: Fewest points, of different compute, that four parameters are fitted to.
MIN_POINTS = 5

#: Least ratio of the largest to the smallest compute that a law is fitted to.
MIN_SPAN = 3.0


def double_saturating(compute, a, b, c, d):
    """`a (C + d)^-b + c`: c is the error that infinite compute leaves, d bends the start."""
    return a * (np.asarray(compute, dtype=np.float64) + d) ** -b + c


@dataclass(frozen=True)
class DoubleSaturatingLaw:
    """`E = a (C + d)^-b + c`, error against compute.

    Args:
        a, b, c, d: Its parameters: c is the error that infinite compute would
            leave, d shifts the compute axis because a model with no training
            already does better than a power law says.
        points: How many points it was fitted to, or `None`.
        rms_log_error: Root mean square of log(predicted / measured) at them.
        compute_range: Least and largest compute among them: beyond it a
            prediction is an extrapolation.

    Source: Zhai et al., arXiv 2106.04560, section 2.2.

    Example:

    >>> from keras_vit_scale.scaling import DoubleSaturatingLaw
    >>> published = DoubleSaturatingLaw(a=0.63, b=0.32, c=0.12, d=0.52)  # 10-shot, core-days
    >>> round(float(published.predict(1000.0)), 3)
    0.189
    >>> round(published.compute_for(published.predict(1000.0)))
    1000
    """

    a: float
    b: float
    c: float
    d: float
    points: int | None = None
    rms_log_error: float | None = None
    compute_range: tuple[float, float] | None = None

    def predict(self, compute):
        """Error at one compute or an array of them."""
        return double_saturating(compute, self.a, self.b, self.c, self.d)

    def compute_for(self, error: float) -> float:
        """Compute at which the law reaches `error`; 0 if it needs none.

        Raises:
            ValueError: If the law never gets there.
        """
        if not error > self.c:
            raise ValueError(
                f"The law does not go below {self.c:.4g}, whatever the compute. "
                f"Received: error={error}"
            )
        return max(0.0, ((error - self.c) / self.a) ** (-1 / self.b) - self.d)

    def in_unit(self, factor: float) -> "DoubleSaturatingLaw":
        """The same law of compute in another unit, of which one of this law's is `factor`."""
        return replace(
            self,
            a=self.a * factor**self.b,
            d=self.d * factor,
            compute_range=self.compute_range
            and tuple(limit * factor for limit in self.compute_range),
        )

    def extrapolates(self, compute: float) -> bool:
        """Whether `compute` lies outside what the law was fitted to."""
        if self.compute_range is None:
            return False
        least, most = self.compute_range
        return not least <= compute <= most

    def draw(self, compute, error, sizes=None, **options):
        """Draws the law with points by size on log-log axes, and returns the axes.

        Arguments are those of `draw_frontier`.
        """
        from keras_vit_scale.scaling.figure import draw_frontier

        return draw_frontier(compute, error, sizes, self, **options)

    def __str__(self):
        return f"E = {self.c:.3g} + {self.a:.3g} (C + {self.d:.3g})^-{self.b:.3g}"


def fit_law(compute, error) -> DoubleSaturatingLaw:
    """Fits the double-saturating law by least squares in log error.

    Give it the points of a frontier (`pareto_frontier`): the law is about the best
    error for each compute. It starts from 80 combinations of exponent, floor and
    shift and keeps the best, so it is deterministic.

    Args:
        compute: Positive, in any unit; the law is in that unit.
        error: In (0, 1].

    Raises:
        ValueError: If the points are too few or out of range, or do not show a
            law: one error, too little span of compute, or errors that do not fall.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.scaling import fit_law
    >>> compute = np.geomspace(1e-1, 1e4, 12)
    >>> law = fit_law(compute, 0.26 * (compute + 0.01) ** -0.35 + 0.09)
    >>> round(law.b, 3), round(law.c, 3)
    (0.35, 0.09)
    """
    compute, error = check_points(compute, error)
    _check_shows_a_law(compute, error)
    # Unit-free: compute around 1, all four parameters as logarithms.
    scale = np.exp(np.log(compute).mean())
    x, log_error = compute / scale, np.log(error)

    def residuals(parameters):
        return np.log(double_saturating(x, *np.exp(parameters))) - log_error

    def jacobian(parameters):
        a, b, c, d = np.exp(parameters)
        power = a * (x + d) ** -b
        columns = [power, -power * b * np.log(x + d), np.full_like(x, c), -power * b * d / (x + d)]
        return np.stack(columns, axis=1) / (power + c)[:, None]

    # Bounds wide enough to mean none: no floor, no shift.
    lower = np.log([1e-12, 1e-2, error.min() * 1e-6, x.min() * 1e-6])
    upper = np.log([1e12, 20.0, error.max(), x.max() * 1e3])
    best = None
    for b in (0.1, 0.3, 0.6, 1.0, 2.0):
        for c in error.min() * np.array([1e-3, 0.3, 0.7, 0.95]):
            for d in (x.min() * 1e-3, x.min(), np.sqrt(x.min() * x.max()), x.max()):
                # The best amplitude for this start, by the median of what it would be.
                a = max(1e-9, np.median((error - c).clip(error * 1e-3) * (x + d) ** b))
                start = np.clip(np.log([a, b, c, d]), lower + 1e-9, upper - 1e-9)
                fit = least_squares(residuals, start, jacobian, bounds=(lower, upper))
                if best is None or fit.cost < best.cost:
                    best = fit
    a, b, c, d = np.exp(best.x)
    law = DoubleSaturatingLaw(
        *(float(parameter) for parameter in (a, b, c, d)),
        points=len(x),
        rms_log_error=float(np.sqrt(np.mean(best.fun**2))),
        compute_range=(float(x.min()), float(x.max())),
    )
    return law.in_unit(float(scale))


def _check_shows_a_law(compute, error):
    distinct = len(np.unique(compute))
    if distinct < MIN_POINTS:
        raise ValueError(
            f"A law with four parameters needs at least {MIN_POINTS} points of different compute. "
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
