"""Anybody's table of results, as a program or a spreadsheet writes it: read, checked, divided."""

import csv
import difflib
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_vit_scale.scaling.results import collect_results, count_half_a_mistake, on_all_images

#: What may stand between two cells; of equally many the first is taken.
SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Table:
    """A table as text.

    Args:
        source: The file or folder, for messages.
        rows: Text by column; the index is the line of the file, the header's being 1.
        separator: What stood between two cells.
    """

    source: str
    rows: pd.DataFrame
    separator: str = ","

    def trunk_columns(self) -> list[str]:
        """Columns that name a trunk where they are named as a study's: size and seed."""
        return ["size", "seed"] if {"size", "seed"} <= set(self.rows.columns) else []


def read_table(path: str | Path) -> Table:
    """A CSV file, plain or gzipped, or the results on all images of a study's folder.

    Commas, semicolons or tabs divide the cells, whichever the header has most of; text is UTF-8
    (or UTF-16 with its mark). Blank lines are skipped.

    Raises:
        ValueError: Naming the file, and the line that is no row of a table.
    """
    path = Path(path)
    if path.is_dir():
        results = on_all_images(count_half_a_mistake(collect_results(path)))
        path /= "results.csv"
        if not results.empty:
            results.index += 2  # as lines of the file that `study report` writes
            return Table(f"{path}", results.astype(str))
        if not path.exists():
            raise ValueError(
                f"{path.parent} holds no finished result of a study, and no {path.name}"
            )
    text = _text(path)
    first = text.partition("\n")[0].strip()
    if first.startswith("sep=") and len(first) == 5:  # Excel's way of naming the separator
        separator, skipped = first[4], 1
    else:
        separator = max(SEPARATORS, key=lambda s: len(next(csv.reader([first], delimiter=s), [])))
        skipped = 0
    lines, rows = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                lines.append(reader.line_num)
                rows.append(row)
    except csv.Error as problem:
        raise ValueError(f"Cannot read {path}, line {reader.line_num}, as CSV: {problem}") from None
    lines, rows = lines[skipped:], rows[skipped:]
    if not rows:
        raise ValueError(f"Cannot read {path} as CSV: it is empty")
    header = [name.strip() for name in rows[0]]
    while not header[-1]:  # cells that a spreadsheet left at the end
        header.pop()
    for line, row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(header):
            if any(map(str.strip, row[len(header) :])) or len(row) < len(header):
                raise ValueError(
                    f"{path}, line {line}: each row must have the {len(header)} cells of the "
                    f"header. Received: {len(row)}"
                )
            del row[len(header) :]
    return Table(f"{path}", pd.DataFrame(rows[1:], lines[1:], header, dtype=str), separator)


def _text(path):
    """The text of a file."""
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as problem:
        raise ValueError(f"Cannot read {str(path)!r} as CSV: {problem}") from problem
    if data.startswith(b"PK"):
        raise ValueError(
            f"Cannot read {path} as CSV: it is a workbook or an archive; save the sheet as "
            "CSV (UTF-8), or unpack it"
        )
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise ValueError(
            f"Cannot read {path}, line {line}, as CSV: it is no UTF-8 text; save it as CSV (UTF-8)"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"Cannot read {path}, line {line}, as CSV: it is no text")
    return text


