"""Results as tables: a study's own, and anybody's CSV."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from keras_vit_scale.scaling.frontier import check_points


def collect_results(out: str | Path) -> pd.DataFrame:
    """Finished results of a study folder: one row a size, seed, duration, task and shots.

    `error` is the mean over the choices of the few examples, `error_sd` its standard
    deviation, `classified` the images over all choices. Sorted by task, shots, size (by compute)
    and steps.
    """
    rows = []
    for path in sorted(Path(out).glob("runs/*/*/*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        probes = pd.DataFrame(result.pop("probes"))
        for (task, shots), group in probes.groupby(["task", "shots"], sort=False):
            rows.append(
                {
                    **result,
                    "task": task,
                    "shots": int(shots),
                    "error": group["error"].mean(),
                    "error_sd": group["error"].std(ddof=0),
                    "classified": group["test_images"].sum(),
                }
            )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    # The order of tasks is the study's: that in which each result was probed.
    tasks = {task: i for i, task in enumerate(dict.fromkeys(table["task"]))}
    return (
        table.assign(cost=table["flops"] / table["images_seen"], order=table["task"].map(tasks))
        .sort_values(["order", "shots", "cost", "size", "seed", "steps"])
        .drop(columns=["cost", "order"])
        .reset_index(drop=True)
    )


def study_points(results: pd.DataFrame, task: str, shots: int) -> pd.DataFrame:
    """One point a size and duration, its error the mean over the seeds.

    The frontier of single runs would take the luckiest seed of each. Probes without
    a single mistake count as half a mistake, the least that they could tell: a law
    in log error has no place for 0.
    """
    chosen = results[(results["task"] == task) & (results["shots"] == shots)]
    least = 0.5 / chosen["classified"]
    chosen = chosen.assign(error=chosen["error"].clip(lower=least))
    keys = ["size", "steps", "images_seen", "parameters", "flops", "tpuv3_core_days"]
    return chosen.groupby(keys, sort=False, as_index=False)["error"].mean()


def read_points(
    path: str | Path, compute: str = "flops", error: str = "error", by: str | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Compute and error of a CSV's rows, by the values of its column `by`.

    Where `by` is `None` and the file has columns `task` or `shots` with several values,
    as a study's does, those divide it: errors of different probes are no one law's.

    Returns:
        (compute, error) by group, such as "shots 10" or "task digits, shots 10"; one
        group, "all", if nothing divides the rows.

    Raises:
        ValueError: Naming file, line and column of the first value that is no
            number or out of range, or a column that is missing.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (
        OSError,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
    ) as problem:
        raise ValueError(f"Cannot read {str(path)!r} as CSV: {problem}") from problem
    missing = [c for c in (compute, error, by) if c is not None and c not in table.columns]
    if missing:
        raise ValueError(
            f"{path} must have the columns to fit. Received: no {missing}, but "
            f"{list(table.columns)}; name yours with --compute, --error and --by"
        )
    if table.empty:
        raise ValueError(f"{path} must have rows below its header. Received: none")
    if by is not None:
        columns = [by]
    else:
        columns = [c for c in ("task", "shots") if c in table and table[c].nunique() > 1]
    # The header is line 1.
    lines = table.index + 2
    rules = {
        compute: (lambda v: np.isfinite(v) & (v > 0), "a positive number"),
        error: (lambda v: (v > 0) & (v <= 1), "in (0, 1]"),
    }
    values = {}
    for column, (valid, rule) in rules.items():
        values[column] = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
        with np.errstate(invalid="ignore"):
            bad = ~valid(values[column])
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"{path}, line {lines[i]}: column {column!r} must be {rule}. "
                f"Received: {table[column].iloc[i]!r}"
            )
    if not columns:
        return {"all": check_points(values[compute], values[error])}
    return {
        ", ".join(f"{c} {v}" for c, v in zip(columns, key, strict=True)): check_points(
            values[compute][rows.index], values[error][rows.index]
        )
        for key, rows in table.groupby(columns, sort=False)
    }
