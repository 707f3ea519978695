"""The error surface of a study: error against size, images seen and images in the data set."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from keras_vit_scale.scaling.bootstrap import tails
from keras_vit_scale.scaling.levenberg import levenberg_marquardt, with_priors

#: Fewest results, of different size or duration, that a surface is fitted to.
MIN_RESULTS = 6

#: What "size" is: the part of its logarithm that is that of parameters; the rest is FLOPs an image.
#: FLOPs tell more about ImageNet, parameters about CIFAR-100, whose pictures are small.
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)

#: Fitted numbers, and what is usual for those that few results hardly tell: mean of the logarithm
#: and deviation. Exponents are near 0.4 within a factor of 2.
NAMES = ("A", "alpha", "B", "beta", "kappa", "c", "k", "p", "q")
USUAL = {
    "alpha": (np.log(0.3), 0.7),
    "beta": (np.log(0.5), 0.7),
    "kappa": (np.log(0.1), 1.0),
    "k": (np.log(0.02), 2.0),
    "p": (np.log(0.7), 0.5),
    "q": (np.log(0.6), 0.5),
}

#: Standard deviations of log error before any is seen: what is a size's own over all of its
#: results, what is its own at about one duration, and a result's own.
USUAL_OWN, USUAL_LOCAL, USUAL_NOISE = 0.04, 0.02, 0.01

#: How well these guesses are known: the deviation of their logarithms.
USUAL_SPREAD = 0.7

#: Logarithms: fewer repeats than this cost nothing, and nothing costs more than this.
LEAST_REPEATS, MOST_COST = -20.0, 3.0

#: Results of one size share what is local if their images differ by less than this factor, about.
LOCAL = np.log(4.0)


@dataclass(frozen=True)
class ErrorSurface:
    """Error of any size after any images, of a data set of any number of images.

    A law, times what sizes have of their own:

        E = (A S^-alpha + B D^-beta S^-kappa + c) (1 + k S^p R^q) own(size, D)

    S is the size, a geometric mean of FLOPs an image and of parameters; D images seen; R how often
    images of a data set of U come again, D / U - 1, or 0. `A S^-alpha` is where a size stops
    improving; larger sizes learn more from an image (kappa) and lose more by repeats (p). The
    logarithm of `own` is a Gaussian process: a size has a level of its own, and deviations that
    go with the duration; both are known at the results, and the less the further from them.

    Args:
        theta: Logarithms of `NAMES`, in units of the results' geometric means.
        part: Part of S that is parameters.
        own, local, noise: Standard deviations of the process, and of single results.
        repeats: Whether the results tell what repeated images cost: their data sets differ.
        rms_log_error: Root mean square of log(law / measured) at them, `own` left out.
    """

    theta: np.ndarray
    part: float
    own: float
    local: float
    noise: float
    repeats: bool
    rms_log_error: float
    _told: "_Told" = field(repr=False)

    def __repr__(self) -> str:
        repeats = "" if self.repeats else "; what repeats cost is unknown"
        return (
            f"ErrorSurface(law {self.rms_log_error:.1%} off (rms), sizes {self.own:.1%} of their "
            f"own, noise of a result {self.noise:.1%}{repeats})"
        )

    def predict(
        self,
        size: ArrayLike,
        flops: ArrayLike,
        parameters: ArrayLike,
        images: ArrayLike,
        dataset: ArrayLike = np.inf,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm of the error, and its standard deviation, of runs that were not measured.

        Args:
            size: Names of the sizes (n,).
            flops: FLOPs of one image through each, forward (n,), or one for all; so all below.
            parameters: Of each.
            images: Images seen.
            dataset: Images in the data set, infinite for images that never come twice.

        Returns:
            Two arrays (n,); the deviation is that of the truth without a run's own noise.
        """
        t = self._told
        size = np.asarray(size)
        x = t.units.arrays(flops, parameters, images, dataset, self.part)
        x = np.stack([np.broadcast_to(v, size.shape) for v in x])
        d = x[1]
        value, jacobian = law(self.theta, x)
        shared = covariance(size, d, t.size, t.d, self.own, self.local)
        through = solve_triangular(t.root, shared.T, lower=True)
        mean = value + shared @ t.weights
        # What stays open of `own`, and of the law where `own` does not make up for it.
        open_ = self.own**2 + self.local**2 - (through**2).sum(0)
        left = jacobian - through.T @ t.jacobian
        variance = open_ + np.einsum("np,pq,nq->n", left, t.spread, left)
        return mean, np.sqrt(variance.clip(0))

    def epochs_for(self, flops: float, parameters: float, cost: float) -> float:
        """Epochs after which repeating images has raised the error of a size by a part `cost`."""
        s = self._told.units.arrays(flops, parameters, 1.0, 1.0, self.part)[0]
        k = self.theta[6]
        p, q = np.exp(self.theta[7:])
        return float(1 + np.exp((np.log(cost) - k - p * s) / q))


