"""A page about laws: one HTML file with its charts, that opens anywhere and asks no network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any, cast

import numpy as np
import pandas as pd

from keras_vit_scale.scaling.chart import Axis, cell, chart
from keras_vit_scale.scaling.evidence import Evidence
from keras_vit_scale.scaling.law import Law

#: Amounts of compute to predict for, as factors of the most there is.
FACTORS = (1, 2, 4, 10)

#: Most rows of a table on the page.
MOST_ROWS = 200

#: What the parameters of the laws say.
MEANINGS = {
    "a": "scale",
    "b": "exponent: how fast the error falls",
    "c": "floor: the error that endless compute leaves",
    "d": "shift: the compute that a model without training is worth",
    "e0": "ceiling: the error without training",
}

#: The page may run what is written in it and nothing else: no address is ever asked for anything.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


@dataclass(frozen=True)
class Section:
    """What the page says of one measure.

    Args:
        name: Of the results, as they were divided.
        title: What it measures.
        measure: Name of the error, for axes.
        found: What was found, a sentence each.
        evidence: Results and law.
        axes: What the chart can be drawn along.
        columns: What is told of each result when it is pointed at.
        source: Where the results are from.
        advice: What to try next, a sentence each.
        at: Amounts of compute to predict the error at, on the first axis.
    """

    name: str
    title: str
    measure: str
    found: Sequence[str]
    evidence: Evidence
    axes: Sequence[Axis]
    columns: pd.DataFrame
    source: str
    advice: Sequence[str] = ()
    at: Sequence[float] = ()


def page(
    title: str, lead: str, sections: Sequence[Section], *, more: str = "", made: str, level: float
) -> str:
    """The page. All that it is given is escaped but `more`, which is HTML.

    Args:
        title, lead: Its heading and the sentence below.
        sections: One a law.
        more: Further sections.
        made: What made the page, for its foot.
        level: Of all intervals.
    """
    from plotly.offline import get_plotlyjs

    charts = [
        {"measure": s.measure, **chart(s.evidence, s.axes, s.columns, s.source, level)}
        for s in sections
    ]
    # Inside a script element "<" could end it.
    numbers = json.dumps(charts, allow_nan=False).replace("<", "\\u003c")
    parts = [_section(i, s, charts[i], level) for i, s in enumerate(sections)]
    style, script = (
        resources.files("keras_vit_scale.scaling").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{_overview(sections) if len(sections) > 1 else ""}
{"".join(parts)}
{more}
<footer>{escape(made)}</footer>
<script type="application/json" id="charts">{numbers}</script>
<script>
{script}</script>
</body>
</html>
"""


def sentences(lines: Sequence[str], kind: str = "") -> str:
    """A list in HTML."""
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table in HTML, of at most `MOST_ROWS`."""
    left_out = len(rows) - MOST_ROWS
    if left_out > 0:
        caption += f" The first {MOST_ROWS} of {len(rows):,} rows."
    rows = rows[:MOST_ROWS]
    # Words are read from the left, numbers compared from the right.
    looks = [
        "" if any(c.isdigit() for row in rows for c in row[i]) else ' class="text"'
        for i in range(len(header))
    ]
    head = "".join(
        f'<th scope="col"{look}>{escape(name)}</th>'
        for name, look in zip(header, looks, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{look}>{escape(t)}</td>" for t, look in zip(row, looks, strict=True))
        + "</tr>\n"
        for row in rows
    )
    told = f"<caption>{escape(caption.strip())}</caption>" if caption else ""
    return (
        f'<div class="table" tabindex="0"><table>{told}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def number(value: float) -> str:
    """A number as a table shows it: whole ones in full, others with three digits."""
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3g}"


def _overview(sections):
    """A row for each section, leading to it."""
    rows = []
    for i, s in enumerate(sections):
        law = s.evidence.law
        rows.append(
            f'<tr><td><a href="#law-{i}">{escape(s.title)}</a></td>'
            f"<td>{s.evidence.best['error']:.4f}</td>"
            f'<td class="text">{escape(str(law) if law else "none")}</td>'
            f"<td>{f'{law.rms_log_error:.1%}' if law else ''}</td></tr>"
        )
    return f"""<nav class="table"><table>
