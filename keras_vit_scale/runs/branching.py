"""A run that begins at a checkpoint of another: a trunk's cooldown, or its other future.

The branch's folder is a run's, with `branch.json` beside it, which says where it left its
trunk. It has a copy of the checkpoint, so that the trunk may go on deleting its own, and is
then a run like any other. In this order, so that a kill at any moment leaves a folder that the
same call goes on with: branch.json, the checkpoint, config.yaml.
"""

import dataclasses
import datetime
import difflib
import math
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.atomic import write_text
from keras_vit_scale.ownership import OwnedError, owning
from keras_vit_scale.runs.begun_cooldown import read_cooldown
from keras_vit_scale.runs.config import FREE, TrainConfig, load_run_config
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.runs.origin import BRANCH, Origin, images_seen, read_origin
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.rewinds import Rewinds
from keras_vit_scale.runs.run import RunError, train
from keras_vit_scale.runs.settings import settings_text
from keras_vit_scale.schedules.durations import parse
from keras_vit_scale.training.checkpoints.chunks import digest
from keras_vit_scale.training.checkpoints.copying import copy_checkpoint
from keras_vit_scale.training.checkpoints.manifest import (
    MANIFEST,
    CheckpointError,
    about_here,
    parse_manifest,
)
from keras_vit_scale.training.checkpoints.storage import read_bytes
from keras_vit_scale.training.checkpoints.store import CheckpointStore
from keras_vit_scale.training.progress import Progress
from keras_vit_scale.training.stopping import Stopping

#: Settings that a branch has from its trunk: what they decide is in the checkpoint, or in the
#: images that come next.
FIXED = (
    "size",
    "data",
    "images",
    "validation",
    "stratified",
    "image_size",
    "seed",
    "pooling",
    "precision",
    "init",
    "new_head",
    "optimizer",
    # It decides what the optimizer keeps.
    "on_nonfinite",
)

#: Settings of which each says where a run ends: one that is given replaces all of the trunk's.
ENDS = ("steps", "cool_down_at", "deadline", "cool_down_file")

#: How often a newer checkpoint is looked for when one is deleted while it is copied.
ATTEMPTS = 5


def branch(
    trunk: str | Path,
    out: str | Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    at: int | str | None = None,
    stopping: Stopping | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **changes: Any,
) -> dict[str, Any]:
    """Trains on from a checkpoint of another run, with other settings, in a folder of its own.

    Weights, the optimizer's state, averages, random seeds, the step and the place in the data
    are the checkpoint's: a branch without changes ends as its trunk does, bit for bit. The
    place is counted in images, so that with another batch size the images that come next are
    those that would have come. Schedules count steps, those of the trunk among them.

    The trunk may be finished, still running, or a branch itself, and is never written to.
    Running, it deletes checkpoints; those at multiples of `keep_every` stay.

    Args:
        trunk: The other run's folder.
        out: The branch's folder, made if need be. If it holds the same branch, that goes on
            from its own last checkpoint; the trunk need not be there any more, and settings in
            `FREE` may differ.
        on_progress, stopping, callbacks: As in `train`.
        at: Step or name of the checkpoint, by default the newest.
        changes: Settings of `TrainConfig` that are not to be the trunk's, of which `FIXED`
            cannot change, nor whether weights are averaged. A run's end, one of `ENDS`,
            replaces the trunk's; `steps` counts the trunk's, and images or epochs those that
            the trunk has seen. `cooldown` without an end begins there and then.

    Returns:
        What results.json holds, as of `train`: steps, images seen and costs are those of
        the trunk up to the branch and of the branch together; under "branch" stand the
        branch's own.

    Raises:
        RunError: If there is no such checkpoint, `out` holds something else, or as for `train`.
        ValueError: If a setting is unknown, cannot change, or breaks a rule.
        Stopped: If `stopping` said so.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.runs import TrainConfig, branch, train
    >>> config = TrainConfig(
    ...     "mu/4", "digits", steps=4, image_size=8, batch_size=16, crop="shift", flip=False,
    ...     checkpoint_every=2,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train(config, folder + "/trunk")
    ...     results = branch(folder + "/trunk", folder + "/cooled", at=2, cooldown=1, batch_size=48)
    >>> results["steps"], results["images_seen"], results["branch"]["images_seen"]
    (3, 80, 48)
    """
    trunk, out = Path(trunk), Path(out)
    check_changes(changes)
    if (out / "config.yaml").exists():
        config = _going_on(trunk, out, at, changes)
    else:
        config = begin_branch(trunk, out, at, changes)
    return train(config, out, on_progress, stopping=stopping, callbacks=callbacks)


