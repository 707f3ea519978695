"""One training run in one directory, which goes on where it was stopped and ends the same.

    out/
      config.yaml                    what the run is
      log.csv                        loss, rate and speed as it went
      evaluations.json               metrics on the held-out images, by step
      cooldown.json                  where an event began the cooldown, and where that ends
      checkpoints/step-00000700/     the last one
      model.keras                    the model, with its preprocessing and class names
      results.json                   what came out; written last: the run is done

Every file is written whole or not at all.

Runs stand above `evaluation`, whose classifier is what they end with, and below `scaling`.
"""

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.atomic import write_text
from keras_vit_scale.data import Source, hold_out, open_source
from keras_vit_scale.evaluation import Classifier, save_classifier
from keras_vit_scale.formats import with_format, without_format
from keras_vit_scale.planning import training_costs
from keras_vit_scale.runs.config import FREE, TrainConfig, load_run_config
from keras_vit_scale.runs.plan import Plan, make_schedule
from keras_vit_scale.runs.recipe import loss_function, make_optimizer
from keras_vit_scale.runs.settings import differences, settings_text
from keras_vit_scale.runs.start import build_model
from keras_vit_scale.training.averaging import averaged
from keras_vit_scale.training.callbacks import Cooldown, CSVLog, LearningRate, Throughput
from keras_vit_scale.training.checkpoint import (
    CheckpointError,
    is_complete,
    restore_checkpoint,
    save_checkpoint,
)
from keras_vit_scale.training.loop import DivergedError, train_steps
from keras_vit_scale.training.progress import Progress, StepClock


class RunError(Exception):
    """A run that cannot be done as it is described or with the folder it has."""


class RunDivergedError(RunError):
    """A run whose loss is no longer a finite number."""