<thead><tr><th scope="col">Measure</th><th scope="col">Best error</th>
<th scope="col" class="text">Law</th><th scope="col">Off (rms)</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table></nav>"""


def _section(i, s, shown, level):
    parts = [f'<section data-chart="{i}" id="law-{i}">', f"<h2>{escape(s.title)}</h2>"]
    parts.append(sentences(s.found, "answer"))
    notes = list(s.evidence.notes)
    total, drawn = len(s.evidence.points), len(shown["error"])
    if drawn < total:
        notes.append(
            f"Drawn are {drawn:,} of {total:,} results: the frontier, what the law was fitted "
            "to, and a random part of the others. Laws and tables are of all."
        )
    if notes:
        parts.append(f'<div class="notes" role="note">{sentences(notes)}</div>')
    if len(s.axes) > 1:
        choices = "".join(
            f'<label><input type="radio" name="axis-{i}" value="{j}" autocomplete="off"'
            f"{' checked' if j == 0 else ''}>{escape(shown['axes'][j]['title'])}</label>"
            for j in range(len(s.axes))
        )
        parts.append(f"<fieldset><legend>Along</legend>{choices}</fieldset>")
    told = (
        f"{s.title}, by size, with frontier, law and residuals; the tables below hold the numbers"
    )
    parts.append(f'<div class="frontier" role="img" aria-label="{escape(told)}"></div>')
    parts.append("<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>")
    parts += [_law(j, axis, s.at if j == 0 else (), level) for j, axis in enumerate(s.axes)]
    parts.append(_frontier(s))
    if s.advice:
        parts.append(f"<h3>What to try next</h3>{sentences(s.advice)}")
    return "\n".join([*parts, "</section>\n"])


def _law(j, axis, at, level):
    """Law, parameters and predictions along one axis."""
    law = axis.law
    if law is None:
        why = "The results show no law." if axis.evidence else "The law is of another quantity."
        return f'<p data-axis="{j}" class="lead">{why} Only the frontier is marked.</p>'
    intervals = axis.parameter_intervals(level) if axis.fit is not None else {}
    parameters = [
        [
            name,
            number(getattr(law, name)),
            "{} to {}".format(*map(number, intervals[name])) if intervals else "none",
            MEANINGS.get(name, ""),
        ]
        for name in law.parameters
    ]
    most = law.compute_range[1]
    rows = []
    for x in sorted({*(most * f for f in FACTORS), *at}):
        row = [number(x), f"{law.predict(x):.4f}"]
        if intervals:
            for run in (False, True):
                row.append("{:.4f} to {:.4f}".format(*axis.interval(x, level, run=run)))
        rows.append([*row, "extrapolated" if law.extrapolates(x) else "within the results"])
    between = [f"{level:.0%} interval", f"{level:.0%} for one more run"] if intervals else []
    return (
        f'<div data-axis="{j}"><p class="law">{escape(str(law))}</p>'
        f"<p>C: {escape(axis.title)}. The law's {law.points:,} points lie "
        f"{law.rms_log_error:.1%} off (rms), as the lower part of the chart shows: a law that fits "
        "leaves no bend there.</p>\n"
        + table(
            ["Parameter", "Value", f"{level:.0%} interval", "Meaning"], parameters, "Parameters."
        )
        + table([axis.title, "Expected error", *between, ""], rows, "What more would bring.")
        + "</div>"
    )


def _frontier(s):
    """The results on the frontier, with what the law says of each."""
    on = s.evidence.frontier
    law = s.evidence.law
    # By position, since a table of others may have a name twice.
    columns = [i for i, c in enumerate(s.columns.columns) if c not in (s.measure, "error")][:8]
    rows = []
    for i in on:
        point = s.evidence.points.iloc[i]
        row = [str(s.evidence.points.index[i]), f"{point['error']:.4f}"]
        if law is not None:
            row.append(f"{point['error'] / law.predict(point['compute']) - 1:+.1%}")
        rows.append([*row, *(cell(v) for v in s.columns.iloc[i, columns])])
    header = ["line", "error", *(["off the law"] if law is not None else [])]
    header += [cell(c) for c in s.columns.columns[columns]]
    return "<h3>The frontier</h3>" + table(
        header, rows, f"Results that none beats with less; lines are of {cell(s.source)}."
    )


def predicted_rows(axis: Axis, at: Sequence[float], level: float) -> list[dict[str, Any]]:
    """The law's predictions as JSON holds them; there must be a law."""
    law, rows = cast(Law, axis.law), []
    for x in at:
        row: dict[str, Any] = {
            "compute": x,
            "error": float(law.predict(x)),
            "extrapolation": law.extrapolates(x),
        }
        if axis.fit is not None:
            row["interval"] = [float(end) for end in np.asarray(axis.interval(x, level))]
        rows.append(row)
    return rows
