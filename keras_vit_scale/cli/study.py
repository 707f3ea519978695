"""`study run` and `study report`: scaling studies."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg

from keras_vit_scale.cli.devices import ONE, Devices, training_on
from keras_vit_scale.cli.output import print_json, tell
from keras_vit_scale.cli.progress import StepBar
from keras_vit_scale.processes import is_first
from keras_vit_scale.training.stopping import Stopping

if TYPE_CHECKING:
    from keras_vit_scale.scaling.findings import Findings

#: Options that replace a value of the study's file only where they are given.
_CONFIGS = arg(help_behavior_hint="(default: CONFIG's)")


def study_run(
    config: Annotated[Positional[str], arg(metavar="CONFIG")] = "digits",
    /,
    out: Path = Path("study"),
    sizes: Annotated[tuple[str, ...], _CONFIGS] = (),
    durations: Annotated[tuple[int, ...], _CONFIGS] = (),
    seeds: Annotated[tuple[int, ...], _CONFIGS] = (),
    data_sizes: Annotated[tuple[int, ...], _CONFIGS] = (),
    upstream: Annotated[str, _CONFIGS] = "",
    downstream: Annotated[tuple[str, ...], _CONFIGS] = (),
    held_out: Annotated[int | None, _CONFIGS] = None,
    held_out_classes: Annotated[tuple[str, ...], _CONFIGS] = (),
    exclude: Annotated[str, _CONFIGS] = "",
    links: Annotated[Literal["refuse", "follow"] | None, _CONFIGS] = None,
    image_size: Annotated[int | None, _CONFIGS] = None,
    batch_size: Annotated[int | None, _CONFIGS] = None,
    peak: Annotated[float | None, _CONFIGS] = None,
    peaks: Annotated[dict[str, float], _CONFIGS] = {},  # noqa: B006  (never written)
    checkpoint_every: Annotated[int | None, _CONFIGS] = None,
    time_limit: str | None = None,
    grace: float = 25.0,
    devices: Annotated[Devices, OmitArgPrefixes] = ONE,
    json: bool = False,
) -> None:
    """Train, cool down and probe every size of a study; then fit its law and report.

    CONFIG is a YAML file or a built-in study; options replace what it says, and study.yaml in
    the folder records the outcome. Interrupted or killed, the same command goes on from the
    last checkpoint; with more sizes, durations, seeds or data sizes it runs what is missing. Run
    it several times at once, on one machine or several with a shared folder, and they share the
    work.
    SIGTERM, SIGINT (Ctrl-C) and the time limit save the present step first; the exit code is
    then 75, or 130 for SIGINT.

    For example:

      keras-vit-scale study run
      keras-vit-scale study run digits --out my_study --durations 100 400 1600
      keras-vit-scale study run digits --seeds 0 1 --held-out-classes 7 8 9
      keras-vit-scale study run digits --out less_data --data-sizes 75 300
      keras-vit-scale study run my_study.yaml --upstream photos/ --held-out 2000
        --exclude clean/excluded.parquet

    Args:
        config: A YAML file, or the name of a built-in study: digits.
        out: Folder of the study, made if need be.
        sizes: Models to compare: presets such as S/16, or shapes that CONFIG names.
        durations: Steps at which cooldowns end.
        seeds: One trunk a size for each.
        data_sizes: One trunk besides for each of these numbers of training images.
        upstream: Training images: digits, a folder of class folders, .npz file, tfds:NAME@SPLIT.
        downstream: Probe images: other data sets, in place of CONFIG's choice.
        held_out: Probe images: how many random ones of upstream, in place of CONFIG's choice.
        held_out_classes: Probe images: those of these classes of upstream.
        exclude: Leave out the images of this list, which dedup wrote for upstream.
        links: Symbolic links that lead out of a folder of images: refuse or follow them.
        image_size: Side of the images in pixels.
        batch_size: Images a step.
        peak: Peak learning rate of all sizes; drops the rates of single sizes in CONFIG.
        peaks: Peak rates of single sizes: S/16 0.001 B/16 0.0008.
        checkpoint_every: Steps between checkpoints of trunks and cooldowns on their way.
        time_limit: Stop early enough to have saved by then: 3600, 90m, 1h30m, 11:30:00.
        grace: Seconds from a signal to the end of the process, saved or not.
        devices: Where to train.
        json: Print the findings as JSON; nothing else goes to standard output.
    """
    from keras_vit_scale.scaling.config import load_config
    from keras_vit_scale.scaling.study import run_study

    study = _override(
        load_config(config),
        {
            "sizes": sizes,
            "durations": durations,
            "seeds": seeds,
            "data_sizes": data_sizes,
            "image_size": image_size,
            "checkpoint_every": checkpoint_every,
        },
        {"upstream": upstream, "exclude": exclude, "links": links},
        {"downstream": downstream, "held_out": held_out, "held_out_classes": held_out_classes},
        {"batch_size": batch_size, "peak": peak, "peaks": peaks},
    )
    with (
        training_on(devices),
        Stopping(grace=grace, time_limit=time_limit) as stopping,
    ):
        with StepBar() as bar:
            run_study(study, out, bar.update, stopping=stopping)
        if is_first():
            _report(out, json)


def _override(study, study_values, data_values, probe_images, recipe_values):
    """A study with what the command line gave, by part, in place of its own values."""

    def given(values):
        # A zero was given, and is for the study to judge.
        return {n: v for n, v in values.items() if v is not None and v not in ("", (), {})}

    data, recipe = given(data_values), given(recipe_values)
    if given(probe_images):
        # One choice of probe images replaces another.
        data |= {"downstream": (), "held_out": 0, "held_out_classes": ()}
        data |= given(probe_images)
    if "peak" in recipe:
        recipe = {"peaks": {}, **recipe}
    return dataclasses.replace(
        study,
        **given(study_values),
        data=dataclasses.replace(study.data, **data),
        recipe=dataclasses.replace(study.recipe, **recipe),
    )


def study_report(out: Positional[Path], /, json: bool = False) -> None:
    """Write results.csv, law.json, frontier.png and report.html of a study's finished runs.

    It may still be running elsewhere.

    For example:

      keras-vit-scale study report my_study
      keras-vit-scale study report my_study --json

    Args:
        out: Folder of the study.
        json: Print the findings as JSON.
    """
    _report(out, json)


def _report(out: Path, json: bool) -> None:
    from keras_vit_scale.scaling.report import laws_as_json, most_shots, write_report

    findings = write_report(out)
    if json:
        print_json({"folder": str(out), **laws_as_json(findings)})
        return
    for shown in most_shots(findings):
        _show(shown, Console())
    tell(f"Written: {out}/report.html, frontier.png, law.json, results.csv")


def _show(findings: "Findings", console: Console) -> None:
    """Prints a table of errors, what was found, and what to try next."""
    from keras_vit_scale.scaling.findings import describe, next_steps

    points = findings.points.pivot(index="size", columns="steps", values="error")
    points = points.loc[list(dict.fromkeys(findings.points["size"]))]
    edge = findings.points.iloc[findings.frontier][["size", "steps"]]
    edge = set(edge.itertuples(index=False))
    # Not the table's own title, which would be broken to the table's width.
    console.print(f"{findings.measure} by size and steps (bold: on the frontier)", style="italic")
    table = Table()
    table.add_column("size")
    for steps in points.columns:
        table.add_column(f"{steps:,}", justify="right")
    for size, row in points.iterrows():
        cells = [
            ""
            if error != error
            else f"[bold]{error:.3f}[/]"
            if (size, steps) in edge
            else f"{error:.3f}"
            for steps, error in row.items()
        ]
        table.add_row(size, *cells)
    console.print(table)
    told = {
        "Found": describe(findings),
        "Left open": findings.evidence.notes,
        "Try next": next_steps(findings),
    }
    for title, lines in told.items():
        if lines:
            console.print(f"[bold]{title}[/]")
        for line in lines:
            tell(f"  {line}")
