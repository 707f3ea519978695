"""One size of a study with one seed: its trunk, and a cooldown at each duration, then probed."""

import shutil
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import keras

from keras_vit_scale.atomic import replacing
from keras_vit_scale.data.identity import digest_of_labels
from keras_vit_scale.evaluation import extract_features, representation
from keras_vit_scale.formats import write_json
from keras_vit_scale.losses import SigmoidCrossEntropy
from keras_vit_scale.models import ViT
from keras_vit_scale.optimizers import Adafactor, head_and_body
from keras_vit_scale.ownership import claiming
from keras_vit_scale.planning import training_costs
from keras_vit_scale.processes import from_first, is_first, meet
from keras_vit_scale.runs.recipe import head_bias
from keras_vit_scale.scaling.config import StudyConfig, StudyError, folder_name
from keras_vit_scale.scaling.study_data import StudyData
from keras_vit_scale.schedules.branching import Branching
from keras_vit_scale.sharding import on_host
from keras_vit_scale.training.callbacks.saving import Saving
from keras_vit_scale.training.callbacks.steps import steps_done
from keras_vit_scale.training.checkpoints.manifest import CheckpointError, DamagedError
from keras_vit_scale.training.checkpoints.restoring import Restored
from keras_vit_scale.training.checkpoints.state import set_metrics
from keras_vit_scale.training.checkpoints.store import CheckpointStore, Keep
from keras_vit_scale.training.diverged import DivergedError
from keras_vit_scale.training.loop import train_steps
from keras_vit_scale.training.progress import StepClock
from keras_vit_scale.training.stopping import Stopping


class _Trained(NamedTuple):
    """A model in training, its schedule, and the model of its features."""

    model: keras.Model
    rate: Branching
    features: keras.Model


