"""Search spaces: which settings of a run a search chooses, and how KerasTuner trains them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.data import Source
from keras_vit_scale.evaluation import Classifier
from keras_vit_scale.models.config import image_grid
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.recipe import loss_function, make_optimizer
from keras_vit_scale.runs.start import build_model
from keras_vit_scale.schedules.durations import parse
from keras_vit_scale.training.averaging import averaged
from keras_vit_scale.training.callbacks import FiniteLoss
from keras_vit_scale.training.loop import train_steps
from keras_vit_scale.tuning.budget import Budget, largest_shape
from keras_vit_scale.tuning.library import HyperModel, keras_tuner
from keras_vit_scale.tuning.probe import Probe
from keras_vit_scale.tuning.ranges import Range, check_ranges, choose


class RunHyperModel(HyperModel):
    """A search space of runs: what all such spaces have in common.

    A space of your own has a `config` that changes the one of its `base`. `RunTuner` trains
    its runs in folders and processes of their own; KerasTuner's own tuners train them too, in
    the process of the search, when `search()` is called without data.

    Args:
        base: The run that the search varies; or another space, so that both are searched at
            once.
        probe: Few-shot accuracy to look for; `None` for the loss on the validation images. By
            default that of a `base` that is a space.

    Raises:
        ImportError: If KerasTuner is not installed.
        ValueError: If there is nothing to judge a trial by, or an event ends the run.

    Example:

    >>> import dataclasses
    >>> from keras_vit_scale.runs import TrainConfig
    >>> from keras_vit_scale.tuning import RunHyperModel
    >>> class Losses(RunHyperModel):
    ...     def config(self, hp):
    ...         loss = hp.Choice("loss", ["sigmoid", "softmax"])
    ...         return dataclasses.replace(super().config(hp), loss=loss)
    >>> space = Losses(TrainConfig("mu/4", "digits", steps=9, image_size=8, validation=300))
    >>> space.objective.name, space.objective.direction
    ('val_loss', 'min')
    """

    def __init__(self, base: "TrainConfig | RunHyperModel", probe: Probe | None = None):
        super().__init__()
        if not isinstance(base, TrainConfig | RunHyperModel):
            raise ValueError(
                f"`base` must be a TrainConfig, or a search space of runs. Received: base={base!r}"
            )
        self.base = base
        self.probe = probe
        if probe is None and isinstance(base, RunHyperModel):
            self.probe = base.probe
        if self.probe is None and not self.run.validation:
            raise ValueError(
                "A search needs images to judge by: give `validation` of the run, or a `probe`. "
                "Received: validation=0, probe=None"
            )

        if self.run.deadline is not None or self.run.cool_down_file is not None:
            raise ValueError(
                "The runs of a search must end alike: give `steps`, and neither `deadline` nor "
                f"`cool_down_file`. Received: deadline={self.run.deadline!r}, "
                f"cool_down_file={self.run.cool_down_file!r}"
            )

    @property
    def run(self) -> TrainConfig:
        """The run that the search varies."""
        return self.base if isinstance(self.base, TrainConfig) else self.base.run

    @property
    def objective(self) -> Any:
        """What the search looks for, as KerasTuner's `Objective`."""
        if self.probe is None:
            return keras_tuner().Objective("val_loss", "min")
        return keras_tuner().Objective("fewshot_accuracy", "max")

    def config(self, hp: Any) -> TrainConfig:
        """The run of a trial, of whose hyperparameters the search learns meanwhile.

        Where Hyperband says how long, a run has so many epochs, instead of `steps`.
        """
        if isinstance(self.base, RunHyperModel):
            return self.base.config(hp)
        epochs = hp.values.get("tuner/epochs")
        if epochs is None:
            return self.base
        return dataclasses.replace(self.base, steps=f"{epochs} epochs", cool_down_at=None)

    def described(self) -> dict[str, Any]:
        """The space in words that tell it from others."""
        if isinstance(self.base, RunHyperModel):
            own = self.base.described()
        else:
            own = {f.name: getattr(self.base, f.name) for f in dataclasses.fields(self.base)}
        probe = None if self.probe is None else dataclasses.asdict(self.probe)
        return {**own, "probe": probe, type(self).__name__: self.searched()}

    def searched(self) -> dict[str, Any]:
        """What this space searches, by name; those of your own may say it."""
        return {}

    @functools.cached_property
    def data(self) -> tuple[Source, Source | None]:
        """The images to train on, and the validation images."""
        return open_data(self.run)

    def build(self, hp: Any) -> keras.Model:
        """The model of a trial at step 0, compiled: for KerasTuner's own tuners."""
        config, source = self.config(hp), self.data[0]
        plan = config.plan(len(source))
        keras.utils.set_random_seed(config.seed)
        model = build_model(config, source.class_names)
        model.compile(
            optimizer=make_optimizer(config, plan, make_schedule(config, plan)),
            loss=loss_function(config.loss, config.label_smoothing),
        )
        return model

    def fit(
        self,
        hp: Any,
        model: keras.Model,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options: Any,
    ) -> dict[str, float]:
        """Trains the model of a trial and judges it: for KerasTuner's own tuners.

        Args:
            hp, model: The trial's, as `build` made it.
            callbacks: KerasTuner's, and those given to `search`.
            options: Hyperband's `epochs` and `initial_epoch`. The data are the run's own.

        Returns:
            "loss", and of the validation images "val_loss" and "val_accuracy", and
            "fewshot_accuracy", as far as there are such.

        Raises:
            ValueError: If `search` was given data.
        """
        unknown = [*map(type, args), *(options.keys() - {"epochs", "initial_epoch", "verbose"})]
        if unknown:
            raise keras_tuner().errors.FatalValueError(
                "`search` takes callbacks alone: the run says what it is trained on, and how. "
                f"Received: {', '.join(map(str, unknown))}"
            )
        config, (source, held_out) = self.config(hp), self.data
        plan = config.plan(len(source))
        if begun := options.get("initial_epoch"):
            # The weights are those of a shorter trial; the schedule goes on where that was.
            before = dataclasses.replace(config, steps=f"{begun} epochs").plan(len(source))
            model.optimizer.iterations.assign(before.total_steps)
        loss = train_steps(
            model,
            source,
            config.train_transform(),
            batch_size=config.batch_size,
            seed=config.seed,
            stop=plan.total_steps or 0,
            augmentation=config.augmentation(),
            callbacks=[FiniteLoss(plan.log_every, max_skipped=config.max_skipped), *callbacks],
        )
        metrics = {} if loss is None else {"loss": loss}
        with averaged(model):
            judged = Classifier(
                model, config.eval_transform(), source.class_names, activation=config.loss
            )
            if held_out is not None:
                found = judged.evaluate(held_out)
                metrics |= {"val_loss": found["loss"], "val_accuracy": found["accuracy"]}
            if self.probe is not None:
                metrics["fewshot_accuracy"] = self.probe.accuracy(config, judged)
        return metrics


