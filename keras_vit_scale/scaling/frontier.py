"""The Pareto frontier: results that none beats with less compute."""

import numpy as np
from numpy.typing import ArrayLike


def pareto_frontier(compute: ArrayLike, error: ArrayLike) -> np.ndarray:
    """Indices of the points on the frontier, in the order of rising compute.

    A point is on it if every other with no more compute has a larger error. Of
    equal points the first is kept.

    Args:
        compute: What each point cost, positive, in any unit.
        error: Its error, in (0, 1].

    Raises:
        ValueError: If a value is missing or out of range, or the lengths differ.

    Example:

    >>> from keras_vit_scale.scaling import pareto_frontier
    >>> pareto_frontier([1, 2, 3, 4], [0.5, 0.3, 0.4, 0.2]).tolist()
    [0, 1, 3]
    """
    compute, error = check_points(compute, error)
    order = np.lexsort((error, compute))
    best = np.minimum.accumulate(error[order])
    new = np.concatenate([[True], best[1:] < best[:-1]]) if len(order) else np.array([], bool)
    return order[new]


def check_points(
    compute: ArrayLike, error: ArrayLike, most: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Compute and error as float64 arrays of one length, after checking their range.

    Args:
        most: Largest error; infinite for losses.

    Raises:
        ValueError: Naming the first point that is out of range.
    """
    try:
        compute, error = (np.asarray(v, dtype=np.float64) for v in (compute, error))
    except (TypeError, ValueError) as problem:
        raise ValueError(f"Compute and error must be numbers. Received: {problem}") from problem
    if compute.ndim != 1 or compute.shape != error.shape:
        raise ValueError(
            "Compute and error must be one-dimensional and of one length. "
            f"Received: shapes {compute.shape} and {error.shape}"
        )
    for name, values, valid, rule in (
        ("compute", compute, np.isfinite(compute) & (compute > 0), "positive and finite"),
        (
            "error",
            error,
            np.isfinite(error) & (error > 0) & (error <= most),
            "in (0, 1]" if most == 1 else "positive and finite",
        ),
    ):
        if not valid.all():
            i = int(np.flatnonzero(~valid)[0])
            raise ValueError(f"Each {name} must be {rule}. Received: {values[i]} at point {i + 1}")
    return compute, error