class StudyRun:
    """One size with one seed, on all images or a part: a trunk and its cooldowns."""

    def __init__(
        self,
        config: StudyConfig,
        size: str,
        seed: int,
        out: Path,
        data: StudyData,
        stopping: Stopping,
        images: int | None = None,
    ):
        self.config, self.size, self.seed, self.data = config, size, seed, data.of(images)
        self.stopping = stopping
        self.shape = config.shape(size)
        part = f"seed-{seed}" if images is None else f"seed-{seed}-images-{images}"
        self.folder = Path(out) / "runs" / folder_name(size, self.shape) / part
        self.label = part.replace("seed-", f"{size} seed ").replace("-images-", " images ")
        self.data_sizes = {"data_size": len(self.data.upstream), "data_whole": len(data.upstream)}
        # Steps at which a cooldown left the trunk have names, and stay.
        self.trunk = CheckpointStore(self.folder / "trunk", Keep(last=2))
        self.damaged: set[int] = set()
        self.images = digest_of_labels(
            self.data.upstream,
            data.validation,
            *(part for probe in data.probes.values() for part in (probe.train, probe.test)),
        )

    def unfinished(self) -> list[int]:
        """Durations without a result."""
        durations = sorted(self.config.durations)
        return from_first([d for d in durations if not (self.branch(d) / "result.json").is_file()])

    def branch(self, duration: int) -> Path:
        return self.folder / f"steps-{duration:08d}"

    def trunk_plan(self) -> list[tuple[int, int]]:
        """Stretches (start, stop) of the trunk that the missing branches still need."""
        saved = self.saved()
        wanted = {self.config.branch_step(d) for d in self.unfinished()} - saved
        return trunk_stretches(wanted, saved)

    def saved(self) -> set[int]:
        """Steps of the trunk's checkpoints that are not known to be damaged."""
        return set(from_first(self.trunk.steps())) - self.damaged

    def steps_left(self) -> int:
        """Training steps that `execute` will do, trunk and cooldowns."""
        cooldowns = sum(d - self.config.branch_step(d) for d in self.unfinished())
        return cooldowns + sum(stop - start for start, stop in self.trunk_plan())

    def ready(self, duration: int) -> bool:
        """Whether the trunk has the checkpoint that a branch begins at, and keeps it."""
        step = self.config.branch_step(duration)
        return step in from_first(list(self.trunk.names().values())) and step in self.saved()

    def execute(self, clock: StepClock) -> bool:
        """Trains the trunk as far as a missing branch needs it, then each missing branch.

        What another process works on is left to that.

        Returns:
            Whether there was something to do.
        """
        # Made anew, since a trunk begins with the weights of its seed, and when it is needed.
        trained: list[_Trained] = []

        def training() -> _Trained:
            if not trained:
                trained.append(self._build())
            return trained[0]

        done = False
        if not all(self.ready(duration) for duration in self.unfinished()):
            with claiming(self.folder / "trunk") as mine:
                if mine:
                    self._grow_trunk(training, clock)
                    done = True
        for duration in set(self.config.durations) - set(self.unfinished()):
            # Of a process that was killed between a result and this.
            self._let_go(duration)
        for duration in self.unfinished():
            if self.ready(duration):
                with claiming(self.branch(duration)) as mine:
                    # Another process may have finished it since.
                    if mine and duration in self.unfinished():
                        self._cool_down(training(), duration, clock)
                        done = True
        if trained:
            distribution = keras.distribution.distribution()
            keras.utils.clear_session()
            keras.distribution.set_distribution(distribution)
        return done

    def _build(self) -> "_Trained":
        """The model at step 0, compiled."""
        keras.utils.set_random_seed(self.seed)
        classes = len(self.data.upstream.class_names)
        model = ViT(
            self.shape,
            classes,
            image_size=self.config.image_size,
            head_bias=head_bias(self.config.recipe.loss, classes),
            name="vit",
        )
        rate = Branching(self.config.schedule(self.size))
        self._compile(model, rate)
        return _Trained(model, rate, representation(model))

    def _grow_trunk(self, training, clock):
        """Makes a checkpoint at every step where a missing branch leaves the trunk."""
        for duration in self.config.durations:
            # Before they are there, so that no kill comes between a checkpoint and its name.
            self.trunk.name(self.config.branch_step(duration), f"cooldown to {duration}")
        while plan := self.trunk_plan():
            start, stop = plan[0]
            model, restored = training().model, None
            if start != steps_done(model):
                restored = self._restored_trunk(model, start)
                if restored is None:
                    continue  # from the one before
            self._train(model, self.trunk, stop, f"{self.label}: trunk", clock, restored)
            self.damaged.discard(stop)

    def _cool_down(self, training, duration, clock):
        model, rate, features = training
        started = time.perf_counter()
        branch_step = self.config.branch_step(duration)
        rate.cool_down(duration, duration - branch_step)
        begun = CheckpointStore(self.branch(duration) / "checkpoints", Keep(last=2))
        restored = self._restored_cooldown(model, begun)
        if restored is None:
            restored = self._restored_trunk(model, branch_step)
            if restored is None:
                return  # until the trunk has been trained to it again
            # The trunk's means are not the cooldown's.
            restored = Restored(restored.step, {}, {})
        doing = f"{self.label}: cooldown to {duration}"
        loss = self._train(model, begun, duration, doing, clock, restored)
        clock.say(f"{self.label}: probe at {duration}")
        folder = self.branch(duration)
        # The file tells this branch's own schedule.
        model.optimizer.learning_rate = self.config.schedule(self.size, duration)
        with on_host(model):
            if is_first():
                with replacing(folder / "model.keras", ".keras") as new:
                    model.save(new)
        model.optimizer.learning_rate = rate
        result = {
            **self._costs(duration),
            **self.data_sizes,
            "cooldown_loss": loss,
            "cooldown_seconds": round(time.perf_counter() - started, 3),
            "backend": keras.backend.backend(),
            "upstream_error": self._upstream_error(model),
            "probes": [
                {
                    "task": task,
                    "test_images": len(probe.test),
                    "shots": r.shots,
                    "seed": r.seed,
                    "error": 1 - r.accuracy,
                }
                for task, probe in self.data.probes.items()
                for r in probe(features)
            ],
        }
        if is_first():
            write_json("study result", folder / "result.json", result)
        self._let_go(duration)

    def _let_go(self, duration):
        """Deletes the checkpoints of a cooldown that has its result."""
        if is_first():
            shutil.rmtree(self.branch(duration) / "checkpoints", ignore_errors=True)
        meet("cooled down")

    def _upstream_error(self, model):
        """Part of the validation images that is given a wrong class, or `None`."""
        images = self.data.validation
        if images is None:
            return None
        logits = extract_features(model, images, self.config.probe_transform())
        return float((logits.argmax(1) != images.labels).mean())

    def _costs(self, duration):
        costs = training_costs(
            self.shape,
            self.config.image_size,
            duration * self.config.recipe.batch_size,
            pooling="map",
            num_classes=len(self.data.upstream.class_names),
        )
        return {"size": self.size, "seed": self.seed, "steps": duration, **costs}

    def _compile(self, model, rate):
        recipe = self.config.recipe
        model.compile(
            optimizer=Adafactor(
                rate,
                weight_decay=head_and_body(recipe.head_decay, recipe.body_decay),
                global_clipnorm=recipe.clip_norm,
            ),
            loss=SigmoidCrossEntropy()
            if recipe.loss == "sigmoid"
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def _restored_trunk(self, model: keras.Model, step: int) -> Restored | None:
        """What the trunk's checkpoint of a step holds; `None` if it is damaged."""
        try:
            return self._restored(model, self.trunk, step)
        except DamagedError as error:
            warnings.warn(f"{error}. The trunk is trained to it again.", stacklevel=2)
            self.damaged.add(step)
            return None

    def _restored_cooldown(self, model: keras.Model, begun: CheckpointStore) -> Restored | None:
        """What the last whole checkpoint of a cooldown holds; `None` if there is none."""
        try:
            return self._restored(model, begun, None) if begun.steps() else None
        except DamagedError as error:
            warnings.warn(f"{error}. The cooldown begins again.", stacklevel=2)
            return None

    def _restored(self, model: keras.Model, store: CheckpointStore, step: int | None) -> Restored:
        try:
            restored = store.restore(model, step)
        except DamagedError:
            raise
        except CheckpointError as error:
            raise StudyError(f"{error}. Delete that folder to train to this step again.") from error
        if restored.extra.get("images", self.images) != self.images:
            raise StudyError(
                f"{store.folder} was trained on other images: since then some were added, removed "
                "or given other labels, so that others would be held out. Bring them back, or take "
                "another folder."
            )
        return restored

    def _train(self, model, store, stop, doing, clock, restored):
        if restored is not None and restored.step == stop:
            # Killed after its last step: what the loss was is in the checkpoint.
            set_metrics(model, restored.metrics)
            return float(model.get_metrics_result()["loss"])
        self.stopping.all_saved(store.join)
        saving = Saving(
            store,
            self.config.checkpoint_every,
            stopping=self.stopping,
            extra=lambda step: {"images": self.images},
            restored=restored,
        )
        try:
            loss = train_steps(
                model,
                self.data.upstream,
                self.config.train_transform(),
                batch_size=self.config.recipe.batch_size,
                seed=self.seed,
                stop=stop,
                workers=self.config.data.workers,
                callbacks=[clock.callback(doing), saving],
            )
            saving.save_last()
            store.wait()
        except DivergedError as error:
            raise StudyError(
                f"{doing} at a peak rate of {self.config.peak(self.size)}: {error}"
            ) from error
        finally:
            # What still writes into the folder must not outlast the claim.
            store.join()
        self.stopping.all_saved(store.join)
        return loss


def trunk_stretches(wanted: Collection[int], saved: Collection[int]) -> list[tuple[int, int]]:
    """How to reach all `wanted` steps from step 0 and the `saved` ones, each step trained once.

    Example:

    >>> from keras_vit_scale.scaling.study_run import trunk_stretches
    >>> trunk_stretches({10, 30, 70}, {20, 50})
    [(0, 10), (20, 30), (50, 70)]
    """
    stretches, reached = [], {0, *saved}
    for stop in sorted(wanted):
        stretches.append((max(s for s in reached if s <= stop), stop))
        reached.add(stop)
    return stretches