@dataclass(frozen=True)
class _Units:
    """Geometric means of the results, in which the law is fitted."""

    flops: float
    parameters: float
    images: float

    def arrays(self, flops, parameters, images, dataset, part):
        """Logarithms of size, images and repeats (3, n)."""
        f, n, d = (
            np.log(np.asarray(v, dtype=np.float64) / unit)
            for v, unit in (
                (flops, self.flops), (parameters, self.parameters), (images, self.images),
            )
        )  # fmt: skip
        with np.errstate(divide="ignore"):
            repeats = np.log(np.maximum(np.asarray(images) / np.asarray(dataset) - 1, 0))
        return np.stack(np.broadcast_arrays((1 - part) * f + part * n, d, repeats))


@dataclass(frozen=True)
class _Told:
    """What predictions need of the results (N)."""

    units: _Units
    size: np.ndarray
    d: np.ndarray
    root: np.ndarray  # Cholesky root of the results' covariance (N, N)
    weights: np.ndarray  # its inverse times the residuals (N,)
    jacobian: np.ndarray  # its root's inverse times the law's derivatives (N, P)
    spread: np.ndarray  # covariance of theta (P, P)


def law(theta, x):
    """Logarithm of the law and its derivatives by theta, at x (3, N) of theta (..., P)."""
    s, d, r = x
    log_a, log_alpha, log_b, log_beta, log_kappa, log_c, log_k, log_p, log_q = np.moveaxis(
        theta[..., None], -2, 0
    )
    by_size, by_images = -np.exp(log_alpha) * s, -np.exp(log_beta) * d
    helped = -np.exp(log_kappa) * s
    terms = np.broadcast_arrays(log_a + by_size, log_b + by_images + helped, log_c + 0 * s)
    value = np.logaddexp.reduce(terms)
    size, images, floor = np.exp(np.array(terms) - value)
    # Where nothing comes again, r is minus infinity.
    p, q = np.exp(log_p) * s, np.exp(log_q) * np.maximum(r, LEAST_REPEATS)
    cost = np.exp(np.minimum(log_k + p + q, MOST_COST)) * (r > LEAST_REPEATS)
    repeated = cost / (1 + cost)
    parts = [
        size, size * by_size, images, images * by_images, images * helped, floor,
        repeated, repeated * p, repeated * q,
    ]  # fmt: skip
    return value + np.log1p(cost), np.stack(np.broadcast_arrays(*parts), axis=-1)


def covariance(size, d, size_, d_, own, local):
    """Of what sizes have of their own, between two lists of runs (n, m)."""
    near = np.exp(-0.5 * ((d[:, None] - d_[None]) / LOCAL) ** 2)
    return (size[:, None] == size_[None]) * (own**2 + local**2 * near)


# Thousands of small matrices: BLAS' threads would wait for each other longer than they work.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_surface(
    size: ArrayLike,
    flops: ArrayLike,
    parameters: ArrayLike,
    images: ArrayLike,
    error: ArrayLike,
    dataset: ArrayLike | None = None,
) -> ErrorSurface:
    """Fits the surface to all results of a study.

    The law by generalised least squares with mild priors, in turns with the standard deviations of
    what sizes have of their own, by the likelihood of what the law leaves.

    Args:
        size: A name for each result (N,).
        flops, parameters: FLOPs of one image through its model, forward, and its parameters.
        images, error: Images seen, and error.
        dataset: Images in the data set, or `None` where nobody knows.

    Raises:
        ValueError: If there are fewer than two sizes or numbers of images, or too few results.
    """
    size = np.asarray(size)
    flops, parameters, images, error = (
        np.asarray(v, dtype=np.float64) for v in (flops, parameters, images, error)
    )
    for name, values in (("size", size), ("number of images", images)):
        if len(set(values.tolist())) < 2:
            raise ValueError(
                f"Advice needs results of more than one {name}. Received: {values[0]} for all"
            )
    different = len(set(zip(size.tolist(), images.tolist(), strict=True)))
    if different < MIN_RESULTS:
        raise ValueError(
            f"Advice needs at least {MIN_RESULTS} results of different size or images. "
            f"Received: {different}"
        )
    repeats = dataset is not None and len(np.unique(dataset)) > 1
    dataset = np.inf if dataset is None else np.asarray(dataset, dtype=np.float64)
    means = (float(np.exp(np.log(v).mean())) for v in (flops, parameters, images))
    units, y = _Units(*means), np.log(error)
    many = len(set(size.tolist())) > 4
    tried = []
    for part in PARTS if many else (0.0,):
        x = units.arrays(flops, parameters, images, dataset, part)
        theta, cost = _fit_law(x, y, np.eye(len(y)), repeats, STARTS, "soft-l1")
        tried.append((cost, part, theta, x))
    _, part, theta, x = min(tried, key=lambda t: t[0])
    deviations = np.array([USUAL_OWN, USUAL_LOCAL, USUAL_NOISE])
    for _ in range(3):
        residual = y - law(theta, x)[0]
        deviations = _likeliest(size, x[1], residual, deviations)
        root = _root(size, x[1], deviations)
        theta, _ = _fit_law(x, y, root, repeats, theta[None], "squares")
    value, jacobian = law(theta, x)
    through = solve_triangular(root, jacobian, lower=True)
    prior = np.zeros(len(NAMES))
    for name, (_, deviation) in USUAL.items():
        prior[NAMES.index(name)] = deviation**-2.0
    if not repeats:
        prior[6:] = 1e12
        through[:, 6:] = 0
    information = through.T @ through + np.diag(prior + 1e-4)
    own, local, noise = (float(v) for v in deviations)
    return ErrorSurface(
        theta, part, own, local, noise, repeats,
        rms_log_error=float(np.sqrt(np.mean((y - value) ** 2))),
        _told=_Told(
            units, size, x[1], root, cho_solve((root, True), y - value), through,
            np.linalg.inv(information),
        ),
    )  # fmt: skip