def train(
    config: TrainConfig, out: str | Path, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Trains a model in the folder `out`, from wherever the folder's run stands.

    Everything that can be checked is checked before the first step and before anything
    is written.

    Args:
        config: The run.
        out: Its folder, made if need be. If it holds the same run, that goes on from
            its last checkpoint; the settings in `FREE` may differ.
        on_progress: Called with a `Progress` several times a second. If it raises
            KeyboardInterrupt, the run makes a checkpoint after the present step and
            raises it again.

    Returns:
        What results.json holds: costs, the last loss, and the metrics on the held-out
        images under "validation".

    Raises:
        RunError: If the folder holds another run, its checkpoint is damaged, or
            training diverges.
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
    check_folder(config, out)
    source, held_out = open_data(config)
    plan = config.plan(len(source))
    done = out / "results.json"
    if done.is_file():
        return without_format("results", json.loads(done.read_text(encoding="utf-8")), done)
    event = None if (out / "cooldown.json").is_file() else make_event(config, plan)
    keras.utils.set_random_seed(config.seed)
    model = build_model(config, source.class_names)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.yaml", settings_text(config, "run"))
    return Run(config, plan, out, model, source, held_out, event).execute(on_progress)


def check_folder(config: TrainConfig, out: Path, free: tuple[str, ...] = FREE) -> None:
    """Refuses a folder that holds another run, saying which settings differ but for `free`.

    Raises:
        RunError: If it does.
    """
    if not (out / "config.yaml").exists():
        return
    reasons = differences(load_run_config(out), config, free=free)
    if reasons:
        raise RunError(
            f"{out} holds a run with other settings: {'; '.join(reasons)}. "
            "Take another folder, or the settings of that run."
        )


def open_data(config: TrainConfig) -> tuple[Source, Source | None]:
    """The images to train on, and the held-out ones if there are any.

    Raises:
        ValueError: If the data cannot be read, or nothing would be left of a part.
    """
    source = open_source(config.data)
    if config.images is not None and config.images != len(source):
        if config.images > len(source):
            raise ValueError(
                "`images` must be at most the number of images in the data. "
                f"Received: images={config.images}, and {len(source)} in {config.data!r}"
            )
        _, source = hold_out(source, config.images, config.seed, stratified=True)
    if not config.validation:
        return source, None
    return hold_out(source, config.validation, config.seed, stratified=config.stratified)


def make_event(config: TrainConfig, plan: Plan) -> Cooldown | None:
    """The callback that begins the cooldown when an event says so; `None` if none may.

    Raises:
        ValueError: If the deadline is past.
    """
    if not plan.by_event:
        return None
    deadline = None if config.deadline is None else config.deadline_time()
    if deadline is not None and deadline <= datetime.datetime.now(datetime.UTC):
        raise ValueError(
            "`deadline` must lie in the future: give a later one, or none. "
            f"Received: deadline={config.deadline!r}"
        )
    return Cooldown(
        plan.cooldown,
        at_step=plan.planned_cooldown(),
        deadline=deadline,
        when_file=config.cool_down_file,
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
    ):
        self.config, self.plan, self.out = config, plan, out
        self.model, self.source, self.held_out = model, source, held_out
        self.schedule = make_schedule(config, plan)
        self.event = event
        self.interrupt: KeyboardInterrupt | None = None
        self.evaluations: list[dict[str, Any]] = []

    def execute(self, on_progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Trains from the last checkpoint to the end, and writes what came out."""
        self._begin()
        step = self._resume()
        clock = StepClock(self._end(), self._reporter(on_progress), done=step)
        while step != self._end():
            self._train(self._next_stop(step), clock)
            step = int(self.model.optimizer.iterations)
            self._record_cooldown(step)
            clock.total = self._end()
            if self.held_out is not None and self._evaluation_due(step):
                clock.say("evaluation")
                self._evaluate(step, self.held_out)
            if step == self._end() or step % self.plan.checkpoint_every == 0 or self.interrupt:
                self._checkpoint(step)
            if self.interrupt:
                raise self.interrupt
        clock.say("writing the model")
        return self._finish(step)

    def _begin(self):
        """Compiles the model, with a cooldown that an event began before if there is one."""
        record = self.out / "cooldown.json"
        if record.is_file():
            stored = json.loads(record.read_text(encoding="utf-8"))
            begun = without_format("cooldown", stored, record)
            self.schedule = self.schedule.with_cooldown(
                begun["ends"], begun["ends"] - begun["begins"]
            )
        self.model.compile(
            # A run is many fits, of which none but the last ends it: see `averaged`.
            optimizer=make_optimizer(self.config, self.plan, self.schedule, ema_at_end=False),
            loss=loss_function(self.config.loss, self.config.label_smoothing),
        )

    def _resume(self) -> int:
        """Restores the last checkpoint; returns its step, or 0 without one."""
        saved = [f for f in self._checkpoints() if is_complete(f)]
        if not saved:
            return 0
        try:
            step = restore_checkpoint(saved[-1], self.model)
        except CheckpointError as error:
            raise RunError(f"{error}. Delete that folder to train from the start.") from error
        path = self.out / "evaluations.json"
        if path.is_file():
            rows = json.loads(path.read_text(encoding="utf-8"))
            self.evaluations = [row for row in rows if row["step"] <= step]
        return step

    def _train(self, stop: int, clock: StepClock) -> None:
        """Trains to step `stop`, or to where an event's cooldown ends before it."""
        callbacks = [clock.callback("training"), _StopWhen(lambda: self.interrupt is not None)]
        if self.event is not None:
            callbacks.append(self.event)
        callbacks += [
            LearningRate(self.plan.log_every),
            Throughput(self.plan.log_every, batch_size=self.config.batch_size),
            CSVLog(self.out / "log.csv", self.plan.log_every),
        ]
        try:
            train_steps(
                self.model,
                self.source,
                self.config.train_transform(),
                batch_size=self.config.batch_size,
                seed=self.config.seed,
                stop=stop,
                augmentation=self.config.augmentation(),
                callbacks=callbacks,
            )
        except DivergedError as error:
            raise RunDivergedError(f"At a peak rate of {self.config.peak}: {error}") from error

    def _end(self) -> int | None:
        """The step at which the run ends, or `None` while no event has begun the cooldown."""
        schedule = self.model.optimizer._learning_rate
        return self.plan.total_steps if schedule.total_steps is None else schedule.total_steps

    def _next_stop(self, step: int) -> int:
        """The next step at which something is due."""
        periods = [self.plan.checkpoint_every, self.plan.evaluate_every]
        stops = [(step // every + 1) * every for every in periods if every is not None]
        end = self._end()
        return min(stops if end is None else [*stops, end])

    def _evaluation_due(self, step: int) -> bool:
        every = self.plan.evaluate_every
        return step == self._end() or (every is not None and step % every == 0)

    def _evaluate(self, step: int, held_out: Source) -> None:
        with averaged(self.model):
            metrics = self._classifier().evaluate(held_out)
        self.evaluations.append({"step": step, **metrics})
        write_text(self.out / "evaluations.json", json.dumps(self.evaluations, indent=1))

    def _classifier(self) -> Classifier:
        return Classifier(
            self.model,
            self.config.eval_transform(),
            self.source.class_names,
            activation=self.config.loss,
        )

    def _checkpoints(self) -> list[Path]:
        return sorted((self.out / "checkpoints").glob("step-*"))

    def _checkpoint(self, step: int) -> None:
        """Writes a checkpoint; only then the earlier ones go."""
        folder = self.out / "checkpoints" / f"step-{step:08d}"
        if not is_complete(folder):
            save_checkpoint(folder, self.model, step)
        for other in self._checkpoints():
            if other != folder:
                shutil.rmtree(other)

    def _record_cooldown(self, step: int) -> None:
        """Writes down what an event began, so that a run that goes on begins it there too."""
        if self.event is not None and self.event.start is not None and step >= self.event.start:
            record = {"begins": self.event.start, "ends": self.event.total}
            write_text(self.out / "cooldown.json", json.dumps(with_format("cooldown", record)))
            self.event = None

    def _finish(self, step: int) -> dict[str, Any]:
        config, classes = self.config, len(self.source.class_names)
        with averaged(self.model):
            save_classifier(
                self.model,
                self.out / "model.keras",
                config.eval_transform(),
                self.source.class_names,
                activation=config.loss,
            )
        costs = training_costs(
            config.shape(),
            config.image_size,
            step * config.batch_size,
            pooling=config.pooling,
            num_classes=classes,
        )
        results = {
            "size": config.size,
            "steps": step,
            **costs,
            "training_images": len(self.source),
            "classes": classes,
            "validation_images": 0 if self.held_out is None else len(self.held_out),
            "validation": self.evaluations[-1] if self.evaluations else None,
            "backend": keras.backend.backend(),
        }
        text = json.dumps(with_format("results", results), indent=1)
        write_text(self.out / "results.json", text)
        return results

    def _reporter(self, on_progress):
        """`on_progress`, whose KeyboardInterrupt waits for the end of the present step."""

        def report(progress):
            try:
                on_progress(progress)
            except KeyboardInterrupt as interrupt:
                self.interrupt = interrupt

        return None if on_progress is None else report


class _StopWhen(keras.callbacks.Callback):
    """Ends `fit` after a step at which `condition` holds.

    An exception out of a callback would leave JAX's training state behind, not in the model.
    """

    def __init__(self, condition):
        super().__init__()
        self.condition = condition

    def on_train_batch_begin(self, batch, logs=None):
        if self.condition():
            # Keras looks at this after the step; its property `model` would copy JAX's state.
            self._model.stop_training = True
