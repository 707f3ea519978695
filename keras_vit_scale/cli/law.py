"""`law fit`: the law of anybody's results."""

import dataclasses
import json as json_module
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def law_fit(
    results: Positional[Path],
    /,
    compute: str = "flops",
    error: str = "error",
    by: Annotated[str, arg(metavar="COLUMN")] = "",
    trunk: Annotated[str, arg(metavar="COLUMN")] = "",
    size: Annotated[str, arg(metavar="COLUMN")] = "",
    weight: Annotated[str, arg(metavar="COLUMN")] = "",
    law: str = "",
    all_points: bool = False,
    at: tuple[float, ...] = (),
    level: float = 0.9,
    figure: Path | None = None,
    json: bool = False,
) -> None:
    """Fit the law E = a (C + d)^-b + c to the frontier of a CSV file.

    For example:

      keras-vit-scale law fit my_study/results.csv
      keras-vit-scale law fit runs.csv --compute gpu_hours --error val_error --at 1000 10000
      keras-vit-scale law fit runs.csv --trunk run --size model --at 1e20 --json

    Args:
        results: A CSV file with a header, one result a row.
        compute: Column of compute, in any unit; the law is in that unit.
        error: Column of errors, in (0, 1].
        by: A column that divides the rows; each group gets a law of its own. Columns "task" and
            "shots" with several values do so unasked.
        trunk: Column that names what shares one run, such as size and seed. With it the law is
            corrected for the luck that a frontier selects, and comes with intervals.
        size: Column that names the size, with --trunk: trunks of one size are repeats.
        weight: Column of what each row counts, without --trunk.
        law: The form: "power", "power+floor", "double-saturating" (the default) or "sigmoidal".
        all_points: Fit to all points instead of the Pareto frontier.
        at: Also predict the error at these amounts of compute.
        level: Of the intervals.
        figure: Draw points and law to this file (.png, .pdf, .svg); needs a single group.
        json: Print JSON.
    """
    from keras_vit_scale.scaling.bootstrap import fit_frontier, tails
    from keras_vit_scale.scaling.fit import fit_law
    from keras_vit_scale.scaling.forms import DEFAULT_LAW, law_class
    from keras_vit_scale.scaling.frontier import pareto_frontier
    from keras_vit_scale.scaling.results import read_groups

    if trunk and (weight or all_points):
        raise ValueError(
            "--trunk selects frontiers of unweighted results: leave --weight and --all-points out"
        )
    if size and not trunk:
        raise ValueError("--size says which trunks are repeats: give --trunk too")
    law = law or DEFAULT_LAW
    law_class(law), tails(level)
    columns = {"weight": weight or None, "trunk": trunk or None, "size": size or None}
    groups = read_groups(results, compute, error, by or None, **columns)
    if figure is not None and len(groups) > 1:
        raise ValueError(f"A figure shows one group. Received: {', '.join(groups)}")
    rows = []
    for name, points in groups.items():
        x, y = points["compute"].to_numpy(), points["error"].to_numpy()
        chosen = slice(None) if all_points else pareto_frontier(x, y)
        intervals = None
        try:
            if trunk:
                intervals = fit_frontier(x, y, points["trunk"], points.get("size"), law=law)
                fitted = intervals.law
            else:
                counts = points["weight"].to_numpy()[chosen] if weight else None
                fitted = fit_law(x[chosen], y[chosen], law=law, weights=counts)
        except ValueError as reason:
            where = str(results) if name == "all" else f"{results}, {name}"
            among = "points" if all_points else "points on the frontier"
            raise ValueError(f"{where}, {len(x[chosen])} {among} of {len(x)}: {reason}") from None
        rows.append(_row(name, fitted, intervals, at, level))
        if figure is not None:
            ax = fitted.draw(x, y, compute_label=compute, error_label=error)
            ax.figure.savefig(figure, dpi=150)
    if json:
        print(json_module.dumps(rows, indent=1))
        return
    for row in rows:
        _print(row, level)


def _row(name, fitted, intervals, at, level):
    """One group's law as JSON holds it."""
    row = {"group": name, "law": fitted.name, "text": str(fitted), **dataclasses.asdict(fitted)}
    if intervals is not None:
        row["warnings"] = intervals.warnings
        row["intervals"] = intervals.parameter_intervals(level)
        row["trunk_noise"] = intervals.trunk_noise
    row["predictions"] = []
    for c in at:
        predicted = {
            "compute": c,
            "error": float(fitted.predict(c)),
            "extrapolation": fitted.extrapolates(c),
        }
        if intervals is not None:
            predicted["interval"] = [float(end) for end in intervals.interval(c, level)]
        row["predictions"].append(predicted)
    return row


def _print(row, level):
    prefix = "" if row["group"] == "all" else f"{row['group']}: "
    print(f"{prefix}{row['text']}   ({row['points']} points, {row['rms_log_error']:.1%} off, rms)")
    for name, (low, high) in row.get("intervals", {}).items():
        print(f"  {name}: {low:.4g} to {high:.4g}   ({level:.0%} interval)")
    for p in row["predictions"]:
        between = "" if "interval" not in p else "   ({:.4f} to {:.4f})".format(*p["interval"])
        note = "   (extrapolation)" if p["extrapolation"] else ""
        print(f"  at {p['compute']:g}: {p['error']:.4f}{between}{note}")
    for warning in row["warnings"]:
        print(f"  note: {warning}")
