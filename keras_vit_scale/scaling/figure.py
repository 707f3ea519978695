"""The frontier as a picture: error against compute, both logarithmic, the points by size."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from keras_vit_scale.planning import tpuv3_core_days
from keras_vit_scale.scaling.bootstrap import FrontierFit
from keras_vit_scale.scaling.chart import EXTRAPOLATION, MOST_DRAWN, MOST_LABELS
from keras_vit_scale.scaling.findings import Findings
from keras_vit_scale.scaling.frontier import check_points, pareto_frontier
from keras_vit_scale.scaling.law import Law


def draw_frontier(
    compute: ArrayLike,
    error: ArrayLike,
    sizes: Iterable[object] | None = None,
    law: Law | FrontierFit | None = None,
    *,
    ax: Axes | None = None,
    compute_label: str = "Training compute (FLOPs)",
    error_label: str = "Error",
    core_days: bool = False,
    trunks: ArrayLike | None = None,
    level: float = 0.9,
) -> Axes:
    """Draws results, their Pareto frontier and a law on log-log axes.

    Args:
        compute, error: The results.
        sizes: A label each; points with one label share a colour, and a line
            unless they are of several `trunks`.
        law: A `Law`, drawn through the points and dashed beyond those it was fitted to, or a
            `FrontierFit`, drawn with its band.
        ax: A matplotlib axes; a new figure's by default, which a notebook shows below its cell.
        compute_label, error_label: Names of the axes.
        core_days: Whether compute is in FLOPs and a second axis above should
            show TPUv3 core-days.
        trunks: What shares a run, a label each: a line of its own.
        level: Of the band.

    Returns:
        The axes.

    Example:

    >>> from keras_vit_scale.scaling.figure import draw_frontier
    >>> ax = draw_frontier([1, 2, 3], [0.5, 0.4, 0.3], ["a", "a", "b"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['a', 'b', 'frontier']
    """
    compute, error = check_points(compute, error)
    lines = sizes is not None
    trunks = np.zeros(len(compute)) if trunks is None else np.asarray(trunks)
    sizes = np.array(["results"] * len(compute) if sizes is None else [str(s) for s in sizes])
    if ax is None:
        ax = new_figure(1).subplots()
    names = list(dict.fromkeys(sizes))
    if len(names) > MOST_LABELS:
        sizes, names = np.full(len(sizes), "results"), ["results"]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for name, colour in zip(names, colours, strict=True):
        mine = np.flatnonzero(sizes == name)
        mine = mine[np.argsort(compute[mine])]
        # Of thousands a random part, without a line, is as much as a picture can show.
        few = len(mine) <= MOST_DRAWN
        if not few:
            mine = np.random.default_rng(0).choice(mine, MOST_DRAWN, replace=False)
        ax.plot(compute[mine], error[mine], "o", color=colour, label=name, markersize=5)
        if lines and few:
            for trunk in dict.fromkeys(trunks[mine]):
                run = mine[trunks[mine] == trunk]
                ax.plot(compute[run], error[run], "-", color=colour, linewidth=1.1)
    frontier = pareto_frontier(compute, error)
    ax.plot(
        compute[frontier], error[frontier], "o", markersize=10, markerfacecolor="none",
        markeredgecolor="black", label="frontier",
    )  # fmt: skip
    if law is not None:
        fit, law = (law, law.law) if isinstance(law, FrontierFit) else (None, law)
        least, most = law.compute_range or (compute.min(), compute.max())
        inside = np.geomspace(least, most, 200)
        beyond = np.geomspace(most, most * EXTRAPOLATION, 50)
        if fit is not None:
            x = np.append(inside, beyond[1:])
            ax.fill_between(
                x, *fit.interval(x, level), color="crimson", alpha=0.15, linewidth=0,
                label=f"{level:.0%} band",
            )  # fmt: skip
        ax.plot(inside, law.predict(inside), "-", color="crimson", linewidth=2, label=f"{law}")
        ax.plot(beyond, law.predict(beyond), "--", color="crimson", linewidth=2)
    log_axes(ax, xlabel=compute_label, ylabel=error_label)
    ax.grid(True, which="both", linewidth=0.3, alpha=0.6)
    ax.legend(fontsize=8)
    if core_days:
        above = ax.secondary_xaxis(
            "top",
            functions=(
                lambda flops: tpuv3_core_days(np.asarray(flops)),
                lambda days: np.asarray(days) / tpuv3_core_days(1.0),
            ),
        )
        above.set_xlabel("TPUv3 core-days")
    return ax


def new_figure(panels: int) -> matplotlib.figure.Figure:
    """A figure for so many pictures side by side.

    Without pyplot, so that there is no global state and no window; except in a notebook, which
    shows pyplot's figures below the cell that drew them.
    """
    options: dict[str, Any] = {"figsize": (7.2 * panels, 4.8), "layout": "constrained"}
    if "inline" in os.environ.get("MPLBACKEND", ""):  # set by the notebook's kernel
        from matplotlib import pyplot

        return pyplot.figure(**options)
    return matplotlib.figure.Figure(**options)


def log_axes(ax: Axes, **options: Any) -> None:
    """Makes both axes logarithmic, errors to be read as plain numbers; `options` are `ax.set`'s."""
    ax.set(xscale="log", yscale="log", **options)
    ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
    # Between the powers of ten, 2, 3 and 5 are enough to read an error by.
    ax.yaxis.set_minor_formatter(
        matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "235" else "")
    )


def draw_findings(findings: Sequence[Findings]) -> matplotlib.figure.Figure:
    """Draws each of several `Findings` on axes of their own, side by side.

    Returns:
        The figure.
    """
    figure = new_figure(len(findings))
    for f, ax in zip(findings, figure.subplots(1, len(findings), squeeze=False)[0], strict=True):
        draw_frontier(
            f.points["flops"],
            f.points["error"],
            f.points["size"],
            f.evidence.fit or f.law,
            ax=ax,
            error_label=f.measure[0].upper() + f.measure[1:],
            core_days=True,
        )
    return figure
