"""One training run in one directory, which goes on where it was stopped and ends the same.

    out/
      config.yaml                    what the run is
      log.csv                        loss, rate and speed as it went
      evaluations.json               metrics on the held-out images, by step
      bad_images.csv                 image files that were replaced, if any was
      rewinds.json                   where a leap of the loss led back to: see `rewinds`
      cooldown.json                  where an event began the cooldown, and where that ends
      branch.json                    of a branch: where it left which trunk (`branch`)
      checkpoints/step-00000700/     the last ones
      model.keras                    the model, with its preprocessing and class names
      results.json                   what came out; written last: the run is done

Every file is written whole or not at all, and one process at a time works in the folder.

Runs stand above `evaluation`, whose classifier is what they end with, and below `scaling`.
"""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.atomic import delete_leftovers, write_text
from keras_vit_scale.data import BadImageError, Source
from keras_vit_scale.data.identity import digest_of_labels
from keras_vit_scale.distribution.layouts import batch_multiple
from keras_vit_scale.distribution.peers import Peers
from keras_vit_scale.evaluation import Classifier, save_classifier
from keras_vit_scale.formats import read_json, write_json
from keras_vit_scale.ownership import OwnedError, owning
from keras_vit_scale.planning import training_costs
from keras_vit_scale.processes import from_all, is_first, meet
from keras_vit_scale.runs.begun_cooldown import make_event, read_cooldown, write_cooldown
from keras_vit_scale.runs.config import FREE, TrainConfig, load_run_config
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.runs.origin import BRANCH, images_seen, read_origin
from keras_vit_scale.runs.plan import Plan, make_schedule
from keras_vit_scale.runs.recipe import loss_function, make_optimizer
from keras_vit_scale.runs.rewinds import RewindAtSpikes, Rewinds, SpikeError
from keras_vit_scale.runs.settings import differences, settings_text
from keras_vit_scale.runs.start import build_model
from keras_vit_scale.sharding import on_host
from keras_vit_scale.training.averaging import averaged
from keras_vit_scale.training.callbacks import (
    Cooldown,
    CSVLog,
    FiniteLoss,
    LearningRate,
    LossSpikes,
    Throughput,
)
from keras_vit_scale.training.callbacks.saving import Saving
from keras_vit_scale.training.callbacks.steps import StepCounter, steps_done
from keras_vit_scale.training.checkpoints.manifest import CheckpointError
from keras_vit_scale.training.checkpoints.restoring import Restored
from keras_vit_scale.training.checkpoints.store import CheckpointStore
from keras_vit_scale.training.diverged import CURE, DivergedError
from keras_vit_scale.training.loop import train_steps
from keras_vit_scale.training.progress import Progress, StepClock
from keras_vit_scale.training.stopping import Stopping
from keras_vit_scale.types import Logs

#: The end of a stretch of training that only an event ends.
FOREVER = 2**31


class RunError(Exception):
    """A run that cannot be done as it is described or with the folder it has."""


class RunDivergedError(RunError):
    """A run whose loss is no longer a finite number."""


