"""A study's files: results.csv, law.json, frontier.png and report.html, from its finished runs."""

import dataclasses
import html
import json
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from keras_vit_scale.planning import tpuv3_core_days
from keras_vit_scale.scaling.config import StudyConfig, StudyError, dump_config, load_config
from keras_vit_scale.scaling.figure import EXTRAPOLATION, draw_findings
from keras_vit_scale.scaling.findings import Findings, describe, find, next_steps
from keras_vit_scale.scaling.results import collect_results
from keras_vit_scale.training.checkpoint import write_text


def write_report(out: str | Path) -> list[Findings]:
    """Writes a study's results, laws, picture and page, and returns its findings.

    A law is fitted for each task and number of shots; the picture shows the most
    shots of each task. The page holds all that it needs and opens without a network.

    Returns:
        Findings, by task and ascending shots.

    Raises:
        StudyError: If the folder holds no study, or no result yet.
    """
    out = Path(out)
    config = load_config(out / "study.yaml")
    results = collect_results(out)
    if results.empty:
        raise StudyError(
            f"{out} holds no finished result yet: run `keras-vit-scale study run` with it first."
        )
    write_text(out / "results.csv", results.to_csv(index=False))
    cases = results[["task", "shots"]].drop_duplicates().itertuples(index=False)
    findings = [find(results, task, shots) for task, shots in cases]
    write_text(out / "law.json", json.dumps(laws_as_json(findings), indent=1, allow_nan=False))
    draw_findings(most_shots(findings)).savefig(out / "frontier.png", dpi=150)
    write_text(out / "report.html", page(config, results, findings))
    return findings


def most_shots(findings: list[Findings]) -> list[Findings]:
    """Of each task the findings with the most shots."""
    return list({f.task: f for f in sorted(findings, key=lambda f: f.shots)}.values())


def laws_as_json(findings: list[Findings]) -> dict:
    """The laws, in FLOPs and in TPUv3 core-days, or why there is none."""
    laws = []
    for f in findings:
        entry = {
            "task": f.task,
            "shots": f.shots,
            "frontier": f.points.iloc[f.frontier].to_dict("records"),
        }
        if f.law is None:
            entry["refused"] = f.refused
        else:
            entry["flops"] = dataclasses.asdict(f.law)
            entry["tpuv3_core_days"] = dataclasses.asdict(f.law.in_unit(tpuv3_core_days(1.0)))
        laws.append(entry)
    return {"format": 1, "law": "error = a (compute + d)^-b + c", "laws": laws}


def page(config: StudyConfig, results: pd.DataFrame, findings: list[Findings]) -> str:
    """The report as one HTML page; everything from the study is escaped."""
    from plotly.offline import get_plotlyjs

    import keras_vit_scale

    parts = []
    for f in findings:
        parts.append(
            f"<h2>{html.escape(f.measure)} against compute</h2>\n{_list(describe(f))}\n"
            f"{_interactive(f)}\n<h3>What to try next</h3>\n{_list(next_steps(f))}"
        )
    columns = [
        "size", "seed", "steps", "images_seen", "parameters", "flops", "tpuv3_core_days",
        "task", "shots", "error", "error_sd",
    ]  # fmt: skip
    if results["upstream_error"].notna().any():
        columns.append("upstream_error")
    table = results[columns].to_html(
        index=False,
        escape=True,
        border=0,
        formatters={
            "images_seen": "{:,}".format,
            "parameters": "{:,}".format,
            "flops": "{:.3g}".format,
            "tpuv3_core_days": "{:.3g}".format,
            "error": "{:.4f}".format,
            "error_sd": "{:.4f}".format,
            "upstream_error": "{:.4f}".format,
        },
    )
    backends = ", ".join(sorted(set(results["backend"])))
    return _PAGE.format(
        script=get_plotlyjs(),
        sections="\n".join(parts),
        table=table,
        rates=html.escape(config.recipe.rates_chosen),
        config=html.escape(dump_config(config)),
        made=html.escape(
            f"keras_vit_scale {keras_vit_scale.__version__}, Python {platform.python_version()}, "
            f"backend {backends}"
        ),
    )


def _list(sentences: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(s)}</li>' for s in sentences)}</ul>"


def _interactive(f: Findings) -> str:
    """The frontier to hover over and zoom, as an HTML fragment without Plotly itself."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for size, runs in f.points.groupby("size", sort=False):
        figure.add_scatter(
            x=runs["flops"].tolist(),
            y=runs["error"].tolist(),
            name=html.escape(str(size)),
            mode="lines+markers",
            customdata=runs[["steps", "images_seen", "tpuv3_core_days"]].to_numpy().tolist(),
            hovertemplate="%{customdata[0]:,} steps, %{customdata[1]:,} images<br>"
            "%{x:.3g} FLOPs, %{customdata[2]:.3g} TPUv3 core-days<br>error %{y:.4f}",
        )
    edge = f.points.iloc[f.frontier]
    figure.add_scatter(
        x=edge["flops"].tolist(),
        y=edge["error"].tolist(),
        name="frontier",
        mode="markers",
        hoverinfo="skip",
        marker={"size": 14, "symbol": "circle-open", "color": "black"},
    )
    if f.law is not None:
        least, most = f.law.compute_range
        for name, dash, x in (
            (f"{f.law}", "solid", np.geomspace(least, most, 120)),
            ("extrapolated", "dash", np.geomspace(most, most * EXTRAPOLATION, 40)),
        ):
            figure.add_scatter(
                x=x.tolist(),
                y=f.law.predict(x).tolist(),
                name=name,
                mode="lines",
                line={"color": "crimson", "dash": dash},
            )
    figure.update_layout(
        xaxis={"type": "log", "title": "Training compute (FLOPs)", "exponentformat": "power"},
        yaxis={"type": "log", "title": html.escape(f.measure)},
        template="plotly_white",
        height=520,
    )
    return figure.to_html(full_html=False, include_plotlyjs=False)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scaling study</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 64rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 14px; width: 100% }}
th, td {{ padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd }}
pre {{ background: #f6f6f6; padding: 1rem; overflow-x: auto }}
footer {{ color: #666; font-size: 14px }}
</style>
<script>{script}</script>
</head>
<body>
<h1>Scaling study</h1>
{sections}
<h2>How the learning rates were chosen</h2>
<p>{rates}</p>
<h2>Results</h2>
<p>The error is the mean over the choices of the few examples, error_sd its standard deviation.
A training step counts as three forward passes; a TPUv3 core is taken at the speed that the
published cost of g/14 implies.</p>
{table}
<h2>Configuration</h2>
<pre>{config}</pre>
<footer>{made}</footer>
</body>
</html>
"""
