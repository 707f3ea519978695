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
    all_points: bool = False,
    at: tuple[float, ...] = (),
    figure: Path | None = None,
    json: bool = False,
) -> None:
    """Fit the law E = a (C + d)^-b + c to the frontier of a CSV file.

    For example:

      keras-vit-scale law fit my_study/results.csv
      keras-vit-scale law fit runs.csv --compute gpu_hours --error val_error --at 1000 10000
      keras-vit-scale law fit runs.csv --figure law.png --json

    Args:
        results: A CSV file with a header, one result a row.
        compute: Column of compute, in any unit; the law is in that unit.
        error: Column of errors, in (0, 1].
        by: A column that divides the rows; each group gets a law of its own. Columns "task" and
            "shots" with several values do so unasked.
        all_points: Fit to all points instead of the Pareto frontier.
        at: Also predict the error at these amounts of compute.
        figure: Draw points and law to this file (.png, .pdf, .svg); needs a single group.
        json: Print JSON.
    """
    from keras_vit_scale.scaling.frontier import pareto_frontier
    from keras_vit_scale.scaling.law import fit_law
    from keras_vit_scale.scaling.results import read_points

    groups = read_points(results, compute, error, by or None)
    if figure is not None and len(groups) > 1:
        raise ValueError(f"A figure shows one group. Received: {', '.join(groups)}")
    rows = []
    for name, (x, y) in groups.items():
        chosen = slice(None) if all_points else pareto_frontier(x, y)
        try:
            law = fit_law(x[chosen], y[chosen])
        except ValueError as reason:
            where = str(results) if name == "all" else f"{results}, {name}"
            among = "points" if all_points else "points on the frontier"
            raise ValueError(f"{where}, {len(x[chosen])} {among} of {len(x)}: {reason}") from None
        rows.append(
            {
                "group": name,
                **dataclasses.asdict(law),
                "predictions": [
                    {
                        "compute": c,
                        "error": float(law.predict(c)),
                        "extrapolation": law.extrapolates(c),
                    }
                    for c in at
                ],
            }
        )
        if figure is not None:
            ax = law.draw(x, y, compute_label=compute, error_label=error)
            ax.figure.savefig(figure, dpi=150)
    if json:
        print(json_module.dumps(rows, indent=1))
        return
    for row in rows:
        prefix = "" if row["group"] == "all" else f"{row['group']}: "
        print(
            f"{prefix}E = {row['c']:.4g} + {row['a']:.4g} (C + {row['d']:.4g})^-{row['b']:.4g}"
            f"   ({row['points']} points, {row['rms_log_error']:.1%} off, rms)"
        )
        for p in row["predictions"]:
            note = "   (extrapolation)" if p["extrapolation"] else ""
            print(f"  at {p['compute']:g}: {p['error']:.4f}{note}")