class RecipeHyperModel(RunHyperModel):
    """The recipe of a run: learning rate, warm-up, cooldown, weight decays, batch size.

    Every range is a list of choices, or a tuple of two ends between which ratios count. What
    is not given stays as `base` has it.

    Args:
        base, probe: As for `RunHyperModel`.
        peak: Learning rates at the end of the warm-up.
        warmup: Warm-ups: durations in a list, or parts of the run in a tuple.
        cooldown: Cooldowns: durations or parts in a list, or parts of the run in a tuple.
        head_decay, body_decay: Decoupled weight decays of the classifier's kernel and of
            every other one.
        batch_size: Batch sizes in a list. The run's length must then be in images or epochs,
            so that every trial sees as many.

    Raises:
        ImportError: If KerasTuner is not installed.
        ValueError: If no range is given, or one breaks a rule.

    Example:

    >>> from keras_vit_scale.runs import TrainConfig
    >>> from keras_vit_scale.tuning import RecipeHyperModel
    >>> import keras_tuner
    >>> run = TrainConfig("mu/4", "digits", steps=9, image_size=8, validation=300)
    >>> space = RecipeHyperModel(run, peak=(1e-3, 1e-1), head_decay=[0.0, 0.3, 3.0])
    >>> hp = keras_tuner.HyperParameters()
    >>> config = space.config(hp)
    >>> round(config.peak, 6), config.head_decay, [p.name for p in hp.space]
    (0.01, 0.0, ['peak', 'head_decay'])
    """

    def __init__(
        self,
        base: TrainConfig | RunHyperModel,
        probe: Probe | None = None,
        *,
        peak: Range | None = None,
        warmup: Range | None = None,
        cooldown: Range | None = None,
        head_decay: Range | None = None,
        body_decay: Range | None = None,
        batch_size: list[int] | None = None,
    ):
        super().__init__(base, probe)
        given = {
            "peak": peak,
            "warmup": warmup,
            "cooldown": cooldown,
            "head_decay": head_decay,
            "body_decay": body_decay,
            "batch_size": batch_size,
        }
        self.ranges = {name: values for name, values in given.items() if values is not None}
        if not self.ranges:
            raise ValueError(
                f"A search space needs something to choose: give one of {', '.join(given)}. "
                "Received: none of them"
            )
        check_ranges(**self.ranges)
        for name in ("warmup", "cooldown"):
            values = self.ranges.get(name)
            if isinstance(values, tuple) and not values[1] < 1:
                raise ValueError(
                    f"A tuple of `{name}` is a range of parts of the run, below 1; give durations "
                    f"in a list. Received: {name}={values!r}"
                )
        if batch_size is not None:
            self._check_batch(batch_size)
        for name, values in self.ranges.items():
            for value in values:
                self._changed(self.run, {name: value})  # which refuses what no run can have

    def _check_batch(self, sizes):
        if not isinstance(sizes, list):
            raise ValueError(
                f"`batch_size` must be a list of whole numbers. Received: batch_size={sizes!r}"
            )
        steps = self.run.steps
        if not isinstance(steps, str) or parse(steps)[1] not in ("images", "epochs"):
            raise ValueError(
                "Where the batch size is searched, `steps` of the run must be in images or "
                "epochs, such as '30 epochs': else the larger batch sees more images and costs "
                f"more. Received: steps={steps!r}, batch_size={sizes!r}"
            )

    def config(self, hp: Any) -> TrainConfig:
        """The run of a trial."""
        run = super().config(hp)
        chosen = {name: choose(hp, name, values) for name, values in self.ranges.items()}
        return self._changed(run, chosen)

    def _changed(self, run, chosen):
        if isinstance(self.ranges.get("warmup"), tuple) and "warmup" in chosen:
            # A run's warm-up is a duration; of the cooldown a part will do.
            chosen = {**chosen, "warmup": f"{100 * chosen['warmup']:.6g}%"}
        return dataclasses.replace(run, **chosen)

    def searched(self) -> dict[str, Any]:
        """The ranges by name."""
        return self.ranges