def check_changes(changes: Mapping[str, Any]) -> None:
    """Refuses settings that there are not, and those that a branch has from its trunk.

    Raises:
        ValueError: If there are such, naming them.
    """
    known = [f.name for f in dataclasses.fields(TrainConfig)]
    for name in changes:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"A setting must be one of {known}. Received: {name!r}{meant}")
    fixed = [name for name in changes if name in FIXED]
    if fixed:
        raise ValueError(
            f"A branch has these settings from its trunk: {', '.join(FIXED)}. Train a new run to "
            f"change them, perhaps with `init`. Received: {', '.join(fixed)}"
        )


def branched_config(
    trunk: TrainConfig, changes: Mapping[str, Any], step: int, seen: int, images: int
) -> TrainConfig:
    """The config of a branch.

    Args:
        trunk: The trunk's, from `as_it_went`.
        changes: Settings that are given for the branch.
        step: Where it begins.
        seen: Images seen there.
        images: Images in the training data, for durations in epochs.

    Raises:
        ValueError: If settings contradict each other, or the branch has no step or would
            have begun its cooldown before it began.
    """
    changes = dict(changes)
    if "cooldown" in changes and not changes.keys() & set(ENDS):
        changes["cool_down_at"] = step
    if changes.keys() & set(ENDS):
        changes = {**dict.fromkeys(ENDS), **changes}
    config = _with_points_in_steps(dataclasses.replace(trunk, **changes), step, seen, images)
    if bool(trunk.average) != bool(config.plan(images).average):
        raise ValueError(
            "A branch averages weights if its trunk does: the averages are in its checkpoints. "
            f"Received: average={config.average!r}, the trunk's is {trunk.average!r}"
        )
    plan = config.plan(images)
    if plan.total_steps is not None and plan.total_steps <= step:
        raise ValueError(
            f"A branch must end after the step at which it begins, {step}. "
            f"Received: an end at step {plan.total_steps}"
        )
    begins = plan.planned_cooldown()
    before = (trunk.steps, trunk.cool_down_at, trunk.cooldown)
    after = (config.steps, config.cool_down_at, config.cooldown)
    if begins is not None and begins < step and int(plan.cooldown) and before != after:
        raise ValueError(
            f"A branch's cooldown must not begin before the branch does, at step {step}. "
            f"Received: a cooldown of {int(plan.cooldown)} steps from step {begins}"
        )
    return config


def _with_points_in_steps(config: TrainConfig, step: int, seen: int, images: int) -> TrainConfig:
    """A branch's config in which points of the run that count images are steps.

    The trunk's part of the run may have had another batch size. The nearest step is taken, as
    in a run.
    """
    points: dict[str, Any] = {}
    for name in ("steps", "cool_down_at"):
        duration = getattr(config, name)
        amount, unit = parse(duration) if isinstance(duration, str) else (0, "steps")
        if unit in ("images", "epochs"):
            ahead = (amount if unit == "images" else amount * images) - seen
            points[name] = step + math.floor(ahead / config.batch_size + Fraction(1, 2))
    return dataclasses.replace(config, **points)


def as_it_went(config: TrainConfig, out: Path, images: int) -> TrainConfig:
    """A run's config with all in steps that its schedule and averages followed from.

    So they stay what they were where the end or the batch size changes. A cooldown that an
    event began is one that was planned.
    """
    plan = config.plan(images)
    went = dataclasses.replace(config, warmup=plan.warmup_steps, average=plan.average)
    begun = read_cooldown(out)
    if begun is None:
        return went
    ends: dict[str, Any] = {**dict.fromkeys(ENDS), "steps": begun["ends"]}
    return dataclasses.replace(went, cooldown=begun["ends"] - begun["begins"], **ends)


def begin_branch(
    trunk: Path, out: Path, at: int | str | None, changes: Mapping[str, Any]
) -> TrainConfig:
    """Makes the folder of a branch that is not there yet, without training; its config.

    Args:
        trunk, out, at, changes: As in `branch`.

    Raises:
        RunError, ValueError: As in `branch`.
    """
    config = load_run_config(trunk)
    images = len(open_data(config)[0])
    leaving = _Leaving(trunk, read_origin(trunk), as_it_went(config, trunk, images), images)
    store = CheckpointStore(trunk / "checkpoints")
    leaving.config_at(_candidates(store, at)[0], changes)  # before anything is written
    try:
        with owning(out):
            if (out / "config.yaml").exists():
                # Another process began it while the data were opened here, and has let go.
                return _going_on(trunk, out, at, changes)
            _clear(out)
            config = _copy_one(leaving, store, out, at, changes)
            write_text(out / "config.yaml", settings_text(config, "run"))
            return config
    except OwnedError as error:
        raise RunError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class _Leaving:
    """The trunk, as what leaves it needs to know it."""

    folder: Path
    origin: Origin | None
    config: TrainConfig
    images: int

    def seen(self, step: int) -> int:
        """Images before its place in the data: trained on, or left out by a rewind."""
        left_out = Rewinds(self.folder / "rewinds.json").offset(step)
        return images_seen(self.origin, step, self.config.batch_size) + left_out

    def config_at(self, step: int, changes: Mapping[str, Any]) -> TrainConfig:
        return branched_config(self.config, changes, step, self.seen(step), self.images)

    def rate(self, config: TrainConfig, step: int) -> float:
        return float(make_schedule(config, config.plan(self.images))(step))


