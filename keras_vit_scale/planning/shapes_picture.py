"""Shapes that fit, drawn as in the paper's Figure 8: colour says under which, shade how fast."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

#: Colours of the settings, from the one that needs most: the paper's three first.
COLOURS = ("#d9791e", "#3f9142", "#2f66b0", "#8a4fa3", "#a03c3c", "#4f8a8b")

#: Where nothing fits.
NOTHING = "#e6e6e6"

#: How much of its colour the slowest shape keeps.
PALEST = 0.4

#: Panels beyond which nobody sees anything.
MOST_PANELS = 24


def draw_shapes(table: pd.DataFrame, path: str | Path | None = None) -> Any:
    """Draws what `search_shapes` found: width by depth, a panel for each MLP width and heads.

    A shape has the colour of the first setting under which it fits, and the stronger the more
    images a second it trains on, logarithmically.

    Args:
        table: Of `search_shapes`; settings in its order.
        path: A file to write, of any form that matplotlib knows by the name's end.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are more than six settings or 24 panels.

    Example:

    >>> from keras_vit_scale.planning import draw_shapes, search_shapes
    >>> table = search_shapes(widths=[64, 128], depths=[2], mlp_dims=[256], heads=[2, 4])
    >>> len(draw_shapes(table).axes)
    2
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(table.setting))
    widths, depths, mlp_dims, heads = (
        sorted(table[name].unique()) for name in ("width", "depth", "mlp_dim", "heads")
    )
    if len(names) > len(COLOURS) or len(mlp_dims) * len(heads) > MOST_PANELS:
        raise ValueError(
            f"A picture has at most {len(COLOURS)} settings and {MOST_PANELS} panels. Received: "
            f"{len(names)} settings, {len(mlp_dims)} MLP widths and {len(heads)} numbers of heads. "
            "Draw a part of the table"
        )
    best = first_that_fits(table, names)
    figure = Figure(
        figsize=(1.2 + len(mlp_dims) * (0.7 + 0.21 * len(widths)), 1.1 + len(heads) * 3.1),
        layout="constrained",
    )
    panels = figure.subplots(len(heads), len(mlp_dims), squeeze=False, sharex=True, sharey=True)
    for (row, number), (column, mlp_dim) in (
        (r, c) for r in enumerate(heads) for c in enumerate(mlp_dims)
    ):
        ax = panels[row, column]
        mine = best[(best.heads == number) & (best.mlp_dim == mlp_dim)]
        picture = np.ones((len(depths), len(widths), 3))
        for shape in mine.itertuples():
            picture[depths.index(shape.depth), widths.index(shape.width)] = shape.colour
        ax.imshow(picture, origin="lower", aspect="auto", interpolation="nearest")
        ax.set_title(f"MLP {mlp_dim}, {number} heads", fontsize=9)
        ax.set_xticks(range(len(widths)), [str(w) for w in widths], rotation=90, fontsize=7)
        ax.set_yticks(range(len(depths)), [str(d) for d in depths], fontsize=7)
        ax.set_xticks(np.arange(len(widths) + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(len(depths) + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=0.6)
        ax.tick_params(which="both", length=0)
    for ax in panels[-1]:
        ax.set_xlabel("width")
    for ax in panels[:, 0]:
        ax.set_ylabel("depth")
    figure.legend(handles=_legend(names, best), loc="outside lower center", ncols=2, fontsize=8)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def first_that_fits(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A row a shape: the first setting under which it fits, `None` if none, and its colour."""
    from matplotlib.colors import to_rgb

    order = table.assign(order=table.setting.map(names.index)).sort_values("order")
    shape = ["width", "depth", "mlp_dim", "heads"]
    fitting = order[order.fits.astype(bool)].drop_duplicates(shape)
    best = table[shape].drop_duplicates().merge(fitting, how="left", on=shape)
    speed = np.log(best.images_per_second.astype(float))
    spread = speed.max() - speed.min()
    part = (speed - speed.min()) / spread if spread > 0 else speed * 0 + 1.0
    colours = [
        to_rgb(NOTHING)
        if pd.isna(number)
        else _shaded(to_rgb(COLOURS[int(number)]), 1.0 if pd.isna(strength) else strength)
        for number, strength in zip(best.order, part, strict=True)
    ]
    return best.assign(colour=colours)


def _shaded(colour: tuple[float, ...], strength: float) -> tuple[float, ...]:
    """A colour, the paler the smaller its strength in [0, 1]."""
    kept = PALEST + (1 - PALEST) * strength
    return tuple(1 - kept * (1 - part) for part in colour)


def _legend(names: list[str], best: pd.DataFrame) -> list[Any]:
    from matplotlib.patches import Patch

    counts = best.setting.value_counts()
    handles = [
        Patch(
            color=colour,
            label=f"fits with {name}"
            + (", not with those before" if i else "")
            + f" ({counts.get(name, 0)} shapes)",
        )
        for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False))
    ]
    handles.append(
        Patch(color=NOTHING, label=f"fits with none ({int(best.setting.isna().sum())} shapes)")
    )
    speeds = best.images_per_second.dropna()
    if len(speeds):
        label = f"pale to strong: {speeds.min():,.3g} to {speeds.max():,.3g} images a second"
        handles.append(Patch(color="none", label=label))
    return handles
