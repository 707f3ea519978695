"""Reports: a study's files, and the page about anybody's results."""

import dataclasses
import json
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from keras_vit_scale.atomic import replacing, write_text
from keras_vit_scale.formats import with_format
from keras_vit_scale.planning import tpuv3_core_days
from keras_vit_scale.scaling.chart import COSTS, axes_of, cell
from keras_vit_scale.scaling.config import StudyConfig, StudyError, dump_config, load_config
from keras_vit_scale.scaling.evidence import Evidence
from keras_vit_scale.scaling.figure import draw_findings
from keras_vit_scale.scaling.findings import Findings, describe, find, next_steps
from keras_vit_scale.scaling.page import Section, number, page, table
from keras_vit_scale.scaling.results import by_data_size, study_results

#: Level of the intervals of a study's page.
LEVEL = 0.9

#: What a study's page tells of each result.
TOLD = [
    "size", "seed", "data_size", "steps", "images_seen", "parameters", "flops", "tpuv3_core_days",
    "error", "error_sd", "upstream_error",
]  # fmt: skip


def write_report(out: str | Path) -> list[Findings]:
    """Writes a study's results, laws, picture and page, and returns its findings.

    A law is fitted for each task and number of shots; the picture shows the most
    shots of each task. The page holds all that it needs and opens without a network.
    Where the runs are not there, `results.csv` is enough.

    Returns:
        Findings, by task and ascending shots.

    Raises:
        StudyError: If the folder holds no study, or no result yet.
    """
    out = Path(out)
    config = load_config(out / "study.yaml")
    results = study_results(out)
    if results.empty:
        raise StudyError(
            f"{out} holds no finished result yet: run `keras-vit-scale study run` with it first."
        )
    write_text(out / "results.csv", results.to_csv(index=False))
    cases = results[["task", "shots"]].drop_duplicates().itertuples(index=False)
    findings = [find(results, task, shots) for task, shots in cases]
    write_text(out / "law.json", json.dumps(laws_as_json(findings), indent=1, allow_nan=False))
    with replacing(out / "frontier.png", ".png") as picture:
        draw_findings(most_shots(findings)).savefig(picture, dpi=150)
    write_text(out / "report.html", study_page(config, results, findings))
    return findings


def most_shots(findings: list[Findings]) -> list[Findings]:
    """Of each task the findings with the most shots."""
    return list({f.task: f for f in sorted(findings, key=lambda f: f.shots)}.values())


def laws_as_json(findings: list[Findings]) -> dict[str, Any]:
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
            entry["law"] = f.law.name
            entry["flops"] = dataclasses.asdict(f.law)
            entry["tpuv3_core_days"] = dataclasses.asdict(f.law.in_unit(tpuv3_core_days(1.0)))
            entry["notes"] = f.evidence.notes
            if f.evidence.fit is not None:
                entry["level"] = LEVEL
                entry["intervals"] = f.evidence.fit.parameter_intervals(LEVEL)
        laws.append(entry)
    formulas = {f.law.formula for f in findings if f.law is not None}
    written = " or ".join(sorted(f"error = {formula}, C compute" for formula in formulas))
    return with_format("laws", {"law": written or "none", "laws": laws})


def study_page(config: StudyConfig, results: pd.DataFrame, findings: list[Findings]) -> str:
    """A study's report as one HTML page; everything from the study is escaped."""
    sections = []
    for f in findings:
        columns = results.loc[f.evidence.points.index - 2]
        columns = columns[[c for c in TOLD if c in columns and columns[c].notna().any()]]
        sections.append(
            Section(
                name=f"task {f.task}, shots {f.shots}",
                title=f.measure[0].upper() + f.measure[1:],
                measure=f.measure,
                found=describe(f),
                evidence=f.evidence,
                axes=axes_of(
                    f.evidence, columns, "flops", ("tpuv3_core_days", "images_seen", "parameters")
                ),
                columns=columns,
                source="results.csv",
                advice=next_steps(f),
            )
        )
    shown = [c for c in ("task", "shots", *TOLD) if c in results and results[c].notna().any()]
    rows = [[cell(v) for v in row] for row in results[shown].itertuples(index=False)]
    more = [
        *_bottlenecks(results, findings),
        ("Learning rates", f"<p>{escape(config.recipe.rates_chosen)}</p>"),
        (
            "Results",
            "<p>The error is the mean over the choices of the few examples, error_sd its standard "
            "deviation. A training step counts as three forward passes; a TPUv3 core is taken at "
            "the speed that the published cost of g/14 implies.</p>"
            f'<div class="all">{table(shown, rows, "All results are in results.csv.")}</div>',
        ),
        ("Configuration", f"<pre>{escape(dump_config(config))}</pre>"),
    ]
    backends = (
        ", backend " + ", ".join(sorted(set(results["backend"]))) if "backend" in results else ""
    )
    run = [c for c in ("size", "seed", "data_size") if c in results]
    sizes, trunks = results["size"].nunique(), len(results[run].drop_duplicates())
    return page(
        "Scaling study",
        f"{sizes} sizes, {trunks} trunks, {results['steps'].nunique()} durations.",
        sections,
        more="\n".join(f"<section><h2>{title}</h2>{body}</section>" for title, body in more),
        made=_made() + backends,
        level=LEVEL,
    )


