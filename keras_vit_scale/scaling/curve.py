"""Learning curves: the error of one model against images seen, and where it is going."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from keras_vit_scale.scaling.drift import fit_robustly, fit_with_drift
from keras_vit_scale.scaling.fit import as_law, binned, unit_free
from keras_vit_scale.scaling.forms import LAWS
from keras_vit_scale.scaling.frontier import check_points
from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.noise import point_noise

#: Laws that a curve's prediction is averaged over, and what each counts before any point is
#: seen. The sigmoidal one knows the plateau at chance that precedes learning; where there is
#: none, the others need fewer parameters.
AVERAGED = {"power+floor": 0.4, "double-saturating": 0.3, "sigmoidal": 0.3}

#: Points count in proportion to images to this power: what comes next resembles what came last.
LATE = 0.1

#: Longer curves are averaged in this many bins of log images.
MOST_POINTS = 200

#: Least noise of log error that is reckoned with.
LEAST_NOISE = 1e-3

#: What counts less than this, of 1, is left out of the average.
LEAST_WEIGHT = 1e-4


@dataclass(frozen=True)
class LearningCurve:
    """Several laws of one learning curve, averaged in log error by what its points say for each.

    Args:
        laws: The laws.
        weights: What each counts; they sum to 1.
        drifts: How far the curve lies off each at its end, in log error: it is carried on, and
            fades by e for each e-fold of images.
        points: How many points they were fitted to.
        rms_log_error: Root mean square of log(predicted / measured) at them.
        images_range: Fewest and most images among them.
        warnings: What the curve could not tell, a sentence each.
    """

    laws: tuple[Law, ...]
    weights: tuple[float, ...]
    drifts: tuple[float, ...]
    points: int
    rms_log_error: float
    images_range: tuple[float, float]
    warnings: tuple[str, ...] = ()

    def predict(self, images: ArrayLike) -> np.ndarray:
        """Error after so many images, a number or an array."""
        images = np.asarray(images, dtype=np.float64)
        with np.errstate(divide="ignore"):
            fades = np.exp(-np.abs(np.log(images / self.images_range[1])))
        parts = [
            weight * (np.log(law.predict(images)) + drift * fades)
            for weight, law, drift in zip(self.weights, self.laws, self.drifts, strict=True)
        ]
        return np.exp(np.sum(parts, axis=0))

    def images_for(self, error: float) -> float:
        """Images after which the error is reached, 0 if none are needed.

        Raises:
            ValueError: If it is not reached within a million times the longest run.
        """
        first, last = self.images_range[0] * 1e-6, self.images_range[1] * 1e6

        def above(log_images):
            return np.log(self.predict(np.exp(log_images))) - np.log(error)

        if not (error > 0 and above(np.log(last)) < 0):
            raise ValueError(
                f"The curve does not go below {float(self.predict(last)):.4g} within a million "
                f"times its images. Received: error={error}"
            )
        return 0.0 if above(np.log(first)) <= 0 else float(
            np.exp(brentq(above, np.log(first), np.log(last), xtol=1e-12))
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The curve as JSON can hold it."""
        return {
            "laws": [law.to_dict() for law in self.laws],
            "weights": list(self.weights),
            "drifts": list(self.drifts),
            "points": self.points,
            "rms_log_error": self.rms_log_error,
            "images_range": list(self.images_range),
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        first, last = self.images_range
        return (
            f"LearningCurve({self}; points={self.points}, rms_log_error={self.rms_log_error:.2g}, "
            f"images_range=({first:.4g}, {last:.4g}))"
        )

    def __str__(self) -> str:
        told = []
        for name in AVERAGED:
            alike = [p for p in zip(self.weights, self.laws, strict=True) if p[1].name == name]
            total = sum(weight for weight, _ in alike)
            if total >= 0.005:
                told.append(f"{total:.0%} {max(alike, key=lambda pair: pair[0])[1]}")
        return "; ".join(told)


def fit_curve(images: ArrayLike, error: ArrayLike) -> LearningCurve:
    """Fits a learning curve, which may saturate at both ends, to be extrapolated.

    Power law with floor, double-saturating and sigmoidal law are fitted with mild priors, late
    points counting more and outliers less, and each with several amounts of drift, since no law
    is exact over a whole curve. What the points say for each is its weight in the average
    (`drift`). On simulated curves no single law is as close everywhere
    (`benchmarks/curve_extrapolation.py`).

    Args:
        images: Images seen, or any measure of training, positive.
        error: Positive; losses will do.

    Raises:
        ValueError: If a value is out of range, if there are fewer than three points of
            different images, or they span less than a factor of 1.5, or the error does not
            fall.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.scaling import SigmoidalLaw, fit_curve
    >>> truth = SigmoidalLaw(c=0.2, e0=0.95, alpha=0.8, beta=30.0, b=0.7)
    >>> images = np.geomspace(1e1, 1e4, 15)
    >>> curve = fit_curve(images, truth.predict(images))
    >>> bool(abs(curve.predict(2e4) / truth.predict(2e4) - 1) < 0.002)
    True
    """
    images, error = check_points(images, error, most=np.inf)
    told = _check_shows_a_curve(images, error)
    order = np.argsort(images, kind="stable")
    log_x, scale = unit_free(images[order])
    late = np.exp(LATE * (log_x - log_x.max()))
    x, y, weights = binned(log_x, np.log(error[order]), late, MOST_POINTS)
    noise = max(point_noise(x, y, np.zeros(len(x), int)), LEAST_NOISE)
    # Three deviations off, a point is taken for an outlier.
    tolerance = max(3 * noise, 0.01)
    kinds = [LAWS[name] for name in AVERAGED if len(LAWS[name].parameters) < len(x)]
    if not kinds:
        kinds = [LAWS["power+floor"]]
    starts, costs = zip(
        *(fit_robustly(kind, x, y, weights, noise, tolerance) for kind in kinds), strict=True
    )
    counts = np.array([len(kind.parameters) for kind in kinds])
    closest = np.argmin(np.array(costs) + counts * noise**2 * np.log(len(x)) / 2)
    off = kinds[closest].log_error(starts[closest], x)[0] - y
    weights = weights / np.sqrt(1 + (off / tolerance) ** 2)
    told_for = [
        fit_with_drift(kind, x, y, weights, start, noise)
        for kind, start in zip(kinds, starts, strict=True)
    ]
    prior = np.array([AVERAGED[kind.name] for kind in kinds])
    log_weights = np.array([e.log_evidence for e in told_for]) + np.log(prior)[:, None]
    shares = np.exp(log_weights - log_weights.max())
    shares = np.where(shares < LEAST_WEIGHT * shares.sum(), 0, shares)
    shares /= shares.sum()
    limits = (float(images.min()), float(images.max()))
    counted = [
        (float(share), float(drift), as_law(
            e.kind, vector, scale, points=len(images), compute_range=limits
        ))
        for e, part in zip(told_for, shares, strict=True)
        for share, drift, vector in zip(part, e.drift, e.vectors, strict=True)
        if share > 0
    ]  # fmt: skip
    counts_for, drifts, laws = zip(*counted, strict=True)
    curve = LearningCurve(laws, counts_for, drifts, len(images), 0.0, limits, tuple(told))
    residual = np.log(curve.predict(images) / error)
    return replace(curve, rms_log_error=float(np.sqrt(np.mean(residual**2))))


def _check_shows_a_curve(images: np.ndarray, error: np.ndarray) -> list[str]:
    different = len(np.unique(images))
    if different < 3:
        raise ValueError(
            f"A learning curve needs at least 3 points of different images. Received: {different}"
        )
    span = images.max() / images.min()
    if span < 1.5:
        raise ValueError(
            "The images must span at least a factor of 1.5 to show a curve. "
            f"Received: a factor of {span:.3g}"
        )
    if error.max() / error.min() < 1.01:
        raise ValueError(
            "The errors must differ by at least 1 % to show a curve. "
            f"Received: errors from {error.min():.4g} to {error.max():.4g}; train for longer"
        )
    order = np.argsort(images, kind="stable")
    x, y = np.log(images[order]), np.log(error[order])
    if np.corrcoef(x, y)[0, 1] >= 0:
        raise ValueError(
            "The error must fall as images are seen. Received: errors that rise with them; "
            "check which column is which, and that the column holds errors, not accuracies"
        )
    told = []
    if different < 6:
        told.append(
            f"{different} points hardly tell one form from another: the prediction rests on what "
            "is usual for exponents."
        )
    best = int(np.argmin(y))
    if y[-1] > y[best] + 0.05:
        told.append(
            f"The error rises at the end, by {np.expm1(y[-1] - y[best]):.0%} since "
            f"{np.exp(x[best]):.4g} images: no law here rises, so the prediction goes on as if it "
            "levelled off."
        )
    return told
