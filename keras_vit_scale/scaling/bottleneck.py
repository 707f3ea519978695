"""What holds a model back: its size, or its data."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.frontier import check_points

#: A gain below this, in log error, is taken for noise.
LEAST_GAIN = 0.03


def bottlenecks(
    images: ArrayLike,
    error: ArrayLike,
    size: ArrayLike,
    data: ArrayLike,
    *,
    cost: ArrayLike,
    least_gain: float = LEAST_GAIN,
) -> pd.DataFrame:
    """The best error of each size on each amount of data, and what more of either would bring.

    A gain compares two best errors over the images that both have seen, so that a longer run is
    not taken for a larger model or more data.

    Args:
        images: Images seen by each result.
        error: Its error, in (0, 1].
        size: A label for each result.
        data: Images in the data set that each was trained on.
        cost: What orders the sizes, a number for each result, such as FLOPs an image.
        least_gain: Gains below this, in log error, count as none.

    Returns:
        A row a size and data set, ordered by both: `size`, `data`, `best` (its least error),
        `images_at_best`, `images_most`, `rise` (log of the last error over the best),
        `from_size` and `from_data` (log of best / best of the next larger, NaN where there is
        none or nothing to compare), `bottleneck`: "size", "data", "both" or "neither", by the
        gains that are at least `least_gain`; "" where a gain is unknown and the other says
        nothing.

    Raises:
        ValueError: If a value is out of range or the lengths differ.

    Example:

    >>> from keras_vit_scale.scaling import bottlenecks
    >>> table = bottlenecks([1e8] * 4, [0.5, 0.5, 0.4, 0.3], ["S", "S", "L", "L"],
    ...                     [1e6, 1e7, 1e6, 1e7], cost=[1, 1, 9, 9])
    >>> table["bottleneck"].tolist()  # S needs size; L on 1 M images needs data
    ['size', 'size', 'data', '']
    """
    images, error = check_points(images, error)
    columns = {
        name: np.asarray(values)
        for name, values in (
            ("images", images), ("error", error), ("size", size), ("data", data), ("cost", cost),
        )
    }  # fmt: skip
    if any(len(values) != len(images) for values in columns.values()):
        raise ValueError(
            "There must be a size, data and cost for each result. Received: lengths "
            f"{', '.join(str(len(values)) for values in columns.values())}"
        )
    results = pd.DataFrame(columns)
    sizes = results.groupby("size")["cost"].max().sort_values(kind="stable").index.tolist()
    amounts = sorted(results["data"].unique())
    runs = {key: runs.sort_values("images") for key, runs in results.groupby(["size", "data"])}
    rows = []
    for i, name in enumerate(sizes):
        for j, amount in enumerate(amounts):
            mine = runs.get((name, amount))
            if mine is None:
                continue
            best = mine.loc[mine["error"].idxmin()]
            larger = (runs.get((s, amount)) for s in sizes[i + 1 : i + 2])
            more = (runs.get((name, a)) for a in amounts[j + 1 : j + 2])
            from_size, from_data = (_gain(mine, next(others, None)) for others in (larger, more))
            rows.append(
                {
                    "size": name,
                    "data": amount,
                    "best": best["error"],
                    "images_at_best": best["images"],
                    "images_most": mine["images"].iloc[-1],
                    "rise": float(np.log(mine["error"].iloc[-1] / best["error"])),
                    "from_size": from_size,
                    "from_data": from_data,
                    "bottleneck": _verdict(from_size, from_data, least_gain),
                }
            )
    return pd.DataFrame(rows)


def _gain(mine, other):
    """Log of the best error over the other's best, within the images that both have seen."""
    if other is None:
        return np.nan
    shared = min(mine["images"].iloc[-1], other["images"].iloc[-1])
    errors = [r.loc[r["images"] <= shared, "error"] for r in (mine, other)]
    if any(e.empty for e in errors):
        return np.nan
    return float(np.log(errors[0].min() / errors[1].min()))


def _verdict(from_size, from_data, least_gain):
    helps = [n for n, g in (("size", from_size), ("data", from_data)) if g >= least_gain]
    if len(helps) == 2:
        return "both"
    if helps:
        return helps[0]
    return "" if np.isnan(from_size) or np.isnan(from_data) else "neither"
