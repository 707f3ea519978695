"""The law of error against parameters and images seen together."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.fit import check_weights
from keras_vit_scale.scaling.frontier import check_points
from keras_vit_scale.scaling.levenberg import levenberg_marquardt

#: Fewest results, of different size or duration, that five parameters are fitted to.
MIN_RESULTS = 6


@dataclass(frozen=True)
class JointLaw:
    """`E = A N^-alpha + B D^-beta + c`: N parameters, D images seen, c what neither mends.

    A small model stops improving at `A N^-alpha + c`, whatever the images; few images
    bound any model by `B D^-beta + c`.

    Args:
        A, alpha: What size is worth.
        B, beta: What images are worth.
        c: Error of an endless model after endless images.
        points: How many results it was fitted to, or `None`.
        rms_log_error: Root mean square of log(predicted / measured) at them.

    Source: the form of Hoffmann et al., "Training Compute-Optimal Large Language
    Models", arXiv 2203.15556, section 3.3, with error for loss.

    Example:

    >>> from keras_vit_scale.scaling import JointLaw
    >>> law = JointLaw(A=8.0, alpha=0.25, B=64.0, beta=0.5, c=0.1)
    >>> round(float(law.predict(parameters=4096, images=409_600)), 6)  # 8/8 + 64/640 + 0.1
    1.2
    >>> round(law.images_for(4096, 1.2))
    409600
    """

    A: float
    alpha: float
    B: float
    beta: float
    c: float
    points: int | None = None
    rms_log_error: float | None = None

    def predict(self, parameters: ArrayLike, images: ArrayLike) -> np.ndarray:
        """Error of models of so many parameters after so many images."""
        n, d = (np.asarray(v, dtype=np.float64) for v in (parameters, images))
        return self.A * n**-self.alpha + self.B * d**-self.beta + self.c

    def images_for(self, parameters: float, error: float) -> float:
        """Images that a model of so many parameters needs to reach `error`.

        Raises:
            ValueError: If that size never gets there.
        """
        bound = self.A * float(parameters) ** -self.alpha + self.c
        if not error > bound:
            raise ValueError(
                f"A model of {parameters:,.4g} parameters does not go below {bound:.4g}, whatever "
                f"the images. Received: error={error}"
            )
        return ((error - bound) / self.B) ** (-1 / self.beta)

    def best_split(self, product: float) -> tuple[float, float]:
        """Parameters and images of the least error among those whose product is given.

        Training FLOPs are near proportional to that product: about 6 a parameter and
        token.

        Example:

        >>> from keras_vit_scale.scaling import JointLaw
        >>> JointLaw(A=1.0, alpha=0.5, B=1.0, beta=0.5, c=0.0).best_split(1e6)
        (1000.0, 1000.0)
        """
        # From alpha A N^-alpha = beta B (product / N)^-beta.
        total = self.alpha + self.beta
        parameters = (self.alpha * self.A / (self.beta * self.B)) ** (1 / total) * product ** (
            self.beta / total
        )
        return parameters, product / parameters

    def to_dict(self) -> dict[str, Any]:
        """The law as JSON can hold it; `JointLaw(**fields)` reads its fields back."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"E = {self.c:.3g} + {self.A:.3g} N^-{self.alpha:.3g} + {self.B:.3g} D^-{self.beta:.3g}"
        )


def fit_joint_law(
    parameters: ArrayLike,
    images: ArrayLike,
    error: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    loss: str = "huber",
    loss_scale: float = 0.03,
) -> JointLaw:
    """Fits the joint law by robust least squares in log error, from a grid of starts.

    All results take part, not a frontier's alone: where a small model stops is what
    tells `alpha`.

    Args:
        parameters, images, error: The results; sizes and images positive, errors in (0, 1].
        weights: What each counts; by default all alike.
        loss, loss_scale: As for `fit_law`.

    Raises:
        ValueError: If a value is out of range, or the results are too few, or of one
            size, or of one number of images.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.scaling import JointLaw, fit_joint_law
    >>> sizes, images = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 5),
    ...                                                 np.geomspace(1e7, 1e10, 5)))
    >>> truth = JointLaw(A=20.0, alpha=0.3, B=30.0, beta=0.3, c=0.1)
    >>> law = fit_joint_law(sizes, images, truth.predict(sizes, images))
    >>> round(law.alpha, 3), round(law.beta, 3), round(law.c, 3)
    (0.3, 0.3, 0.1)
    """
    images, error_ = check_points(images, error)
    parameters, error = check_points(parameters, error_)
    weights = np.ones_like(error) if weights is None else check_weights(weights, error)
    counted = weights > 0
    for name, values in (("size", parameters[counted]), ("number of images", images[counted])):
        if len(np.unique(values)) < 2:
            raise ValueError(
                f"A joint law needs results of more than one {name}. "
                f"Received: {values[:1]} for all; fit a law of one quantity instead (`fit_law`)"
            )
    different = len(np.unique(np.stack([parameters, images])[:, counted], axis=1).T)
    if different < MIN_RESULTS:
        raise ValueError(
            f"A law with five parameters needs at least {MIN_RESULTS} results of different size or "
            f"images. Received: {different}"
        )
    log_n, log_d, log_e = np.log(parameters), np.log(images), np.log(error)
    centre_n, centre_d = log_n.mean(), log_d.mean()
    log_n, log_d = log_n - centre_n, log_d - centre_d

    def model(theta, point):
        return log_error(theta, log_n[point], log_d[point])

    lowest = error.min()
    lower = np.log([1e-9, 1e-3, 1e-9, 1e-3, lowest * 1e-6])
    upper = np.log([1e3, 5.0, 1e3, 5.0, error.max()])
    half = np.log(np.median(error) / 2)
    starts = np.array(
        [
            [half, np.log(alpha), half, np.log(beta), np.log(lowest * c)]
            for alpha in (0.1, 0.3, 0.8)
            for beta in (0.1, 0.3, 0.8)
            for c in (1e-3, 0.5, 0.9)
        ]
    )
    theta, cost = levenberg_marquardt(
        model, np.arange(len(error)), log_e, weights / weights.mean(), starts, lower, upper,
        loss=loss, scale=loss_scale,
    )  # fmt: skip
    best = theta[np.argmin(cost)]
    residual = log_error(best, log_n, log_d)[0] - log_e
    a, alpha, b, beta, c = (float(v) for v in np.exp(best))
    law = JointLaw(
        a, alpha, b, beta, c,
        points=int(counted.sum()),
        rms_log_error=float(np.sqrt(np.average(residual**2, weights=weights))),
    )  # fmt: skip
    return replace(law, A=a * np.exp(alpha * centre_n), B=b * np.exp(beta * centre_d))


def log_error(theta, log_n, log_d):
    """Logarithms of the error and their derivatives by those of A, alpha, B, beta, c."""
    log_a, alpha, log_b, beta, log_c = (theta[..., i : i + 1] for i in range(5))
    by_size, by_images = -np.exp(alpha) * log_n, -np.exp(beta) * log_d
    terms = np.stack(np.broadcast_arrays(log_a + by_size, log_b + by_images, log_c + 0 * by_size))
    value = np.logaddexp.reduce(terms)
    size, images, floor = np.exp(terms - value)
    return value, np.stack([size, size * by_size, images, images * by_images, floor], axis=-1)
