"""The command `keras-vit-scale`: one function a verb, each a few calls of the library.

Exit codes: 0 done; 1 a fault of the program; 2 a mistake in the call, its files or its data,
told in one line; 130 interrupted.
"""

import contextlib
import dataclasses
import functools
import io
import json as json_module
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tyro.conf import Positional, arg

import keras_vit_scale
from keras_vit_scale.models import SIZES, TABLE_2, preset
from keras_vit_scale.planning import forward_flops, parameters

PROGRAM = "keras-vit-scale"


def command(app: tyro.extras.SubcommandApp, name: str):
    """Registers a function so that parsing returns it with its arguments, not yet called."""

    def register(function):
        @functools.wraps(function)
        def parsed(*args, **kwargs):
            return functools.partial(function, *args, **kwargs)

        app.command(parsed, name=name)
        return function

    return register


app = tyro.extras.SubcommandApp()
study_app = tyro.extras.SubcommandApp()
law_app = tyro.extras.SubcommandApp()


#: Options that replace a value of the study's file only where they are given.
_CONFIGS = arg(help_behavior_hint="(default: CONFIG's)")


@command(app, "models")
def models(
    image_size: int = 224,
    json: bool = False,
) -> None:
    """List the named sizes: shape, parameters and FLOPs.

    The first eleven are Table 2 of the paper; parameters and FLOPs are those of the trunk,
    without pooling and classifier, FLOPs those of one image forward.

    For example:

      keras-vit-scale models
      keras-vit-scale models --image-size 384 --json

    Args:
        image_size: Side of the images in pixels.
        json: Print JSON instead of a table.
    """
    names = [
        *TABLE_2,
        *(f"{s}/14" for s in SIZES if not any(n.startswith(f"{s}/") for n in TABLE_2)),
    ]
    rows = []
    for name in names:
        shape = preset(name)
        rows.append(
            {
                "name": name,
                **dataclasses.asdict(shape),
                "parameters": parameters(shape, image_size),
                "forward_flops": forward_flops(shape, image_size),
            }
        )
    if json:
        print(json_module.dumps(rows, indent=1))
        return
    table = Table(title=f"Vision Transformers at {image_size} pixels", title_justify="left")
    for title in ("name", "width", "depth", "MLP", "heads", "patch", "M parameters", "GFLOPs"):
        table.add_column(title, justify="left" if title == "name" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            *(str(row[k]) for k in ("width", "depth", "mlp_dim", "heads", "patch_size")),
            f"{row['parameters'] / 1e6:,.4g}",
            f"{row['forward_flops'] / 1e9:,.4g}",
        )
    Console().print(table)
    print("Build one with keras_vit_scale.ViT(name), or keras_vit_scale.ViT_B16() and its like.")


@command(study_app, "run")
def study_run(
    config: Annotated[Positional[str], arg(metavar="CONFIG")] = "digits",
    /,
    out: Path = Path("study"),
    sizes: Annotated[tuple[str, ...], _CONFIGS] = (),
    durations: Annotated[tuple[int, ...], _CONFIGS] = (),
    seeds: Annotated[tuple[int, ...], _CONFIGS] = (),
    upstream: Annotated[str, _CONFIGS] = "",
    downstream: Annotated[tuple[str, ...], _CONFIGS] = (),
    held_out: Annotated[int | None, _CONFIGS] = None,
    held_out_classes: Annotated[tuple[str, ...], _CONFIGS] = (),
    image_size: Annotated[int | None, _CONFIGS] = None,
    batch_size: Annotated[int | None, _CONFIGS] = None,
    peak: Annotated[float | None, _CONFIGS] = None,
    peaks: Annotated[dict[str, float], _CONFIGS] = {},  # noqa: B006  (never written)
    json: bool = False,
) -> None:
    """Train, cool down and probe every size of a study; then fit its law and report.

    CONFIG is a YAML file or a built-in study; options replace what it says, and study.yaml in
    the folder records the outcome. Interrupted, the same command goes on where it stopped;
    with more sizes, durations or seeds it runs what is missing.

    For example:

      keras-vit-scale study run
      keras-vit-scale study run digits --out my_study --durations 100 400 1600
      keras-vit-scale study run digits --seeds 0 1 --held-out-classes 7 8 9
      keras-vit-scale study run my_study.yaml --upstream photos/ --held-out 2000

    Args:
        config: A YAML file, or the name of a built-in study: digits.
        out: Folder of the study, made if need be.
        sizes: Models to compare: presets such as S/16, or shapes that CONFIG names.
        durations: Steps at which cooldowns end.
        seeds: One trunk a size for each.
        upstream: Training images: digits, a folder of class folders, or an .npz file.
        downstream: Probe images: other data sets, in place of CONFIG's choice.
        held_out: Probe images: how many random ones of upstream, in place of CONFIG's choice.
        held_out_classes: Probe images: those of these classes of upstream.
        image_size: Side of the images in pixels.
        batch_size: Images a step.
        peak: Peak learning rate of all sizes; drops the rates of single sizes in CONFIG.
        peaks: Peak rates of single sizes: S/16 0.001 B/16 0.0008.
        json: Print the findings as JSON; nothing else goes to standard output.
    """
    from keras_vit_scale.scaling.config import load_config
    from keras_vit_scale.scaling.study import run_study

    study = _override(
        load_config(config),
        {"sizes": sizes, "durations": durations, "seeds": seeds, "image_size": image_size},
        {"upstream": upstream},
        {"downstream": downstream, "held_out": held_out, "held_out_classes": held_out_classes},
        {"batch_size": batch_size, "peak": peak, "peaks": peaks},
    )
    with _StepBar() as bar:
        run_study(study, out, bar.update)
    _report(out, json)


