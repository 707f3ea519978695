"""`branch`: a run that begins at a checkpoint of another."""

import dataclasses
import typing
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from keras_vit_scale.cli.output import tell
from keras_vit_scale.cli.progress import StepBar
from keras_vit_scale.cli.train import tell_results
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.runs import branch as branch_run
from keras_vit_scale.runs.branching import FIXED
from keras_vit_scale.runs.origin import read_origin
from keras_vit_scale.training.stopping import Stopping

#: What a setting is for a branch, where that is more than `TrainConfig` says.
_HELP = {
    "steps": "Where to end, the trunk's steps counted; images or epochs too are the trunk's also.",
    "cooldown": "Length of the cooldown, a duration or a part (0.2) of the run; it begins here "
    "and now, unless steps or another option says where to end.",
    "warmup": "Duration of the warm-up.",
    "evaluate_every": "Steps between evaluations, as any duration.",
}
_VALUES = {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR"}


def _changeable() -> type:
    """A class with the settings that a branch may change, none of which need be given.

    As a subclass of `TrainConfig` it has the help of each; that they are checked together is
    left to the config that they make with the trunk's.
    """
    fields = []
    for name, hint in typing.get_type_hints(TrainConfig, include_extras=True).items():
        if name in FIXED or name.startswith("_"):
            continue
        kind, *notes = typing.get_args(hint) if hasattr(hint, "__metadata__") else [hint]
        shown: dict[str, Any] = {"help_behavior_hint": "(default: the trunk's)"}
        if name in _HELP:
            shown["help"] = _HELP[name]
        if typing.get_origin(kind) is typing.Literal:
            shown["metavar"] = "{" + ",".join(map(str, typing.get_args(kind))) + "}"
        elif kind in _VALUES:
            shown["metavar"] = _VALUES[kind]
        optional: Any = Annotated[(kind | None, *notes, arg(**shown))]
        fields.append((name, optional, None))
    # What a branch has from its trunk is no option.
    fields += [(name, Any, dataclasses.field(default=None, init=False)) for name in FIXED]
    return dataclasses.make_dataclass(
        "Changes",
        fields,
        bases=(TrainConfig,),
        namespace={"__post_init__": lambda self: None},
        frozen=True,
    )


Changes: Any = _changeable()


def branch(
    run: Annotated[Positional[str], arg(metavar="RUN[@STEP|@NAME]")],
    /,
    changes: Annotated[Changes, OmitArgPrefixes],
    out: Path = Path("branch"),
    time_limit: str | None = None,
    grace: float = 25.0,
    json: bool = False,
) -> None:
    """Train on from a checkpoint of another run, with other settings, in a folder of its own.

    Cool a trunk down, train it for longer, with another batch size or another recipe. Weights,
    the optimizer's state, averages, random seeds and the place in the data are the checkpoint's,
    by default the newest; settings that are not given are the trunk's. What cannot change: size,
    data, images, validation, seed, image size, pooling, precision and the optimizer.

    The trunk may be finished, still running, or a branch itself; train it with --keep-every to
    have checkpoints to branch from. The folder's branch.json says where the branch comes from.
    Interrupted or killed, the same command goes on and ends the same.

    For example:

      keras-vit-scale branch run@5000 --cooldown 1000 --out cooled
      keras-vit-scale branch run --steps "90 epochs" --out longer
      keras-vit-scale branch run@5000 --batch-size 4096 --peak 0.001 --steps 20000 --out larger
      keras-vit-scale branch run@20000 --cooldown 2000 --mixup 0.2 --flip False --out recipe

    Args:
        run: The trunk's folder, and perhaps the step or the name of a checkpoint.
        changes: What is not to be as in the trunk.
        out: Folder of the branch, made if need be.
        time_limit: Stop early enough to have saved by then: 3600, 90m, 1h30m, 11:30:00.
        grace: Seconds from a signal to the end of the process, saved or not.
        json: Print the results as JSON; nothing else goes to standard output.
    """
    trunk, at = split_checkpoint(run)
    given = {
        f.name: getattr(changes, f.name)
        for f in dataclasses.fields(changes)
        if f.init and getattr(changes, f.name) is not None
    }
    with StepBar() as bar, Stopping(grace=grace, time_limit=time_limit) as stopping:
        results = branch_run(trunk, out, bar.update, at=at, stopping=stopping, **given)
    origin = read_origin(out)
    if origin is not None and not json:
        before, after = origin.learning_rate
        jump = (
            "" if before == after else f", at a rate of {after:.3g} after the trunk's {before:.3g}"
        )
        tell(
            f"From step {origin.step:,} of {origin.trunk}{jump}: "
            f"{results['branch']['steps']:,} steps, {results['branch']['flops']:.3g} FLOPs; "
            "with the trunk"
        )
    tell_results(out, results, json)


def split_checkpoint(run: str) -> tuple[str, int | str | None]:
    """A run's folder, and the step or name behind its last "@", if it has one.

    Example:

    >>> from keras_vit_scale.cli.branch import split_checkpoint
    >>> split_checkpoint("runs/b16@5000"), split_checkpoint("b16@best"), split_checkpoint("b16")
    (('runs/b16', 5000), ('b16', 'best'), ('b16', None))
    """
    folder, mark, name = run.rpartition("@")
    if not mark or not name or Path(run).is_dir():
        return run, None
    return folder, int(name) if name.isascii() and name.isdigit() else name