def _bottlenecks(results, findings):
    """A part of the page on how much data help, where the study has several amounts."""
    parts = []
    for f in most_shots(findings):
        held = by_data_size(results, f.task, f.shots)
        if held.empty:
            continue
        gains = held[["from_size", "from_data"]].map(lambda g: "" if g != g else f"{g:.1%}")
        rows = [
            [str(size), f"{data:,}", f"{best:.3f}", f"{seen:,}", *gain, verdict]
            for size, data, best, seen, gain, verdict in zip(
                held["size"], held["data"], held["best"], held["images_at_best"],
                gains.itertuples(index=False), held["bottleneck"], strict=True,
            )
        ]  # fmt: skip
        columns = [
            "size", "training images", "best error", "images seen", "from the next size",
            "from more data", "bottleneck",
        ]  # fmt: skip
        parts.append(table(columns, rows, f"{f.measure[0].upper()}{f.measure[1:]}."))
    if not parts:
        return []
    told = (
        "<p>What the next larger model, or the next larger part of the data, takes off the best "
        "error, in logarithm and over the images that both have seen; below 3 % it counts as "
        "none. Laws are fitted to the runs on all images.</p>"
    )
    return [("Size or data", told + "\n".join(parts))]


def law_section(
    name: str,
    evidence: Evidence,
    columns: pd.DataFrame,
    source: str,
    *,
    compute: str,
    error: str,
    axes: Sequence[str] = (),
    at: Sequence[float] = (),
) -> Section:
    """What a page says of one group of anybody's results.

    Args:
        name: Of the group; "all" if there is only one.
        evidence: Its results and law.
        columns: The rows of the table they come from.
        source: The file; the page tells its name alone.
        compute, error: Names of the columns.
        axes: Columns to draw along, besides; by default what looks like a cost.
        at: Compute to predict the error at.
    """
    best, on = evidence.best, evidence.points.iloc[evidence.frontier]
    found = [
        f"Best: {error} {best['error']:.4g} for {number(best['compute'])} {compute} "
        f"(line {best.name}).",
        f"Frontier: {len(on):,} of {len(evidence.points):,} results, "
        f"error {on['error'].iloc[0]:.3g} to {on['error'].iloc[-1]:.3g} over a factor of "
        f"{number(on['compute'].iloc[-1] / on['compute'].iloc[0])} in {compute}.",
    ]
    if evidence.law is None:
        found.append(f"No law: {evidence.refused}")
    else:
        found.append(f"Law: {evidence.law}, C in {compute}.")
    if evidence.fit is not None:
        found.append(
            f"Noise: results of one run share {evidence.fit.trunk_noise:.1%}, single results have "
            f"{evidence.fit.point_noise:.1%} besides."
        )
    return Section(
        name=name,
        title=f"{error} against {COSTS.get(compute, compute)}" if name == "all" else name,
        measure=error,
        found=found,
        evidence=evidence,
        axes=axes_of(evidence, columns, compute, axes or None),
        columns=columns,
        source=Path(source).name,
        at=at,
    )


def law_page(sections: Sequence[Section], level: float) -> str:
    """The page about anybody's results."""
    results = sum(len(s.evidence.points) for s in sections)
    return page(
        "Scaling laws",
        f"{results:,} results of {', '.join(dict.fromkeys(s.source for s in sections))}.",
        sections,
        made=_made(),
        level=level,
    )


def _made():
    import keras_vit_scale

    return f"keras_vit_scale {keras_vit_scale.__version__}, Python {platform.python_version()}"
