"""What a page's chart shows, as numbers and words that JSON can hold."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.bootstrap import FrontierFit, tails
from keras_vit_scale.scaling.evidence import Evidence, weigh
from keras_vit_scale.scaling.frontier import pareto_frontier
from keras_vit_scale.scaling.law import Law

#: Columns that measure what a result cost, whoever wrote them, and what they are in words.
COSTS = {
    "flops": "Training compute (FLOPs)",
    "tpuv3_core_days": "Training compute (TPUv3 core-days)",
    "images_seen": "Images seen",
}

#: A number with a point or an exponent.
FRACTION = re.compile(r"-?\d+(\.\d*(e[+-]?\d+)?|e[+-]?\d+)", re.IGNORECASE)

#: Most results that are drawn; a browser is slow with more.
MOST_DRAWN = 3000

#: Most axes that are offered, and characters of a label or cell that are shown.
MOST_AXES, MOST_CHARACTERS = 6, 60

#: Most columns that are told of a result.
MOST_TOLD = 14

#: Most labels that have a colour of their own.
MOST_LABELS = 24

#: How far the law is drawn beyond the results, as a factor.
EXTRAPOLATION = 10


@dataclass(frozen=True)
class Axis:
    """One horizontal axis of the chart, and the law along it.

    Args:
        column: Name of the quantity.
        title: What it is, in words.
        values: Of each result, positive (N,).
        evidence: The results with this quantity as compute, or `None` where no law belongs here.
        factor: What one unit of the evidence's own compute is on this axis.
    """

    column: str
    title: str
    values: np.ndarray
    evidence: Evidence | None
    factor: float = 1.0

    @property
    def law(self) -> Law | None:
        """The law in this axis' unit, or `None`."""
        if self.evidence is None or self.evidence.law is None:
            return None
        return self.evidence.law.in_unit(self.factor)

    @property
    def fit(self) -> FrontierFit | None:
        """The fit with intervals, in the evidence's unit, or `None`."""
        return None if self.evidence is None else self.evidence.fit

    def interval(
        self, x: ArrayLike, level: float, run: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Interval of the frontier's error at `x` on this axis, or of one more run's."""
        fit = cast(FrontierFit, self.fit)  # intervals are those of a fit
        return fit.interval(np.asarray(x) / self.factor, level, run=run)

    def parameter_intervals(self, level: float) -> dict[str, tuple[float, float]]:
        """Of each parameter of the law, in this axis' unit."""
        fit = cast(FrontierFit, self.fit)  # as above
        kind = type(fit.law)
        laws = [
            kind(**dict(zip(kind.parameters, v, strict=True))).in_unit(self.factor)
            for v in fit.parameters
        ]
        return {
            name: tuple(np.quantile([getattr(law, name) for law in laws], tails(level)))
            for name in kind.parameters
        }


def axes_of(
    evidence: Evidence, columns: pd.DataFrame, compute: str, wanted: Sequence[str] | None = None
) -> list[Axis]:
    """The axes that results can be drawn along: their compute's first.

    Args:
        evidence: The results and their law of `compute`.
        columns: What else is known of each result, a row each, as numbers or text.
        compute: Name of the column that is the law's compute.
        wanted: Names of other columns; by default what measures a cost (`COSTS`), then other
            columns of positive numbers that span a factor of 10.

    Raises:
        ValueError: If a wanted column holds something else than positive numbers.
    """
    own = evidence.points["compute"].to_numpy(float)
    axes = [Axis(compute, COSTS.get(compute, compute), own, evidence)]
    judged = evidence.points["error"].to_numpy(float)
    known = [c for c in COSTS if c in columns.columns]
    for column in wanted or dict.fromkeys([*known, *columns.columns]):
        if column == compute or list(columns.columns).count(column) != 1:
            continue
        values = pd.to_numeric(columns[column], errors="coerce").to_numpy(float)
        valid = np.isfinite(values) & (values > 0)
        if wanted and not valid.all():
            row = columns[column].iloc[valid.argmin()]
            raise ValueError(f"Each {column} must be positive to be an axis. Received: {row!r}")
        # Rates and accuracies are no costs, however positive.
        cost = column in COSTS or (values.max() >= 10 * values.min() and values.max() > 1)
        if valid.all() and (wanted or cost) and not np.array_equal(values, judged):
            axes.append(_axis(evidence, column, values))
    return axes[:MOST_AXES]


def _axis(evidence, column, values):
    """An axis with the law in its unit, if it is another unit of compute, or a law of its own."""
    factors = values / evidence.points["compute"].to_numpy(float)
    title = COSTS.get(column, column)
    if np.ptp(factors) <= 1e-6 * factors[0]:
        return Axis(column, title, values, evidence, float(factors[0]))
    own = None
    if column in COSTS and evidence.fit is not None:
        own = weigh(evidence.points.assign(compute=values), law=evidence.law.name)
    return Axis(column, title, values, own)


def drawn(evidence: Evidence, axes: Sequence[Axis]) -> np.ndarray:
    """Rows that are drawn, by rising compute: of too many those that the law is of first."""
    total = len(evidence.points)
    order = np.argsort(axes[0].values, kind="stable")
    if total <= MOST_DRAWN:
        return order
    must = np.isin(np.arange(total), np.concatenate([_frontier(a, evidence) for a in axes]))
    ranked = np.random.default_rng(0).random(total) - evidence.fitted - 2 * must
    kept = np.zeros(total, bool)
    kept[np.argpartition(ranked, MOST_DRAWN)[:MOST_DRAWN]] = True
    return order[kept[order]]


def _frontier(axis, evidence):
    return pareto_frontier(axis.values, evidence.points["error"].to_numpy(float))


def chart(
    evidence: Evidence, axes: Sequence[Axis], columns: pd.DataFrame, source: str, level: float
) -> dict[str, Any]:
    """All that the chart of a page needs, for JSON.

    Args:
        evidence, axes: As `axes_of` takes and gives them.
        columns: What is told of each result when it is pointed at.
        source: Where the results are from; the index of `points` is the line there.
        level: Of the band.
    """
    rows = drawn(evidence, axes)
    place = {row: i for i, row in enumerate(rows.tolist())}
    points = evidence.points.iloc[rows]
    told = columns.iloc[rows, :MOST_TOLD].to_numpy(object).tolist()
    names = [_short(c) for c in columns.columns[:MOST_TOLD]]
    lines = points.index.tolist()
    return {
        "error": _numbers(points["error"]),
        "told": [
            [f"{name}: {cell(value)}" for name, value in zip(names, cells, strict=True)]
            + [f"{_short(source)}, line {line}"]
            for cells, line in zip(told, lines, strict=True)
        ],
        "series": _series(points),
        "axes": [_along(axis, evidence, rows, place, level) for axis in axes],
        "level": level,
    }


def _series(points):
    """Rows by label, and within it by trunk: what shares a colour, and what a line."""
    label = next((c for c in ("size", "trunk") if c in points), None)
    if label is None:
        return [{"name": "results", "runs": [[i] for i in range(len(points))]}]
    names = points[label].astype(str).to_numpy()
    trunks = points.get("trunk", points[label]).astype(str).to_numpy()
    # Labels by the compute at which they start, as a reader meets them from the left.
    order = list(dict.fromkeys(names))
    if len(order) > MOST_LABELS:
        names, order = np.full(len(names), f"{len(order)} labels"), [f"{len(order)} labels"]
    series = []
    for name in order:
        mine = np.flatnonzero(names == name)
        runs = [mine[trunks[mine] == t].tolist() for t in dict.fromkeys(trunks[mine])]
        series.append({"name": _short(name), "runs": runs})
    return series


def _along(axis, evidence, rows, place, level):
    """Places, frontier, law, band and residuals along one axis."""
    shown: dict[str, Any] = {
        "title": _short(axis.title),
        "x": _numbers(axis.values[rows]),
        "frontier": [place[i] for i in _frontier(axis, evidence).tolist() if i in place],
        "law": None,
    }
    law = axis.law
    if law is not None:
        least, most = law.compute_range
        inside = np.geomspace(least, most, 120)
        beyond = np.geomspace(most, most * EXTRAPOLATION, 40)[1:]
        x = np.concatenate([inside, beyond])
        shown["law"] = {
            "text": str(law), "inside": len(inside), "x": _numbers(x), "y": _numbers(law.predict(x))
        }  # fmt: skip
        if axis.fit is not None:
            low, high = axis.interval(x, level)
            shown["law"] |= {"low": _numbers(low), "high": _numbers(high)}
        used = np.flatnonzero(axis.evidence.fitted[rows])
        off = evidence.points["error"].to_numpy(float)[rows][used] / law.predict(
            axis.values[rows][used]
        )
        shown["residuals"] = {"rows": used.tolist(), "off": _numbers(off - 1)}
    return shown


def _numbers(values: ArrayLike) -> list[float | None]:
    """As many digits as a picture can show; JSON has no number for what is not finite."""
    numbers: list[float] = np.asarray(values, dtype=float).tolist()
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in numbers]


def cell(value: object) -> str:
    """A cell of a table for people: thousands apart, fractions to four digits, text cut short."""
    text = _short(value)
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) > 4 and digits[0] != "0":
        return f"{int(text):,}"
    if FRACTION.fullmatch(text):
        short = f"{float(text):.4g}"
        return short if len(short) < len(text) else text
    return text


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