def train(
    config: TrainConfig,
    out: str | Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    stopping: Stopping | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Trains a model in the folder `out`, from wherever the folder's run stands.

    Everything that can be checked is checked before the first step and before anything
    is written.

    Args:
        config: The run.
        out: Its folder, made if need be. If it holds the same run, that goes on from
            its last checkpoint; the settings in `FREE` may differ.
        on_progress: Called with a `Progress` several times a second.
        stopping: What may ask the run to stop, a signal or a time limit. The run then saves
            the present step; the same call goes on from there, and ends the same.
        callbacks: Further ones for `fit`, which is called for every stretch between two
            evaluations: loggers, for example. What they keep is in no checkpoint.

    Returns:
        What results.json holds: costs, the last loss, and the metrics on the held-out
        images under "validation".

    Raises:
        RunError: If the folder holds another run, another process works in it, its
            checkpoints are all damaged, training diverges, or an image cannot be read.
        Stopped: If `stopping` said so.
        ValueError: If the data, the durations or the weights to start from do not
            serve the run.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.runs import TrainConfig, train
    >>> config = TrainConfig(
    ...     "mu/4", "digits", steps=2, image_size=8, batch_size=16, crop="shift", flip=False
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = train(config, folder)
    >>> results["images_seen"]
    32
    """
    out = Path(out)
    stopping = Stopping() if stopping is None else stopping
    check_folder(config, out)
    source, held_out = open_data(config, out / "bad_images.csv")
    plan = config.plan(len(source))
    done = out / "results.json"
    if done.is_file():
        return read_json("results", done)
    check_batch(config.batch_size)
    model, event = _begin(config, plan, out, source)
    try:
        with Peers(), owning(out):
            check_folder(config, out)
            if is_first():
                delete_leftovers(out)
                write_text(out / "config.yaml", settings_text(config, "run"))
            meet("begun")
            while True:
                run = Run(config, plan, out, model, source, held_out, event, stopping, callbacks)
                try:
                    return run.execute(on_progress)
                except SpikeError as error:
                    run.go_back(error)
                finally:
                    # What still writes into the folder must not outlast the ownership.
                    run.store.join()
                # As another process would go on; not with two models in memory.
                del run, model, event
                model, event = _begin(config, plan, out, source)
    except OwnedError as error:
        raise RunError(str(error)) from None
    except BadImageError as error:
        raise RunError(
            f"{error}. Replace the file by one that can be read, or let such images be replaced: "
            "bad_images='replace'. Removed, it would change the order of all the others."
        ) from error


def check_batch(batch_size: int) -> None:
    """Refuses batches that the present mesh of devices cannot cut into equal shares.

    Raises:
        ValueError: If there is such a mesh.
    """
    if batch_size % batch_multiple():
        raise ValueError(
            "`batch_size`, which is of all devices together, must be a multiple of the mesh's "
            f"data axis. Received: batch_size={batch_size}, data={batch_multiple()}"
        )


def _begin(
    config: TrainConfig, plan: Plan, out: Path, source: Source
) -> tuple[keras.Model, Cooldown | None]:
    """The model as it is before the first step, and the callback for an event yet to come."""
    event = make_event(config, plan, out)
    keras.utils.set_random_seed(config.seed)
    return build_model(config, source.class_names), event


def check_folder(config: TrainConfig, out: Path, free: tuple[str, ...] = FREE) -> None:
    """Refuses a folder that holds another run, saying which settings differ but for `free`.

    Raises:
        RunError: If it does.
    """
    if not (out / "config.yaml").exists():
        if (out / BRANCH).exists():
            raise RunError(
                f"{out} holds the beginning of a branch: give the command that began it again, or "
                "take another folder."
            )
        return
    reasons = differences(load_run_config(out), config, free=free)
    if reasons:
        raise RunError(
            f"{out} holds a run with other settings: {'; '.join(reasons)}. "
            "Take another folder, or the settings of that run."
        )


class Run:
    """A run on its way, in its folder."""

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        out: Path,
        model: keras.Model,
        source: Source,
        held_out: Source | None,
        event: Cooldown | None,
        stopping: Stopping,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self.config, self.plan, self.out = config, plan, out
        self.model, self.source, self.held_out = model, source, held_out
        self.schedule = make_schedule(config, plan)
        self.event, self.stopping, self.callbacks = event, stopping, callbacks
        self.origin = read_origin(out)
        self.store = CheckpointStore(out / "checkpoints", plan.keep)
        self.rewinds = Rewinds(out / "rewinds.json")
        self.spikes = self._spikes()
        self.images = digest_of_labels(source, held_out)
        self.evaluations: list[dict[str, Any]] = []

    def execute(self, on_progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Trains from the last checkpoint to the end, and writes what came out."""
        self._begin()
        restored = self._resume()
        step = 0 if restored is None else restored.step
        end = self._end()
        if end is not None and step > end:
            raise RunError(
                f"A run must not end before it stands. Received: an end at step {end}, and "
                f"{self.out} holds step {step}. Take a later one, or `branch` from an earlier "
                "checkpoint."
            )
        clock = StepClock(self._end(), on_progress, done=step)
        while True:
            self._all_saved()
            if self.held_out is not None and self._evaluation_due(step):
                clock.say("evaluation")
                self._evaluate(step, self.held_out)
            if step == self._end():
                break
            self._train(step, self._next_stop(step), clock, restored)
            restored = None
            step = steps_done(self.model)
            clock.total = self._end()
        with self._told_with_rate():
            self.store.wait()
        clock.say("writing the model")
        return self._finish(step)

    def _begin(self):
        """Compiles the model, with a cooldown that an event began before if there is one."""
        begun = read_cooldown(self.out)
        if begun is not None:
            self.schedule = self.schedule.with_cooldown(
                begun["ends"], begun["ends"] - begun["begins"]
            )
        self.model.compile(
            # A run is many fits, of which none but the last ends it: see `averaged`.
            optimizer=make_optimizer(self.config, self.plan, self.schedule, ema_at_end=False),
            loss=loss_function(self.config.loss, self.config.label_smoothing),
        )

    def _resume(self) -> Restored | None:
        """Restores the last checkpoint, if there is one."""
        steps, left = self.store.steps(), None if self.origin is None else self.origin.step
        if not steps and left is None:
            return None
        try:
            restored = self.store.restore(self.model, other_seeds=left in steps)
        except CheckpointError as error:
            cure = (
                f"Delete {self.store.folder} to train from the start."
                if left is None
                else "Begin the branch in another folder."
            )
            raise RunError(f"{error}. {cure}") from error
        steps = from_all(restored.step)
        if len(set(steps)) > 1:
            raise RunError(
                "All processes must find the same checkpoint; is the folder one that they share? "
                f"Received: {self.out}, in which they found the steps {steps}"
            )
        if restored.extra.get("images", self.images) != self.images:
            raise RunError(
                f"{self.out} holds a run on other images: since its checkpoint of step "
                f"{restored.step} some were added, removed or given other labels, so that others "
                "would be held out. Bring them back, or take another folder."
            )
        if restored.step == left:
            # Means since the beginning of the trunk's epoch, perhaps of another loss.
            restored = Restored(restored.step, {}, {})
        path = self.out / "evaluations.json"
        if path.is_file():
            rows = json.loads(path.read_text(encoding="utf-8"))
            self.evaluations = [row for row in rows if row["step"] <= restored.step]
        # At the origin of a branch there is none: it looks for leaps of its own losses.
        if self.spikes is not None and restored.extra:
            self.spikes.set_state(restored.extra["spikes"])
        return restored

    def _all_saved(self) -> None:
        """What comes until the next step can be done again: a signal need not wait for it."""
        self.stopping.all_saved(self.store.join)

    def _train(self, start: int, stop: int, clock: StepClock, restored: Restored | None) -> None:
        """Trains to step `stop`, or to where an event's cooldown ends before it; and saves it."""
        callbacks: list[keras.callbacks.Callback] = [clock.callback("training")]
        if self.event is not None:
            callbacks += [self.event, _BetweenSteps(self._record_cooldown)]
        callbacks += [FiniteLoss(self.plan.log_every, max_skipped=self.config.max_skipped)]
        if self.spikes is not None:
            callbacks += [self.spikes]
        saving = Saving(
            self.store,
            self.plan.checkpoint_every,
            stopping=self.stopping,
            extra=self._beside,
            restored=restored,
        )
        callbacks += [
            LearningRate(self.plan.log_every),
            Throughput(self.plan.log_every, batch_size=self.config.batch_size),
            *self.callbacks,
            *([CSVLog(self.out / "log.csv", self.plan.log_every)] if is_first() else []),
            saving,
        ]
        with self._told_with_rate():
            train_steps(
                self.model,
                self.source,
                self.config.train_transform(),
                batch_size=self.config.batch_size,
                seed=self.config.seed,
                stop=stop,
                offset=images_seen(self.origin, 0, self.config.batch_size)
                + self.rewinds.offset(start),
                augmentation=self.config.augmentation(),
                workers=self.config.workers,
                callbacks=callbacks,
            )
            saving.save_last()

    @contextlib.contextmanager
    def _told_with_rate(self) -> Iterator[None]:
        try:
            yield
        except DivergedError as error:
            raise RunDivergedError(f"At a peak rate of {self.config.peak}: {error}") from error

    def _spikes(self) -> LossSpikes | None:
        """The callback that looks for leaps of the loss, if anything is done about them."""
        if self.config.on_spike == "ignore":
            return None
        if self.config.on_spike == "warn":
            return LossSpikes(self.plan.spike_window)
        return RewindAtSpikes(self.plan.spike_window, self.store, self.plan.checkpoint_every)

    def _beside(self, step: int) -> dict[str, Any]:
        """What a checkpoint holds beside the model's state."""
        spikes = {} if self.spikes is None else {"spikes": self.spikes.state()}
        return {"images": self.images, **spikes}

    def go_back(self, error: SpikeError) -> None:
        """Lets the run begin again from the last good checkpoint before a spike.

        Raises:
            RunDivergedError: If it has done so as often as it may.
        """
        if len(self.rewinds.done) >= self.config.max_rewinds:
            raise RunDivergedError(
                f"At a peak rate of {self.config.peak}: {error}, after "
                f"{len(self.rewinds.done)} rewinds; {CURE}."
            ) from error
        rewind = self.rewinds.go_back(error, self.store, self.config.batch_size)
        warnings.warn(
            f"{error}. The run goes back to step {rewind.to}, and on without the "
            f"{rewind.images} images in between.",
            stacklevel=2,
        )

    def _end(self) -> int | None:
        """The step at which the run ends, or `None` while no event has begun the cooldown."""
        schedule = self.model.optimizer._learning_rate
        return self.plan.total_steps if schedule.total_steps is None else schedule.total_steps

    def _next_stop(self, step: int) -> int:
        """The next step at which the model is evaluated, or from which other images come."""
        end, every = self._end(), self.plan.evaluate_every
        stops = [] if every is None else [(step // every + 1) * every]
        stops += [] if end is None else [end]
        change = self.rewinds.next_change(step)
        stops += [] if change is None else [change]
        return min(stops, default=FOREVER)

    def _evaluation_due(self, step: int) -> bool:
        every = self.plan.evaluate_every
        due = step == self._end() or (every is not None and step > 0 and step % every == 0)
        return due and step not in [row["step"] for row in self.evaluations]

    def _evaluate(self, step: int, held_out: Source) -> None:
        with averaged(self.model):
            metrics = self._classifier().evaluate(held_out)
        self.evaluations.append({"step": step, **metrics})
        if is_first():
            write_text(self.out / "evaluations.json", json.dumps(self.evaluations, indent=1))

    def _classifier(self) -> Classifier:
        return Classifier(
            self.model,
            self.config.eval_transform(),
            self.source.class_names,
            activation=self.config.loss,
            orientation=self.config.orientation,
        )

    def _record_cooldown(self, step: int) -> None:
        """Writes down what an event began, so that a run that goes on begins it there too."""
        if self.event is not None and self.event.start is not None and step >= self.event.start:
            write_cooldown(self.out, self.event)
            self.event = None

    def _finish(self, step: int) -> dict[str, Any]:
        config = self.config
        with averaged(self.model), on_host(self.model):
            if is_first():
                save_classifier(
                    self.model,
                    self.out / "model.keras",
                    config.eval_transform(),
                    self.source.class_names,
                    activation=config.loss,
                    orientation=config.orientation,
                )
        seen = images_seen(self.origin, step, config.batch_size)
        results = {
            "size": config.size,
            "steps": step,
            **self._costs(seen),
            "training_images": len(self.source),
            "classes": len(self.source.class_names),
            "validation_images": 0 if self.held_out is None else len(self.held_out),
            "validation": self.evaluations[-1] if self.evaluations else None,
            "backend": keras.backend.backend(),
        }
        if self.origin is not None:
            own = self._costs(seen - self.origin.images_seen)
            results["branch"] = {
                "steps": step - self.origin.step,
                **{name: own[name] for name in ("images_seen", "flops", "tpuv3_core_days")},
            }
        if is_first():
            write_json("results", self.out / "results.json", results)
        meet("done")
        return results

    def _costs(self, images: int) -> dict[str, float]:
        """What training on so many images costs."""
        return training_costs(
            self.config.shape(),
            self.config.image_size,
            images,
            pooling=self.config.pooling,
            num_classes=len(self.source.class_names),
        )


class _BetweenSteps(StepCounter):
    """Calls a function with the step between any two steps, and at the end."""

    def __init__(self, function: Callable[[int], None]):
        super().__init__()
        self.function = function

    def between_steps(self, logs: Logs) -> None:
        self.function(self.step)

    def on_epoch_end(self, epoch, logs=None):
        self.recount()
        self.function(self.step)
