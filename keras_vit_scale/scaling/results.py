"""Results as tables: a study's own, and anybody's CSV."""

import json
from pathlib import Path

import numpy as np
import pandas as pd


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
    """Compute and error of a CSV's rows by group, as `read_groups` divides and checks them."""
    groups = read_groups(path, compute, error, by)
    return {name: (g["compute"].to_numpy(), g["error"].to_numpy()) for name, g in groups.items()}


def read_groups(
    path: str | Path,
    compute: str = "flops",
    error: str = "error",
    by: str | None = None,
    *,
    weight: str | None = None,
    trunk: str | None = None,
    size: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Points of a CSV file to fit a law to, by the values of its column `by`.

    Where `by` is `None` and the file has columns `task` or `shots` with several values,
    as a study's does, those divide it: errors of different probes are no one law's.

    Args:
        path: The file, with a header in its first line.
        compute, error: Columns of positive numbers, and of errors in (0, 1].
        by: Column that divides the rows, or `None`.
        weight: Column of what each row counts, numbers from 0, or `None`.
        trunk, size: Columns of labels: what shares a run, and what shares a size.

    Returns:
        By group, such as "shots 10" or "task digits, shots 10" ("all" if nothing divides
        the rows), a table with the columns `compute`, `error` and those of `weight`,
        `trunk` and `size` that were asked for, and the line of the file as index.

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
    names = {
        "compute": compute, "error": error, "by": by, "weight": weight, "trunk": trunk, "size": size
    }  # fmt: skip
    wanted = {role: column for role, column in names.items() if column is not None}
    missing = [column for column in wanted.values() if column not in table.columns]
    if missing:
        raise ValueError(
            f"{path} must have the columns to fit. Received: no {missing}, but "
            f"{list(table.columns)}; name yours with "
            + ", ".join(f"--{role}" for role in wanted if wanted[role] in missing)
        )
    if table.empty:
        raise ValueError(f"{path} must have rows below its header. Received: none")
    # The header is line 1.
    table.index += 2
    points = pd.DataFrame(index=table.index)
    for role, column in wanted.items():
        if role in RULES:
            points[role] = _numbers(path, table[column], *RULES[role])
        elif role != "by":
            points[role] = _filled(path, table[column])
    if by is not None:
        columns = [by]
    else:
        columns = [c for c in ("task", "shots") if c in table and table[c].nunique() > 1]
    if not columns:
        return {"all": points}
    return {
        ", ".join(f"{c} {v}" for c, v in zip(columns, key, strict=True)): points.loc[rows.index]
        for key, rows in table.groupby(columns, sort=False)
    }


#: By role of a column, which of its numbers are valid, in code and in words.
RULES = {
    "compute": (lambda v: np.isfinite(v) & (v > 0), "a positive number"),
    "error": (lambda v: (v > 0) & (v <= 1), "in (0, 1]"),
    "weight": (lambda v: np.isfinite(v) & (v >= 0), "a number from 0"),
}


def _numbers(path, column, valid, rule):
    """A column of text as numbers; the first that breaks the rule is named with its line."""
    values = pd.to_numeric(column, errors="coerce").astype(float)
    with np.errstate(invalid="ignore"):
        _refuse(path, column, ~valid(values), rule)
    return values


def _filled(path, column):
    """A column of labels, none of them empty."""
    _refuse(path, column, column.str.strip() == "", "a label")
    return column


def _refuse(path, column, bad, rule):
    if bad.any():
        line = bad.index[bad.to_numpy()][0]
        raise ValueError(
            f"{path}, line {line}: column {column.name!r} must be {rule}. "
            f"Received: {column[line]!r}"
        )
