"""Levenberg-Marquardt for thousands of small least-squares problems at once."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

#: Most numbers of a Jacobian that are held at a time; more problems are solved in turns.
CHUNK = 2_000_000

#: A function of each number of an array.
_Elementwise: TypeAlias = Callable[[np.ndarray], np.ndarray]

#: What a residual r costs, in units of the loss's scale: value and derivative by r^2.
LOSSES: dict[str, tuple[_Elementwise, _Elementwise]] = {
    "squares": (lambda s: s, np.ones_like),
    "soft-l1": (lambda s: 2 * (np.sqrt(1 + s) - 1), lambda s: 1 / np.sqrt(1 + s)),
    "huber": (
        lambda s: np.where(s <= 1, s, 2 * np.sqrt(np.maximum(s, 1)) - 1),
        lambda s: 1 / np.sqrt(np.maximum(s, 1)),
    ),
}


def levenberg_marquardt(
    model: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    loss: str = "squares",
    scale: float = 1.0,
    iterations: int = 200,
    tolerance: float = 1e-10,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises `sum(w scale^2 rho((f(x) - y)^2 / scale^2)) / 2` for K problems together.

    Args:
        model: `model(parameters (K, P), x (K, N))` gives values (K, N) and their
            derivatives (K, N, P).
        x, target, weights: (K, N), or (N,) where all problems share them. A weight of 0
            takes a point out, so problems of different sizes fit one array.
        start: (K, P).
        lower, upper: (K, P) or (P,): the box that parameters stay in. Equal ends hold a
            parameter fixed.
        loss: "squares", "soft-l1" or "huber": the latter two grow linearly beyond
            `scale`, so that an outlier counts less.
        scale: A residual of this size starts to be an outlier.
        iterations: Most steps; a problem stops before when the next step promises to
            lower its cost by less than `tolerance` of it.

    Returns:
        Parameters (K, P) and costs (K,).

    Source: Marquardt, SIAM J. Appl. Math. 11(2), 1963; damping scaled by the diagonal.
    """
    problems, count = start.shape
    points = np.shape(target)[-1]
    x, target, weights = (np.broadcast_to(v, (problems, points)) for v in (x, target, weights))
    lower, upper = (np.broadcast_to(v, (problems, count)) for v in (lower, upper))
    solved, costs = np.empty((problems, count)), np.empty(problems)
    size = max(1, CHUNK // (points * count))
    for first in range(0, problems, size):
        part = slice(first, first + size)
        solved[part], costs[part] = _solve(
            model,
            LOSSES[loss],
            scale,
            iterations,
            tolerance,
            *(v[part] for v in (x, target, weights, start, lower, upper)),
        )
    return solved, costs


def with_priors(
    theta: np.ndarray, value: np.ndarray, jacobian: np.ndarray, which: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A model's values and derivatives with parameters themselves as further points.

    Such a point's target is what is usual for the parameter, its weight how surely: a normal prior.

    Args:
        theta: Parameters (K, P).
        value, jacobian: Of the model, (K, N) and (K, N, P).
        which: Indices of the parameters that have a prior (Q of them); by default all.
    """
    index = np.arange(theta.shape[1]) if which is None else np.asarray(which)
    own = np.eye(theta.shape[1])[index]
    own = np.broadcast_to(own, (len(theta), *own.shape))
    return (
        np.concatenate([value, theta[:, index]], axis=1),
        np.concatenate([jacobian, own], axis=1),
    )


def _solve(
    model, loss, scale, iterations, tolerance, x, target, weights, start, lower, upper
):  # fmt: skip
    value_of, slope_of = loss

    def evaluate(theta, rows):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            value, jacobian = model(theta, x[rows])
            residual = value - target[rows]
            squared = (residual / scale) ** 2
            cost = 0.5 * scale**2 * (weights[rows] * value_of(squared)).sum(1)
        return residual, jacobian, squared, np.where(np.isfinite(cost), cost, np.inf)

    theta = np.clip(start, lower, upper)
    rows = np.arange(len(theta))
    residual, jacobian, squared, cost = evaluate(theta, rows)
    damping = np.full(len(theta), 1e-2)
    final, final_cost = theta.copy(), cost.copy()
    diagonal = np.arange(theta.shape[1])
    for _ in range(iterations):
        # A robust loss is a least-squares problem with smaller weights for larger residuals.
        w = weights[rows] * slope_of(squared)
        weighted = jacobian * w[..., None]
        gradient = (weighted * residual[..., None]).sum(1)
        hessian = np.matmul(weighted.transpose(0, 2, 1), jacobian)
        # A parameter at its bound that wants to go further is held for this step.
        held = ((theta <= lower[rows]) & (gradient > 0)) | ((theta >= upper[rows]) & (gradient < 0))
        hessian[held[:, :, None] | held[:, None, :]] = 0
        gradient[held] = 0
        curvature = np.maximum(hessian[:, diagonal, diagonal], 1e-12)
        hessian[:, diagonal, diagonal] = curvature * (1 + damping[:, None])
        step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # Parameters are logarithms: no step multiplies one by more than e^2.
        step *= np.minimum(1, 2 / np.maximum(np.abs(step).max(1), 1e-300))[:, None]
        promised = -(gradient * step).sum(1) / 2
        trial = np.clip(theta + step, lower[rows], upper[rows])
        new = evaluate(trial, rows)
        better = new[3] < cost
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e9)
        theta = np.where(better[:, None], trial, theta)
        residual = np.where(better[:, None], new[0], residual)
        jacobian = np.where(better[:, None, None], new[1], jacobian)
        squared = np.where(better[:, None], new[2], squared)
        cost = np.where(better, new[3], cost)
        final[rows], final_cost[rows] = theta, cost
        going = promised > tolerance * cost
        if not going.any():
            break
        rows, theta, damping, cost = (v[going] for v in (rows, theta, damping, cost))
        residual, jacobian, squared = residual[going], jacobian[going], squared[going]
    return final, final_cost
