"""Results of one measure, the law fitted to them, and what it is worth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_vit_scale.scaling.bootstrap import FrontierFit, fit_frontier
from keras_vit_scale.scaling.fit import fit_law
from keras_vit_scale.scaling.forms import DEFAULT_LAW
from keras_vit_scale.scaling.frontier import pareto_frontier
from keras_vit_scale.scaling.law import Law


@dataclass(frozen=True)
class Evidence:
    """Results, and their law where they show one.

    Args:
        points: One row a result: `compute`, `error`, and where they are known `trunk`, `size`
            and `weight`.
        frontier: Rows of `points` on the Pareto frontier, by rising compute.
        fitted: Whether the law was fitted to each row (N,).
        law: The law, or `None`.
        fit: The law with its intervals, or `None`.
        refused: Why there is no law, or `None`.
        notes: What the results could not tell, a sentence each.
    """

    points: pd.DataFrame
    frontier: np.ndarray
    fitted: np.ndarray
    law: Law | None = None
    fit: FrontierFit | None = None
    refused: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> pd.Series:
        """The result with the smallest error."""
        return self.points.iloc[self.frontier[-1]]


def weigh(points: pd.DataFrame, *, law: str | None = None, all_points: bool = False) -> Evidence:
    """Fits a law to results and says what it is worth.

    The law is `fit_frontier`'s, corrected and with intervals, where that can be had: not with
    weights or `all_points`, and not for thousands of results near the frontier.

    Args:
        points: As `Evidence` holds them.
        law: A name in `LAWS`; by default as `fit_law`.
        all_points: Fit to all results instead of the frontier.
    """
    x, y = points["compute"].to_numpy(float), points["error"].to_numpy(float)
    on = pareto_frontier(x, y)
    kind = DEFAULT_LAW if law is None else law
    chosen = np.ones(len(x), bool) if all_points else np.isin(np.arange(len(x)), on)
    notes: tuple[str, ...] = ("No intervals: they are for frontiers of unweighted results.",)
    if not all_points and "weight" not in points:
        try:
            fit = fit_frontier(x, y, points.get("trunk"), points.get("size"), law=kind)
            notes = fit.warnings
            if "trunk" not in points:
                notes += (
                    "Each result was taken for a run of its own. If some share a run, they share "
                    "its luck: name what does (trunk), or the intervals are too narrow.",
                )
            return Evidence(points, on, fit.touching, fit.law, fit, notes=notes)
        except ValueError as reason:
            notes = (f"No intervals: {reason}",)
    # Without intervals there may still be a law.
    try:
        weights = points["weight"].to_numpy(float)[chosen] if "weight" in points else None
        fitted = fit_law(x[chosen], y[chosen], weights=weights, law=kind)
    except ValueError as reason:
        counted = f"{chosen.sum():,} point{'s' if chosen.sum() != 1 else ''}"
        among = "" if all_points else " on the frontier"
        told = f"{counted}{among} of {len(x):,}: {reason}"
        return Evidence(points, on, chosen, refused=told)
    return Evidence(points, on, chosen, fitted, notes=notes + fitted.warnings)