class _StepBar:
    """Shows a study's progress: a bar in a terminal, a line for each stretch in a log.

    An interrupt stops the study where progress is next told, between two steps: raised at
    any moment, it could strike a backend's C++ code, which aborts, or a callback of the
    garbage collector, which swallows it. A second interrupt acts at once.
    """

    def __init__(self):
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("", total=None)
        self.doing = None
        self.interrupted = False

    def _interrupt(self, *_) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self.earlier_handler)
        print(f"{PROGRAM}: stopping after this step", file=sys.stderr)

    def update(self, progress) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        if self.console.is_terminal:
            # Started with the first step, so that a mistake is told on a line of its own.
            self.bar.start()
            self.bar.update(
                self.task,
                description=progress.doing,
                completed=progress.done_steps,
                total=progress.total_steps,
            )
        elif progress.doing != self.doing:
            self.doing = progress.doing
            self.console.print(
                f"{progress.done_steps}/{progress.total_steps} steps: {progress.doing}",
                highlight=False,
                soft_wrap=True,
            )

    def __enter__(self):
        self.earlier_handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, self.earlier_handler)
        self.bar.stop()


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


@command(study_app, "report")
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
        print(json_module.dumps({"folder": str(out), **laws_as_json(findings)}, indent=1))
        return
    console = Console()
    for shown in most_shots(findings):
        _show(shown, console)
    console.print(
        f"Written: {out}/report.html, frontier.png, law.json, results.csv",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _show(findings, console: Console) -> None:
    """Prints a table of errors, what was found, and what to try next."""
    from keras_vit_scale.scaling.findings import advise, describe

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
    for title, lines in (("Found", describe(findings)), ("Try next", advise(findings))):
        console.print(f"[bold]{title}[/]")
        for line in lines:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


@command(law_app, "fit")
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


app.command(study_app, name="study", help="Scaling studies: many sizes, many durations, one law.")
app.command(law_app, name="law", help="Laws of error against compute, for anybody's results.")


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    # Libraries' notes (matplotlib's fonts, XLA's devices) are no part of the output.
    logging.getLogger().setLevel(logging.ERROR)
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            parsed = app.cli(
                prog=PROGRAM,
                args=list(arguments),
                description="Vision Transformers at scale: sizes, scaling studies, laws. "
                f"Version {keras_vit_scale.__version__}.",
            )
    except SystemExit as stop:
        if stop.code:
            print(f"{PROGRAM}: error: {_one_line(messages.getvalue())}", file=sys.stderr)
        return int(stop.code or 0)
    try:
        parsed()
    except KeyboardInterrupt:
        print(
            f"{PROGRAM}: interrupted; what was finished is kept, the same command goes on.",
            file=sys.stderr,
        )
        return 130
    except _mistakes() as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _mistakes() -> tuple[type[Exception], ...]:
    """What a user can mend: told in a line, without a traceback."""
    from keras_vit_scale.scaling.config import StudyError

    return (ValueError, OSError, StudyError)


def _one_line(box: str) -> str:
    """tyro's message about a mistake, which is a box of several lines, as one line."""
    lines = [line.strip("╭╮╰╯│─ ") for line in box.splitlines() if not line.startswith("╭")]
    lines = [text for text in lines if text.strip("-")]
    kept, suggesting = [], False
    for text in lines:
        if text.startswith(("For full helptext", "Argument helptext")):
            break
        # Of a suggested option its name is enough, without its help.
        if not suggesting or text.startswith("--"):
            kept.append(text)
        suggesting = suggesting or text.startswith("Perhaps you meant")
    return " ".join(dict.fromkeys(kept)) + f" (see {PROGRAM} --help)"