#: What fits start from: exponents, and parts of the floor.
STARTS = [(a, b, c) for a in (0.15, 0.4) for b in (0.25, 0.6) for c in (0.1, 0.7)]


def _fit_law(x, y, root, repeats, starts, loss):
    """The best theta and its cost, residuals made independent by the covariance's root."""
    index = [NAMES.index(name) for name in USUAL]
    means, deviations = np.array(list(USUAL.values())).T
    lowest = np.exp(y.min())
    lower = np.log([1e-6, 1e-2, 1e-6, 1e-2, 1e-3, lowest * 1e-4, 1e-9, 1e-2, 1e-2])
    upper = np.log([1e2, 5.0, 1e2, 5.0, 2.0, np.exp(y.max()), 1e1, 5.0, 5.0])
    if not repeats:
        lower[6:] = upper[6:] = [-700.0, 0.0, 0.0]
    if isinstance(starts, list):
        half = np.median(y) - np.log(2)
        usual = {name: mean for name, (mean, _) in USUAL.items()}
        starts = np.array(
            [
                [half, np.log(a), half, np.log(b), usual["kappa"], y.min() + np.log(c)]
                + [usual[n] for n in "kpq"]
                for a, b, c in starts
            ]
        )

    def model(theta, _):
        value, jacobian = law(theta, x)
        if loss == "squares":
            value = solve_triangular(root, value.T, lower=True).T
            jacobian = np.stack([solve_triangular(root, j, lower=True) for j in jacobian])
        return with_priors(theta, value, jacobian, index)

    # Before the covariance is known, residuals are in units of a usual deviation.
    unit, scale = (1.0, 1.0) if loss == "squares" else (USUAL_OWN, USUAL_OWN)
    target = solve_triangular(root, y, lower=True) if loss == "squares" else y
    theta, cost = levenberg_marquardt(
        model, np.zeros(len(y) + len(index)), np.append(target, means),
        np.append(np.ones(len(y)), (unit / deviations) ** 2), starts, lower, upper,
        loss=loss, scale=scale, tolerance=1e-6,
    )  # fmt: skip
    return theta[cost.argmin()], cost.min()


def _root(size, d, deviations):
    own, local, noise = deviations
    return cholesky(
        covariance(size, d, size, d, own, local) + noise**2 * np.eye(len(d)), lower=True
    )


def _likeliest(size, d, residual, start):
    """Standard deviations of what is a size's own, of what is local, and of noise."""
    usual = np.log([USUAL_OWN, USUAL_LOCAL, USUAL_NOISE])

    def cost(logs):
        root = _root(size, d, np.exp(logs))
        white = solve_triangular(root, residual, lower=True)
        guess = ((logs - usual) / USUAL_SPREAD) ** 2
        return 0.5 * (white @ white + guess.sum()) + np.log(np.diag(root)).sum()

    found = minimize(cost, np.log(start), method="Nelder-Mead", options={"maxiter": 120})
    return np.exp(found.x)


def interval(
    mean: np.ndarray, deviation: np.ndarray, level: float = 0.9
) -> tuple[np.ndarray, np.ndarray]:
    """Errors between which a part `level` lies."""
    low, high = tails(level)
    return np.exp(mean + deviation * ndtri(low)), np.exp(mean + deviation * ndtri(high))
