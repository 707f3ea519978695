"""Which law the points support: information criteria, and extrapolation to what was hidden."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.fit import fit_law
from keras_vit_scale.scaling.forms import LAWS, law_class
from keras_vit_scale.scaling.frontier import check_points, pareto_frontier
from keras_vit_scale.scaling.law import Law

#: No fit is taken to be closer than this: errors are not known better.
LEAST_RMS = 1e-4


def information_criteria(points: int, parameters: int, rms_log_error: float) -> dict[str, float]:
    """AICc and BIC of a least-squares fit with normal noise of unknown size in log error.

    Differences count, the smaller is better; the noise is one more parameter. AICc is
    infinite where there are too few points for it.

    Example:

    >>> from keras_vit_scale.scaling.compare import information_criteria
    >>> less, more = (information_criteria(12, p, 0.01)["aicc"] for p in (2, 4))
    >>> round(more - less, 3)  # 2 k + 2 k (k + 1) / (n - k - 1) for k = 3 and 5
    11.0
    """
    k = parameters + 1
    misfit = points * 2 * np.log(max(rms_log_error, LEAST_RMS))
    room = points - k - 1
    aicc = misfit + 2 * k + 2 * k * (k + 1) / room if room > 0 else np.inf
    return {"aicc": float(aicc), "bic": float(misfit + k * np.log(points))}


def compare_laws(
    compute: ArrayLike,
    error: ArrayLike,
    *,
    laws: Sequence[str | type[Law]] = tuple(LAWS),
    groups: ArrayLike | None = None,
    hide: Sequence[float] = (0.1, 0.03),
) -> pd.DataFrame:
    """How well each law describes a frontier, and foretells its hidden end.

    For each law: its fit to the whole frontier with AICc and BIC, then fits with the top
    hidden, to points with at most a tenth (and 3 %) of the most compute, and the error of
    predicting the best results beyond. With `groups`, such as the model of each result, each of
    the groups of most compute is hidden in turn with all that are larger.

    Args:
        compute, error: All results; a frontier is selected from those that are not hidden.
        laws: Names in `LAWS`.
        groups: A label for each result, or `None`.
        hide: Parts of the most compute beyond which results are hidden.

    Returns:
        A table with a row a law, the best first by `held_out`, then AICc: `law`, `fitted`, `rms`,
        `aicc`, `bic`, `held_out` (root mean square of the log errors of all hidden
        cases, each case weighing alike), `worst` (the largest of them), `cases` and
        `refused` (why there is no fit, or None).

    Raises:
        ValueError: If a value is out of range, or no law can be fitted.
    """
    compute, error = check_points(compute, error)
    kinds = [law_class(law) for law in laws]
    cases = hidden_cases(compute, groups, hide)
    on = pareto_frontier(compute, error)
    rows = []
    for kind in kinds:
        row: dict[str, Any] = {"law": kind.name, "fitted": None, "refused": None}
        try:
            law = fit_law(compute[on], error[on], law=kind)
        except ValueError as reason:
            rows.append({**row, "refused": str(reason)})
            continue
        rms = cast(float, law.rms_log_error)  # it was fitted
        misses = []
        for hidden in cases.values():
            missed = held_out_error(kind, compute, error, hidden)
            if missed is not None:
                misses.append(missed)
        rows.append(
            {
                **row,
                "fitted": law,
                "rms": rms,
                **information_criteria(len(on), len(kind.parameters), rms),
                "held_out": float(np.sqrt(np.mean(np.square(misses)))) if misses else np.nan,
                "worst": max(misses, default=np.nan),
                "cases": len(misses),
            }
        )
    if all(row["fitted"] is None for row in rows):
        raise ValueError(rows[0]["refused"])
    return pd.DataFrame(rows).sort_values(
        ["held_out", "aicc"], na_position="last", ignore_index=True
    )


def hidden_cases(
    compute: np.ndarray, groups: ArrayLike | None = None, hide: Sequence[float] = (0.1, 0.03)
) -> dict[str, np.ndarray]:
    """What to hide, by name: masks of results with much compute, or of the largest groups."""
    if groups is None:
        most = compute.max(initial=0)
        cases = {f"beyond {part:g} of the most compute": compute > part * most for part in hide}
    else:
        groups = np.asarray(groups)
        if groups.shape != compute.shape:
            raise ValueError(
                "There must be a group for each point. "
                f"Received: shapes {groups.shape} and {compute.shape}"
            )
        # A group is as large as its most compute; half of them stay in sight.
        names = sorted(set(groups.tolist()), key=lambda g: compute[groups == g].max())
        cases = {
            f"{name} and larger": np.isin(groups, names[i:])
            for i, name in enumerate(names)
            if 2 * i >= len(names)
        }
    return {name: hidden for name, hidden in cases.items() if hidden.any() and not hidden.all()}


def hidden_best(compute: np.ndarray, error: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The results that predictions are judged by, as indices.

    Those of the whole frontier that were hidden and cost more than any that was not.
    """
    on = pareto_frontier(compute, error)
    return on[hidden[on] & (compute[on] > compute[~hidden].max())]


def held_out_error(
    kind: type[Law], compute: np.ndarray, error: np.ndarray, hidden: np.ndarray
) -> float | None:
    """Root mean square log error of a law, fitted without the hidden results, at the best of them.

    `None` if there are none (`hidden_best`), or too little is left to fit.
    """
    beyond = hidden_best(compute, error, hidden)
    seen_c, seen_e = compute[~hidden], error[~hidden]
    seen = pareto_frontier(seen_c, seen_e)
    if not len(beyond):
        return None
    try:
        law = fit_law(seen_c[seen], seen_e[seen], law=kind)
    except ValueError:
        return None
    return float(np.sqrt(np.mean(np.log(law.predict(compute[beyond]) / error[beyond]) ** 2)))
