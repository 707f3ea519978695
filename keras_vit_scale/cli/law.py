"""`law fit`: the law of anybody's results."""

import dataclasses
import json as json_module
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMN = arg(metavar="COLUMN")
_COLUMNS = arg(metavar="[COLUMN [COLUMN ...]]")


def law_fit(
    results: Positional[tuple[Path, ...]],
    /,
    compute: str = "flops",
    error: str = "error",
    accuracy: Annotated[str, _COLUMN] = "",
    percent: bool = False,
    by: Annotated[str, _COLUMN] = "",
    trunk: Annotated[tuple[str, ...], _COLUMNS] = (),
    size: Annotated[str, _COLUMN] = "",
    weight: Annotated[str, _COLUMN] = "",
    axes: Annotated[tuple[str, ...], _COLUMNS] = (),
    law: str = "",
    all_points: bool = False,
    at: tuple[float, ...] = (),
    level: float = 0.9,
    figure: Path | None = None,
    report: Path | None = None,
    json: bool = False,
) -> None:
    """Fit a law such as E = a (C + d)^-b + c to the frontier of a CSV file or a study's folder.

    For example:

      keras-vit-scale law fit my_study/ --report law.html
      keras-vit-scale law fit runs.csv --compute gpu_hours --error val_error --at 1000 10000
      keras-vit-scale law fit runs.csv --accuracy top1 --percent --trunk model seed --size model
      keras-vit-scale law fit runs.csv --by data_set --at 1e20 --json

    Args:
        results: CSV files with a header and one result a row, plain or gzipped, or folders of
            studies. Each gets laws of its own.
        compute: Column of compute, in any unit; the law is in that unit.
        error: Column of errors, in (0, 1].
        accuracy: Column of accuracies, in place of --error.
        percent: Errors or accuracies are in percent.
        by: A column that divides the rows; each group gets a law of its own. Columns "task" and
            "shots" with several values do so unasked.
        trunk: Columns that name what shares one run: its results are no independent evidence.
            Columns "size" and "seed" do so unasked.
        size: Column that names the size, with --trunk: trunks of one size are repeats.
        weight: Column of what each row counts; without intervals then.
        axes: Columns that the report can be switched to; by default what looks like a cost.
        law: The form: "power", "power+floor", "double-saturating" or "sigmoidal"; by default
            the library's.
        all_points: Fit to all points instead of the Pareto frontier; without intervals then.
        at: Also predict the error at these amounts of compute.
        level: Of the intervals.
        figure: Draw points, law and band to this file (.png, .pdf, .svg); of several groups, to
            one for each, its name in the file's.
        report: Write an interactive page (.html) that needs no network.
        json: Print JSON.
    """
    from keras_vit_scale.scaling.bootstrap import tails
    from keras_vit_scale.scaling.evidence import weigh
    from keras_vit_scale.scaling.forms import law_class
    from keras_vit_scale.scaling.report import law_page, law_section
    from keras_vit_scale.scaling.tables import divide, read_table
    from keras_vit_scale.weights.files import write_text

    if not results:
        raise ValueError("Name a CSV file or a study's folder. Received: none")
    if trunk and (weight or all_points):
        raise ValueError(
            "--trunk selects frontiers of unweighted results: leave --weight and --all-points out"
        )
    if size and not trunk:
        raise ValueError("--size says which trunks are repeats: give --trunk too")
    if not all(0 < c < math.inf for c in at):
        raise ValueError(f"--at must be positive amounts of compute. Received: {at}")
    tails(level)
    if law:
        law_class(law)
    sections = []
    for path in dict.fromkeys(results):
        table = read_table(path)
        runs, sizes = trunk, size
        if not (runs or weight or all_points) and table.trunk_columns():
            runs, sizes = tuple(table.trunk_columns()), "size"
        missing = [c for c in axes if c not in table.rows]
        if missing:
            raise ValueError(
                f"{table.source} must have the columns of --axes. Received: no {missing}, but "
                f"{list(table.rows)}"
            )
        groups = divide(
            table, compute, error, by or None, accuracy=accuracy or None, percent=percent,
            weight=weight or None, trunk=runs, size=sizes or None,
        )  # fmt: skip
        for name, points in groups.items():
            evidence = weigh(points, law=law or None, all_points=all_points)
            if len(results) > 1:
                name = table.source if name == "all" else f"{table.source}: {name}"
            columns = table.rows.loc[points.index]
            sections.append(
                law_section(
                    name, evidence, columns, table.source, compute=compute,
                    error="error" if accuracy else error, axes=axes, at=at,
                )
            )  # fmt: skip
    if all(s.evidence.law is None for s in sections):
        first = sections[0]
        where = results[0] if first.name == "all" else f"{results[0]}, {first.name}"
        raise ValueError(f"{where}, {first.evidence.refused}")
    if figure is not None:
        _draw(sections, figure, compute, level)
    if report is not None:
        write_text(report, law_page(sections, level))
    rows = [_row(s, at, level) for s in sections]
    if json:
        print(json_module.dumps(rows, indent=1))
        return
    for row in rows:
        _print(row, level)


def _draw(sections, figure, compute, level):
    """A picture for each group; of several, with the group's name in the file's."""
    from keras_vit_scale.scaling.figure import draw_frontier

    taken = set()
    for i, s in enumerate(sections):
        path = figure
        if len(sections) > 1:
            name = re.sub(r"\W+", "-", s.name).strip("-")[:60]
            name = f"{name}-{i + 1}" if name in taken or not name else name
            taken.add(name)
            path = figure.with_name(f"{figure.stem}-{name}{figure.suffix}")
        points = s.evidence.points
        label = next((points[c] for c in ("size", "trunk") if c in points), None)
        ax = draw_frontier(
            points["compute"], points["error"], label, s.evidence.fit or s.evidence.law,
            compute_label=compute, error_label=s.measure, level=level, trunks=points.get("trunk"),
        )  # fmt: skip
        cast("Figure", ax.figure).savefig(path, dpi=150)


def _row(section, at, level):
    """One group's law as JSON holds it."""
    from keras_vit_scale.scaling.page import predicted_rows

    evidence = section.evidence
    row = {"group": section.name, "source": section.source, "results": len(evidence.points)}
    if evidence.law is None:
        return {**row, "refused": evidence.refused}
    row |= {"law": evidence.law.name, "text": str(evidence.law)}
    row |= {**dataclasses.asdict(evidence.law), "warnings": evidence.notes}
    if evidence.fit is not None:
        row["level"] = level
        row["intervals"] = evidence.fit.parameter_intervals(level)
        row["trunk_noise"] = evidence.fit.trunk_noise
    row["predictions"] = predicted_rows(section.axes[0], at, level)
    return row


def _print(row, level):
    prefix = "" if row["group"] == "all" else f"{row['group']}: "
    if "refused" in row:
        print(f"{prefix}no law: {row['refused']}")
        return
    print(f"{prefix}{row['text']}   ({row['points']} points, {row['rms_log_error']:.1%} off, rms)")
    for name, (low, high) in row.get("intervals", {}).items():
        print(f"  {name}: {low:.4g} to {high:.4g}   ({level:.0%} interval)")
    for p in row["predictions"]:
        between = "" if "interval" not in p else "   ({:.4f} to {:.4f})".format(*p["interval"])
        note = "   (extrapolation)" if p["extrapolation"] else ""
        print(f"  at {p['compute']:g}: {p['error']:.4f}{between}{note}")
    for warning in row["warnings"]:
        print(f"  note: {warning}")