class ViTHyperModel(RunHyperModel):
    """The shape of a model under a budget: aspect, MLP, heads, patch, pooling.

    Every trial has the largest shape of its aspect that the budget holds (`largest_shape`), so
    that all cost about the same and none is better for being larger. Small budgets are met
    roughly: one more head or block is a large part of them.

    Args:
        base, probe: As for `RunHyperModel`.
        flops: Budget of FLOPs of one image forward, head included; or
        parameters: of parameters.
        aspect: Width over depth, a range. Table 2 of the paper has 16 (Ti) to 64 (B).
        mlp_ratio: Widths of the MLP over that of the model.
        head_dim: Features of an attention head, in a list.
        patch_size: Sides of the patches in pixels, in a list; by default those of `base`.
        pooling: "map", "gap", "token", in a list; by default that of `base`.

    Raises:
        ImportError: If KerasTuner is not installed.
        ValueError: If a range breaks a rule, the images are no multiple of a patch, or the
            budget does not hold the smallest model of each patch, pooling and head.

    Example:

    >>> from keras_vit_scale.runs import TrainConfig
    >>> from keras_vit_scale.tuning import ViTHyperModel
    >>> import keras_tuner
    >>> run = TrainConfig("mu/4", "digits", steps=9, image_size=8, validation=300)
    >>> space = ViTHyperModel(
    ...     run, parameters=20_000, aspect=(4.0, 64.0), head_dim=[8], patch_size=[2, 4]
    ... )
    >>> space.config(keras_tuner.HyperParameters()).size
    'width=24,depth=1,mlp_dim=96,heads=3,patch_size=2'
    """

    def __init__(
        self,
        base: TrainConfig | RunHyperModel,
        probe: Probe | None = None,
        *,
        flops: float | None = None,
        parameters: float | None = None,
        aspect: Range = (8.0, 128.0),
        mlp_ratio: Range = [4.0],  # noqa: B006  (never written)
        head_dim: list[int] = [64],  # noqa: B006
        patch_size: list[int] | None = None,
        pooling: list[str] | None = None,
    ):
        super().__init__(base, probe)
        self.budget = Budget(flops=flops, parameters=parameters)
        self.ranges = {
            "aspect": aspect,
            "mlp_ratio": mlp_ratio,
            "head_dim": head_dim,
            "patch_size": [self.run.shape().patch_size] if patch_size is None else patch_size,
            "pooling": [self.run.pooling] if pooling is None else pooling,
        }
        check_ranges(**self.ranges)
        for name in ("head_dim", "patch_size", "pooling"):
            if not isinstance(self.ranges[name], list):
                raise ValueError(
                    f"`{name}` must be a list of choices. Received: {name}={self.ranges[name]!r}"
                )
        for name in ("head_dim", "patch_size"):
            sizes = enumerate(self.ranges[name])
            check_positive_integers(**{f"{name}[{i}]": size for i, size in sizes})
        if all(isinstance(v, list) and len(v) == 1 for v in self.ranges.values()):
            raise ValueError(
                "A search space needs something to choose: give a range of "
                f"{', '.join(self.ranges)}. Received: one value of each"
            )
        for patch in self.ranges["patch_size"]:
            for pooled in self.ranges["pooling"]:
                for features in self.ranges["head_dim"]:
                    self._shape(patch, pooled, max(self.ranges["mlp_ratio"]), features, 1.0)

    def _shape(self, patch_size, pooling, mlp_ratio, head_dim, aspect):
        image_grid(self.run.image_size, patch_size)
        return largest_shape(
            self.budget,
            self.run.image_size,
            patch_size=patch_size,
            aspect=aspect,
            mlp_ratio=mlp_ratio,
            head_dim=head_dim,
            pooling=pooling,
            num_classes=len(self.data[0].class_names),
        )

    def config(self, hp: Any) -> TrainConfig:
        """The run of a trial."""
        run = super().config(hp)
        chosen: dict[str, Any] = {
            # One choice is none: the search need not learn of it.
            name: values[0] if values == [values[0]] else choose(hp, name, values)
            for name, values in self.ranges.items()
        }
        shape = self._shape(**chosen)
        size = ",".join(f"{name}={value}" for name, value in dataclasses.asdict(shape).items())
        return dataclasses.replace(run, size=size, pooling=chosen["pooling"])

    def searched(self) -> dict[str, Any]:
        """The ranges by name, and the budget."""
        return {**self.ranges, "budget": str(self.budget)}
