"""Learning curves: the error of one model against images seen, and where it is going."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from keras_vit_scale.scaling.fit import as_law, binned, unit_free
from keras_vit_scale.scaling.forms import LAWS
from keras_vit_scale.scaling.frontier import check_points
from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.levenberg import levenberg_marquardt
from keras_vit_scale.scaling.noise import point_noise

#: Laws that a curve's prediction is averaged over. The sigmoidal one knows the plateau at
#: chance that precedes learning; where there is none, the others need fewer parameters.
AVERAGED = ("power+floor", "double-saturating", "sigmoidal")

#: Points count in proportion to images to this power: what comes next resembles what came
#: last, and no law is exact over a whole curve.
LATE = 0.3

#: What is usual for parameters that short curves hardly tell: by law and index of the fitted
#: number, the mean of its logarithm and the deviation. Exponents are near 1/2 within a
#: factor of 2, a ceiling is left symmetrically within a factor of 1.6.
USUAL = {
    "power+floor": {1: (np.log(0.5), 0.7)},
    "double-saturating": {1: (np.log(0.5), 0.7)},
    "sigmoidal": {2: (0.0, 0.5), 3: (np.log(0.5), 0.7)},
}

#: Longer curves are averaged in this many bins of log images.
MOST_POINTS = 400

#: Least noise of log error that is reckoned with.
LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class LearningCurve:
    """Several laws of one learning curve, averaged in log error by what its points say for each.

    Args:
        laws: The laws.
        weights: What each counts; they sum to 1.
        points: How many points they were fitted to.
        rms_log_error: Root mean square of log(predicted / measured) at them.
        images_range: Fewest and most images among them.
        warnings: What the curve could not tell, a sentence each.
    """

    laws: tuple[Law, ...]
    weights: tuple[float, ...]
    points: int
    rms_log_error: float
    images_range: tuple[float, float]
    warnings: tuple[str, ...] = ()

    def predict(self, images):
        """Error after so many images, a number or an array."""
        parts = [w * np.log(law.predict(images)) for w, law in self._weighed()]
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

    def to_dict(self) -> dict:
        """The curve as JSON can hold it."""
        return {
            "laws": [law.to_dict() for law in self.laws],
            "weights": list(self.weights),
            "points": self.points,
            "rms_log_error": self.rms_log_error,
            "images_range": list(self.images_range),
            "warnings": list(self.warnings),
        }

    def __str__(self):
        return "; ".join(f"{w:.0%} {law}" for w, law in self._weighed() if w >= 0.005)

    def _weighed(self):
        return zip(self.weights, self.laws, strict=True)


def fit_curve(images, error) -> LearningCurve:
    """Fits a learning curve, which may saturate at both ends, to be extrapolated.

    Power law with floor, double-saturating and sigmoidal law are fitted by robust least
    squares in log error, late points counting more, with mild priors for exponents; their
    predictions are averaged by their Bayesian information criterion. On simulated curves no
    single law is as close everywhere (`benchmarks/curve_extrapolation.py`).

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
        kinds = [LAWS[AVERAGED[0]]]
    vectors, misfits = [], []
    for kind in kinds:
        theta, misfit = _fit_with_usual(kind, x, y, weights, noise, tolerance)
        vectors.append(theta)
        misfits.append(misfit)
    counts = np.array([len(kind.parameters) for kind in kinds])
    # The noise of the closest law, rather than each law's own: with few points a law that runs
    # through them all would be certain.
    variance = max((2 * np.array(misfits) / np.maximum(len(x) - counts, 1)).min(), LEAST_NOISE**2)
    criterion = 2 * np.array(misfits) / variance + counts * np.log(len(x))
    evidence = np.exp(-0.5 * (criterion - criterion.min()))
    evidence /= evidence.sum()
    log_laws = [kind.log_error(theta, log_x)[0] for kind, theta in zip(kinds, vectors, strict=True)]
    residual = evidence @ np.array(log_laws) - np.log(error[order])
    limits = (float(images.min()), float(images.max()))
    laws = [
        as_law(kind, theta, scale, points=len(images), compute_range=limits)
        for kind, theta in zip(kinds, vectors, strict=True)
    ]
    return LearningCurve(
        laws=tuple(laws),
        weights=tuple(float(w) for w in evidence),
        points=len(images),
        rms_log_error=float(np.sqrt(np.mean(residual**2))),
        images_range=limits,
        warnings=tuple(told),
    )


def _fit_with_usual(kind, x, y, weights, noise, tolerance):
    """The best vector when what is usual for its parameters counts as more points."""
    usual, n = USUAL[kind.name], len(x)
    index = list(usual)
    means, deviations = np.array(list(usual.values())).T

    def model(theta, x):
        value, jacobian = kind.log_error(theta, x[:, :n])
        own = np.broadcast_to(
            np.eye(theta.shape[1])[index], (len(theta), len(index), theta.shape[1])
        )
        return (
            np.concatenate([value, theta[:, index]], axis=1),
            np.concatenate([jacobian, own], axis=1),
        )

    starts = kind.starts(x, y)
    vectors, costs = levenberg_marquardt(
        model,
        np.append(x, np.zeros(len(index))),
        np.append(y, means),
        np.append(weights, (noise / deviations) ** 2),
        starts,
        *kind.box(x, y),
        loss="soft-l1",
        scale=tolerance,
        tolerance=1e-7,
    )
    best = np.argmin(costs)
    return vectors[best], costs[best]


def _check_shows_a_curve(images, error) -> list[str]:
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
