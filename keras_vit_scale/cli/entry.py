"""From the words of a call to an exit code."""

import contextlib
import functools
import io
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tyro

import keras_vit_scale
from keras_vit_scale.cli.advise import advise
from keras_vit_scale.cli.export import export
from keras_vit_scale.cli.finetune import finetune
from keras_vit_scale.cli.judge import evaluate, fewshot
from keras_vit_scale.cli.law import law_fit
from keras_vit_scale.cli.models import models
from keras_vit_scale.cli.progress import PROGRAM
from keras_vit_scale.cli.study import study_report, study_run
from keras_vit_scale.cli.train import train
from keras_vit_scale.cli.use import embed, predict
from keras_vit_scale.training.stopping import INTERRUPTED, Stopped


@dataclass(frozen=True)
class Group:
    """Verbs under a common word."""

    help: str
    verbs: dict[str, Callable[..., None]]


#: What the command can do, in the order that its help lists.
VERBS: dict[str, Callable[..., None] | Group] = {
    "models": models,
    "train": train,
    "finetune": finetune,
    "evaluate": evaluate,
    "fewshot": fewshot,
    "predict": predict,
    "embed": embed,
    "export": export,
    "study": Group(
        "Scaling studies: many sizes, many durations, one law.",
        {"run": study_run, "report": study_report},
    ),
    "law": Group("Laws of error against compute, for anybody's results.", {"fit": law_fit}),
    "advise": advise,
}


def parser(
    verbs: Mapping[str, Callable[..., None] | Group], brief: bool = False
) -> tyro.extras.SubcommandApp:
    """The verbs for tyro; `brief` keeps of each one's help the first line.

    Parsing returns a verb with its arguments, not yet called.
    """
    app = tyro.extras.SubcommandApp()
    for name, verb in verbs.items():
        if isinstance(verb, Group):
            app.command(parser(verb.verbs), name=name, help=verb.help)
        else:
            summary = (verb.__doc__ or "").partition("\n")[0] if brief else None
            app.command(_parsed(verb), name=name, help=summary)
    return app


def _parsed(function):
    @functools.wraps(function)
    def parsed(*args, **kwargs):
        return functools.partial(function, *args, **kwargs)

    return parsed


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    # Libraries' notes (matplotlib's fonts, XLA's devices) are no part of the output.
    logging.getLogger().setLevel(logging.ERROR)
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            parsed = parser(VERBS, brief=set(arguments) <= {"-h", "--help"}).cli(
                prog=PROGRAM,
                args=list(arguments),
                description="Vision Transformers at scale: train, judge, use and study them. "
                f"Version {keras_vit_scale.__version__}.",
            )
    except SystemExit as stop:
        if stop.code:
            print(f"{PROGRAM}: error: {_one_line(messages.getvalue())}", file=sys.stderr)
        return int(stop.code or 0)
    try:
        parsed()
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Stopped as stop:
        print(f"{PROGRAM}: {stop}", file=sys.stderr)
        return stop.exit_code
    except _mistakes() as error:
        if isinstance(error, ImportError) and error.name is not None:
            # Raised by Python, not by the library with the extra to install.
            raise
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _mistakes() -> tuple[type[Exception], ...]:
    """What a user can mend: told in a line, without a traceback."""
    from keras_vit_scale.runs import RunError
    from keras_vit_scale.scaling import StudyError
    from keras_vit_scale.training.checkpoints.manifest import CheckpointError

    return (ValueError, OSError, ImportError, CheckpointError, RunError, StudyError)


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
    # A rule that a class of settings checks comes with tyro's name of the class's place.
    told = re.sub(r"^(Value error )?Error parsing __tyro\S+: ", "", " ".join(dict.fromkeys(kept)))
    return f"{told} (see {PROGRAM} --help)"
