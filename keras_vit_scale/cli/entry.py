"""From the words of a call to an exit code."""

import contextlib
import difflib
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
from keras_vit_scale.cli.branch import branch
from keras_vit_scale.cli.dedup import dedup
from keras_vit_scale.cli.export import export
from keras_vit_scale.cli.finetune import finetune
from keras_vit_scale.cli.judge import evaluate, fewshot
from keras_vit_scale.cli.law import law_fit
from keras_vit_scale.cli.models import models
from keras_vit_scale.cli.output import PROGRAM
from keras_vit_scale.cli.plan import estimate, max_batch, shapes
from keras_vit_scale.cli.study import study_report, study_run
from keras_vit_scale.cli.train import train
from keras_vit_scale.cli.tune import tune
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
    "estimate": estimate,
    "max-batch": max_batch,
    "shapes": shapes,
    "train": train,
    "branch": branch,
    "finetune": finetune,
    "tune": tune,
    "evaluate": evaluate,
    "fewshot": fewshot,
    "predict": predict,
    "embed": embed,
    "export": export,
    "dedup": dedup,
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
            print(f"{PROGRAM}: error: {_one_line(messages.getvalue(), arguments)}", file=sys.stderr)
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
    from keras_vit_scale.ownership import OwnedError
    from keras_vit_scale.runs import RunError
    from keras_vit_scale.scaling import StudyError
    from keras_vit_scale.training.checkpoints.manifest import CheckpointError
    from keras_vit_scale.tuning import SearchError

    ours = (CheckpointError, OwnedError, RunError, StudyError, SearchError)
    return (ValueError, OSError, ImportError, NotImplementedError, *ours)


def _one_line(box: str, arguments: Sequence[str]) -> str:
    """tyro's message about a mistake, which is a box of several lines, as one line."""
    sections: list[list[str]] = [[]]
    names = []
    for line in box.replace("│", " ").splitlines():
        text = line.strip("╭╮╰╯─ ")
        indented = len(line) - len(line.lstrip())
        if text and not text.strip("-"):
            text = ""
        # Its title, which has less or no space before it, says no more than the message.
        if text and indented >= 2:
            sections[-1].append(text)
            if len(sections) == 1 and indented == 6:
                names.append(text)
        elif not text and sections[-1]:
            sections.append([])
    told = " ".join(sections[0])
    if told.startswith("Missing"):
        # Of what is missing the names are enough, without their help.
        told = f"{sections[0][0]} {', '.join(names)}"
    # A rule that a class of settings checks comes with tyro's name of the class's place.
    told = re.sub(r"^(Value error )?Error parsing __tyro\S+: ", "", told)
    told = told.rstrip(".")
    verb = _words_of_verb(arguments)
    for section in sections[1:]:
        listed = " ".join(section)
        if listed.startswith("Perhaps you meant"):
            # Of an option its name is enough, without its help.
            options = dict.fromkeys(text.split()[0] for text in section if text[:2] == "--")
            told += f"; did you mean {' or '.join(options)}?"
        elif listed.startswith("Got errors"):
            # Of the types that an option may have, what the last says of the value is enough.
            told = told.partition(": ")[0] + listed[listed.rindex("<class") :].partition(">")[2]
        elif listed.startswith("Available subcommands: "):
            known = listed.removeprefix("Available subcommands: ").split(", ")
            unknown = next((a for a in arguments[len(verb) :] if not a.startswith("-")), "")
            close = difflib.get_close_matches(unknown, known, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            told = f"there is no command {unknown!r}: {meant}There are {', '.join(known)}"
    return f"{told} (see {' '.join([PROGRAM, *verb])} --help)"


def _words_of_verb(arguments: Sequence[str]) -> list[str]:
    """The words with which a call begins that name a verb: `["law", "fit"]`."""
    words: list[str] = []
    known: Mapping[str, Callable[..., None] | Group] = VERBS
    for word in arguments:
        if word not in known:
            break
        words.append(word)
        verb = known[word]
        known = verb.verbs if isinstance(verb, Group) else {}
    return words