def _copy_one(
    trunk: _Leaving,
    store: CheckpointStore,
    out: Path,
    at: int | str | None,
    changes: Mapping[str, Any],
) -> TrainConfig:
    """Writes branch.json and copies the checkpoint, the newest that can be if none was asked for.

    A trunk that is running may delete one meanwhile; then there is a newer one.
    """
    for _ in range(ATTEMPTS):
        for step in _candidates(store, at):
            config, source = trunk.config_at(step, changes), store.folder_of(step)
            try:
                # Once: a trunk that goes back may put another checkpoint of the step here.
                said = read_bytes(source, MANIFEST)
                Origin(
                    trunk=str(trunk.folder.resolve()),
                    step=step,
                    images_seen=trunk.seen(step),
                    checkpoint=at if isinstance(at, str) else None,
                    blake2b=digest(said),
                    saved_with=parse_manifest(said, source).about,
                    asked=dict(changes),
                    changed=_changed(trunk.config, config),
                    learning_rate=(trunk.rate(trunk.config, step), trunk.rate(config, step)),
                    trunk_branch=None if trunk.origin is None else dataclasses.asdict(trunk.origin),
                    time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    versions=about_here(),
                ).write(out)
                target = CheckpointStore(out / "checkpoints").folder_of(step)
                copy_checkpoint(source, target, said)
                return config
            except (CheckpointError, FileNotFoundError) as error:
                if step not in store.steps():
                    break
                if at is not None:
                    raise RunError(str(error)) from error
                warnings.warn(f"{error}. The checkpoint before it is taken.", stacklevel=2)
        else:
            raise RunError(f"The checkpoints in {store.folder} are all damaged.")
    raise RunError(
        f"{store.folder} deleted its checkpoints while they were copied, {ATTEMPTS} times: take "
        "one that it keeps, by `keep_every` or a larger `keep_last`."
    )


def _candidates(store: CheckpointStore, at: int | str | None) -> list[int]:
    """Steps of the checkpoints to try, the first first."""
    try:
        steps = store.steps()[::-1] if at is None else [store.find(at)]
    except CheckpointError as error:
        raise RunError(
            f"{error}. A run keeps its last ones, and those at multiples of `keep_every`."
        ) from None
    if not steps:
        raise RunError(f"A trunk must have a checkpoint. Received: {store.folder}, which has none")
    return steps


def _clear(out: Path) -> None:
    """Deletes what the beginning of a branch left that was killed before its end.

    Raises:
        RunError: If there are checkpoints that are none of it.
    """
    if (out / BRANCH).exists():
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    elif CheckpointStore(out / "checkpoints").steps():
        raise RunError(
            f"{out} holds checkpoints of something else: take another folder for the branch."
        )


def _changed(before: TrainConfig, after: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that two configs do not have in common, with both values."""
    pairs = {
        f.name: (getattr(before, f.name), getattr(after, f.name))
        for f in dataclasses.fields(TrainConfig)
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _going_on(
    trunk: Path, out: Path, at: int | str | None, changes: Mapping[str, Any]
) -> TrainConfig:
    """The config of a branch that was begun, if it is the one that is asked for.

    Raises:
        RunError: If it is another.
    """
    origin = read_origin(out)
    if origin is None:
        raise RunError(f"{out} holds a run that is no branch: take another folder.")
    reasons = []
    if str(trunk.resolve()) != origin.trunk:
        reasons.append(f"its trunk was {origin.trunk} (if that was moved, say so in {BRANCH})")
    if at is not None and at != (origin.checkpoint if isinstance(at, str) else origin.step):
        reasons.append(f"it began at {origin.checkpoint or origin.step!r}, now {at!r}")
    for name in sorted({*changes, *origin.asked} - {*FREE}):
        old, new = (asked.get(name, "not given") for asked in (origin.asked, changes))
        if old != new:
            reasons.append(f"{name} was {old!r}, now {new!r}")
    if reasons:
        raise RunError(
            f"{out} holds another branch: {'; '.join(reasons)}. Take another folder, or the same "
            "settings."
        )
    free = {name: value for name, value in changes.items() if name in FREE}
    config = dataclasses.replace(load_run_config(out), **free)
    # The images are counted only where a point in epochs is given again: it takes its time.
    again = isinstance(config.cool_down_at, str) and parse(config.cool_down_at)[1] == "epochs"
    images = len(open_data(config)[0]) if again else 0
    return _with_points_in_steps(config, origin.step, origin.images_seen, images)
