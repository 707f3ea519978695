"""What a study found, and what to try next, in words and numbers."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_vit_scale.scaling.display import html_table
from keras_vit_scale.scaling.evidence import Evidence, weigh
from keras_vit_scale.scaling.frontier import pareto_frontier
from keras_vit_scale.scaling.law import Law
from keras_vit_scale.scaling.results import study_points, study_runs

#: A size has stopped improving when its error falls slower than compute to this power.
FLAT_SLOPE = 0.1


@dataclass(frozen=True)
class Findings:
    """The points of a study for one task and number of shots, their frontier and its law.

    Args:
        task: Name of the data set that was probed.
        shots: Examples a class of the probe.
        points: One row a size and duration, sorted by compute a image and steps.
        frontier: Rows of `points` on the Pareto frontier, by rising compute.
        evidence: The single results, and the law fitted to their frontier, compute in FLOPs.
    """

    task: str
    shots: int
    points: pd.DataFrame
    frontier: np.ndarray
    evidence: Evidence

    @property
    def law(self) -> Law | None:
        """The law of the frontier, or `None`."""
        return self.evidence.law

    @property
    def refused(self) -> str | None:
        """Why there is no law, or `None`."""
        return self.evidence.refused

    @property
    def measure(self) -> str:
        """What the error is, for titles: "10-shot error (digits)"."""
        return f"{self.shots}-shot error ({self.task})"

    @property
    def best(self) -> pd.Series:
        """The point with the smallest error."""
        return self.points.iloc[self.frontier[-1]]

    def __repr__(self) -> str:
        return "\n".join([f"{self.measure}:", *describe(self)])

    def _repr_html_(self) -> str:
        points = self.points
        steps = sorted(points["steps"].unique())
        errors = points.set_index(["size", "steps"])["error"].map("{:.3f}".format)
        rows = [
            [size, *(errors.get((size, s), "") for s in steps)]
            for size in dict.fromkeys(points["size"])
        ]
        columns = ["size", *(f"{s:,} steps" for s in steps)]
        above = [f"{self.measure}. " + " ".join(describe(self))]
        below = [*self.evidence.notes, *next_steps(self)]
        return html_table(columns, rows, above=above, below=below)

    def end_slopes(self) -> pd.Series:
        """By size, `-d log(error) / d log(compute)` between its two longest runs."""
        slopes = {}
        for size, runs in self.points.groupby("size", sort=False):
            if len(runs) > 1:
                before, last = (runs.iloc[i] for i in (-2, -1))
                slopes[size] = -np.log(last["error"] / before["error"]) / np.log(
                    last["flops"] / before["flops"]
                )
        return pd.Series(slopes, dtype=float)

    def saturated(self) -> list[str]:
        """Sizes that more training hardly helps any more."""
        slopes = self.end_slopes()
        return [size for size in slopes.index if slopes[size] < FLAT_SLOPE]


def find(results: pd.DataFrame, task: str, shots: int) -> Findings:
    """Frontier and law of a table as `collect_results` gives it."""
    points = study_points(results, task, shots)
    flops, error = points["flops"].to_numpy(float), points["error"].to_numpy(float)
    frontier = pareto_frontier(flops, error)
    return Findings(task, shots, points, frontier, weigh(study_runs(results, task, shots)))


def describe(findings: Findings) -> list[str]:
    """What was found, a sentence a line."""
    f, best = findings, findings.best
    ends = f.points.iloc[[f.frontier[0], f.frontier[-1]]]
    lines = [
        f"Best: {best['size']} after {best['steps']:,} steps, {f.measure} "
        f"{best['error']:.3f}, for {best['flops']:.3g} FLOPs "
        f"({best['tpuv3_core_days']:.3g} TPUv3 core-days).",
        f"Frontier: {len(f.frontier)} of {len(f.points)} results, "
        f"error {ends['error'].iloc[0]:.3f} to {ends['error'].iloc[1]:.3f} over a factor of "
        f"{ends['flops'].iloc[1] / ends['flops'].iloc[0]:,.0f} in compute.",
    ]
    if f.law is None:
        lines.append(f"No law: {f.refused}")
    else:
        lines.append(
            f"Law: {f.law}, C in FLOPs; its {f.law.points} points lie {f.law.rms_log_error:.1%} "
            "off (rms)."
        )
    slopes = f.end_slopes()
    for size in f.saturated():
        runs = f.points[f.points["size"] == size]
        lines.append(
            f"{size} has stopped improving: from {runs['steps'].iloc[-2]:,} to "
            f"{runs['steps'].iloc[-1]:,} steps its error went from {runs['error'].iloc[-2]:.3f} "
            f"to {runs['error'].iloc[-1]:.3f} (slope {slopes[size]:.2f})."
        )
    return lines


def next_steps(findings: Findings) -> list[str]:
    """What to try next, a sentence a line."""
    f, best = findings, findings.best
    sizes = list(dict.fromkeys(f.points["size"]))
    largest, longest = sizes[-1], f.points["steps"].max()
    slopes = f.end_slopes()
    lines = []
    if best["size"] != largest:
        lines.append(
            f"The best size is {best['size']}, not the largest, {largest}: add data or "
            "longer durations before larger sizes."
        )
    elif largest in f.saturated():
        lines.append(f"{largest} has stopped improving too: add a larger size, or more data.")
    elif best["steps"] == longest and largest in slopes:
        lines.append(
            f"{largest} still improves at the end (slope {slopes[largest]:.2f}): add "
            f"--durations {2 * longest} to this study; finished runs are kept."
        )
    if f.law is not None:
        compute = 4 * f.points["flops"].max()
        lines.append(
            f"With 4 times the most compute so far, {compute:.2g} FLOPs, the law expects an error "
            f"of {f.law.predict(compute):.3f}; that is an extrapolation, and its floor is "
            f"{getattr(f.law, 'c', 0.0):.3f}."
        )
    else:
        lines.append("Add sizes or durations until the frontier has enough points for a law.")
    return lines