def read_points(
    path: str | Path, compute: str = "flops", error: str = "error", by: str | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Compute and error of a CSV's rows by group, as `read_groups` divides and checks them."""
    groups = read_groups(path, compute, error, by)
    return {name: (g["compute"].to_numpy(), g["error"].to_numpy()) for name, g in groups.items()}


def read_groups(path: str | Path, *columns: Any, **options: Any) -> dict[str, pd.DataFrame]:
    """Points to fit a law to, of a CSV file or a study: `divide(read_table(path), ...)`."""
    return divide(read_table(path), *columns, **options)


def divide(
    table: Table,
    compute: str = "flops",
    error: str = "error",
    by: str | None = None,
    *,
    accuracy: str | None = None,
    percent: bool = False,
    weight: str | None = None,
    trunk: str | tuple[str, ...] | None = None,
    size: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Points of a table to fit a law to, by the values of its column `by`.

    Where `by` is `None` and the table has columns `task` or `shots` with several values,
    as a study's does, those divide it: errors of different probes are no one law's.

    Numbers may have decimal commas where semicolons or tabs divide the cells and none of the
    numbers has a point. An error such as "15.1%" is read as 0.151.

    Args:
        table: As `read_table` gives it.
        compute, error: Columns of positive numbers, and of errors in (0, 1].
        by: Column that divides the rows, or `None`.
        accuracy: Column of accuracies in [0, 1), in place of `error`.
        percent: Whether errors or accuracies are in percent.
        weight: Column of what each row counts, numbers from 0, or `None`.
        trunk: Column, or several, of labels of what shares a run.
        size: Column of labels of what shares a size.

    Returns:
        By group, such as "shots 10" or "task digits, shots 10" ("all" if nothing divides
        the rows), a table with the columns `compute`, `error` and those of `weight`,
        `trunk` and `size` that were asked for, and the line of the file as index.

    Raises:
        ValueError: Naming file, line and column of the first value that is no
            number or out of range, or a column that is missing.
    """
    trunk = (trunk,) if isinstance(trunk, str) else tuple(trunk or ())
    judged = "error" if accuracy is None else "accuracy"
    numeric = {"compute": compute, judged: accuracy or error, "weight": weight}
    numeric = {role: column for role, column in numeric.items() if column is not None}
    labels = [*trunk, *(c for c in (size, by) if c is not None)]
    _check_columns(table, numeric | {"by": by, "size": size}, trunk)
    rows = table.rows
    if rows.empty:
        raise ValueError(f"{table.source} must have rows below its header. Received: none")
    commas = table.separator != "," and not any(
        rows[column].str.contains(".", regex=False).any() for column in numeric.values()
    )
    points = pd.DataFrame(index=rows.index)
    for role, column in numeric.items():
        points[role] = _numbers(table, column, role, commas, percent and role == judged)
    if accuracy is not None:
        # Rounded, or 1 - 0.849 would not be the 0.151 that it says.
        points["error"] = (1 - points.pop("accuracy")).round(12)
    for column in labels:
        _refuse(table, column, rows[column].str.strip() == "", "a label")
    if trunk:
        points["trunk"] = rows[list(trunk)].agg(" / ".join, axis=1) if trunk[1:] else rows[trunk[0]]
    if size is not None:
        points["size"] = rows[size]
    if by is not None:
        columns = [by]
    else:
        columns = [
            c for c in ("task", "shots") if list(rows).count(c) == 1 and rows[c].nunique() > 1
        ]
    if not columns:
        return {"all": points}
    return {
        ", ".join(f"{c} {v}" for c, v in zip(columns, key, strict=True)): points.loc[group.index]
        for key, group in rows.groupby(columns, sort=False)
    }


def _meant(missing, present):
    """The columns whose names are close to the missing ones', whatever case and punctuation."""

    def letters(name):
        return re.sub(r"[\W_]+", "", name).casefold()

    by_letters = {letters(name): name for name in present}
    close = [m for c in missing for m in difflib.get_close_matches(letters(c), by_letters, n=1)]
    names = ", ".join(repr(by_letters[m]) for m in dict.fromkeys(close))
    return f" (did you mean {names}?)" if names else ""


def _check_columns(table, roles, trunk):
    """Refuses columns that are missing, or that the header has twice."""
    named = [(role, c) for role, c in roles.items() if c is not None]
    named += [("trunk", c) for c in trunk]
    present = list(table.rows.columns)
    missing = {column: f"--{role}" for role, column in named if column not in present}
    if missing:
        raise ValueError(
            f"{table.source} must have the columns to fit. Received: no {list(missing)}, but "
            f"{present}; name yours with "
            + ", ".join(dict.fromkeys(missing.values()))
            + _meant(missing, present)
        )
    for _, column in named:
        if present.count(column) > 1:
            raise ValueError(
                f"{table.source}, line 1: the column {column!r} must be there once. "
                f"Received: {present.count(column)} of that name"
            )


#: By role of a column: which of its numbers are valid, in code and in words, and what to do.
RULES = {
    "compute": (lambda v: np.isfinite(v) & (v > 0), "a positive number", {}),
    "error": (
        lambda v: (v > 0) & (v <= 1),
        "in (0, 1]",
        {
            "zero": "an error of 0 means less than one mistake: write half a mistake, "
            "0.5 / images judged",
            "large": "for percent add --percent, for accuracies name the column with --accuracy",
        },
    ),
    "accuracy": (
        lambda v: (v >= 0) & (v < 1),
        "an accuracy in [0, 1)",
        {
            "one": "an accuracy of 1 means less than one mistake: write half a mistake, "
            "1 - 0.5 / images judged",
            "large": "for percent add --percent",
        },
    ),
    "weight": (lambda v: np.isfinite(v) & (v >= 0), "a number from 0", {}),
}


def _numbers(table, column, role, commas, percent):
    """A column of text as numbers; the first that breaks the rule is named with its line."""
    text = table.rows[column].str.strip()
    if commas:
        text = text.str.replace(",", ".", regex=False)
    scale: float | np.ndarray = 1.0
    if role in ("error", "accuracy"):
        marked = text.str.endswith("%")
        text = text.str.rstrip("% ")
        scale = np.where(marked | percent, 100.0, 1.0)
    values = pd.to_numeric(text, errors="coerce").astype(float) / scale
    valid, rule, cures = RULES[role]
    with np.errstate(invalid="ignore"):
        bad = ~valid(values)
    if bad.any():
        value = values[bad].iloc[0]
        case = {0.0: "zero", 1.0: "one"}.get(value, "large" if value > 1 else "")
        _refuse(table, column, bad, rule, cures.get(case, ""))
    return values


def _refuse(table, column, bad, rule, cure=""):
    """Refuses the first of the bad cells of a column."""
    if bad.any():
        line = bad.index[bad.to_numpy()][0]
        raise ValueError(
            f"{table.source}, line {line}: column {column!r} must be {rule}. "
            f"Received: {table.rows.at[line, column][:80]!r}" + (cure and f"; {cure}")
        )
