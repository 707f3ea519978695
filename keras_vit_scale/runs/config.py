"""What one training run is: model, data, recipe and durations, as a dataclass or YAML."""

import dataclasses
import datetime
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from keras_vit_scale.checks import (
    check_one_of,
    check_positive,
    check_positive_integers,
    check_rates,
    is_whole,
)
from keras_vit_scale.data import Augmentation, EvalTransform, TrainTransform
from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.preprocessing import MARGIN
from keras_vit_scale.data.replacing import bad_limit
from keras_vit_scale.data.workers import check_workers
from keras_vit_scale.models import ViTConfig, preset
from keras_vit_scale.models.config import image_grid
from keras_vit_scale.optimizers import head_and_body
from keras_vit_scale.optimizers.decay import check_decay
from keras_vit_scale.runs.plan import Plan, make_plan, make_schedule
from keras_vit_scale.runs.settings import STRICT, read_settings
from keras_vit_scale.schedules.durations import parse

# The command line is parsed from the class below; these say how a value is shown there.
Duration = Annotated[int | str, arg(metavar="DURATION")]
MaybeDuration = Annotated[int | str | None, arg(metavar="DURATION")]

#: Settings that no weight of a step already done depends on: a run may go on with others.
FREE = (
    "cool_down_at",
    "deadline",
    "cool_down_file",
    "evaluate_every",
    "checkpoint_every",
    "keep_last",
    "keep_every",
    "log_every",
    # As long as bad images are errors, none was in a step.
    "bad_images",
    "max_bad",
    "max_skipped",
    "max_rewinds",
    # The batches are the same.
    "workers",
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run, of which the command's options are the fields.

    A duration is a number of steps, or a text: "500 steps", "1e6 images", "90 epochs" or
    "10%" of the steps. A run ends at `steps`; or, if a cooldown is begun by `cool_down_at`,
    `deadline` or `cool_down_file`, at the end of that cooldown.

    Raises:
        ValueError: If a value breaks a rule or contradicts another.

    Example:

    >>> from keras_vit_scale.runs import TrainConfig
    >>> config = TrainConfig("S/16", data="photos/", steps="90 epochs", batch_size=1024)
    >>> config.plan(images=1_281_167).total_steps
    112603
    """

    __pydantic_config__ = STRICT

    size: Annotated[Positional[str], arg(metavar="SIZE")]
    """A preset such as S/16, or width=32,depth=3,mlp_dim=128,heads=2,patch_size=4."""
    data: str
    """Training images: digits, a folder of class folders, an .npz file, tfds:NAME@SPLIT."""
    steps: MaybeDuration = None
    """How long to train: 20000, "1e6 images", "90 epochs"."""
    images: Annotated[int | None, arg(metavar="IMAGES")] = None
    """Use only so many random images of the data, as many of each class as it has."""
    validation: Annotated[int | float, arg(metavar="IMAGES|PART")] = 0
    """Images held out and evaluated: how many, or which part of the data (0.01)."""
    stratified: bool = False
    """Hold out of each class its share, and not whichever images come."""
    evaluate_every: MaybeDuration = None
    """Steps between evaluations, as any duration; at the end alone by default."""
    image_size: int = 224
    """Side of the images in pixels."""
    batch_size: int = 256
    """Images a step. The paper's is 4096."""
    seed: int = 0
    """Decides weights, held-out images, order and augmentation."""

    bad_images: Literal["error", "replace"] = "error"
    """Files of a folder that cannot be read: an error that names the file, or replaced by other
    images and listed in bad_images.csv."""
    max_bad: Annotated[int | float, arg(metavar="IMAGES|PART")] = 0.01
    """Replace at most so many images, or such a part of the data; more are an error."""
    orientation: Literal["ignore", "apply"] = "ignore"
    """EXIF's orientation of image files: pixels as they are stored, or turned as people see
    them. The model keeps it."""
    max_pixels: int = MAX_PIXELS
    """Pixels of an image file at most, checked before it is decoded."""
    fast: bool = False
    """Decode JPEGs quicker, to the same pixels, and of training images no more than is cut out;
    resize these by OpenCV where the filter is bilinear without antialiasing, to within one level
    (extra fast)."""
    links: Literal["refuse", "follow"] = "refuse"
    """Symbolic links that lead out of a folder of images: an error, or followed."""
    exclude: Annotated[str | None, arg(metavar="FILE")] = None
    """Leave out the images of this list, which dedup wrote for these data: excluded.parquet."""
    workers: int = 0
    """Processes that read the training images; 0 for two threads, enough for small images."""

    crop: Literal["inception", "shift", "none"] = "inception"
    """Training crop: the paper's, or squashed and moved by a pixel or so, or only squashed."""
    max_shift: int = 1
    """Pixels that the crop "shift" moves an image at most."""
    flip: bool = True
    """Mirror half of the training images."""
    rand_augment: int = 0
    """Operations of RandAugment, for fine-tuning on little data. The paper uses none."""
    mixup: float = 0.0
    """Alpha of MixUp, in [0, 1]; 0 for none, as in the paper."""
    cutmix: float = 0.0
    """Alpha of CutMix; with MixUp each batch has one of them."""
    resize: Literal["short", "squash", "none"] = "short"
    """Evaluation: short side or both sides to a margin's more than the size and its centre,
    or squashed."""
    margin: float = MARGIN
    """That margin: sides before the central crop over sides after it, by default 8/7."""
    filter: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bilinear"
    """How images are resized, for training and evaluation. The model keeps it."""
    antialias: bool = True
    """Whether that filter grows with the scale where an image shrinks, so that every pixel
    counts. TensorFlow's does not unless it is asked to."""

    pooling: Literal["map", "gap", "token"] = "map"
    """How the tokens become one vector."""
    dropout: float = 0.0
    """Part of the activations dropped in training."""
    stochastic_depth: float = 0.0
    """Chance of the last block to be skipped; it rises from 0 at the first."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What layers compute in."""
    remat: Annotated[str | None, arg(metavar="{auto,None,full,dots}")] = "auto"
    """What the backward pass computes again: auto is fastest, full needs the least memory."""
    init: Annotated[str | None, arg(metavar="MODEL")] = None
    """Start from a model's weights: a run's folder, a .keras file, or another project's weights
    (a file, a folder, hf://owner/name). Other classes get a new head."""
    new_head: bool = False
    """Give the same classes a new head too."""

    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    """Cross-entropy: of every class apart and summed (the paper's), or of their softmax."""
    label_smoothing: float = 0.0
    """How far targets are moved towards indifference."""
    optimizer: Literal["adafactor", "adamw", "momentum"] = "adafactor"
    """The paper's Adafactor, AdamW with a bfloat16 first moment, or gradient descent with
    momentum, as in the paper's fine-tuning."""
    peak: float = 8e-4
    """Learning rate at the end of the warm-up: of the published g/14, at batch 16384."""
    schedule: Literal["rsqrt", "constant", "linear", "cosine"] = "rsqrt"
    """Decay after the warm-up."""
    warmup: MaybeDuration = None
    """Duration of the warm-up: by default a tenth of the run, at most the paper's 10000 steps."""
    timescale: float = 10_000.0
    """Steps after the warm-up until rsqrt has fallen to 0.71 of the peak."""
    cooldown: Annotated[int | float | str | None, arg(metavar="DURATION|PART")] = None
    """Length of the cooldown, a duration or a part (0.2) of the run: by default 0.2, and
    none for linear and cosine, which end at zero themselves."""
    head_decay: float = 3.0
    """Decoupled weight decay of the classifier's kernel."""
    body_decay: float = 0.03
    """Decoupled weight decay of every other kernel."""
    clip_norm: float = 1.0
    """Largest global norm of the gradients."""
    average: Duration = 0
    """Judge and keep the mean of the weights over about so many last steps, weighted
    exponentially (Polyak averaging); 0 for the weights themselves."""

    cool_down_at: MaybeDuration = None
    """Begin the cooldown at this step, as any duration; instead of steps."""
    deadline: Annotated[str | None, arg(metavar="TIME")] = None
    """Begin the cooldown so that it ends by this time: 2027-01-31T18:00+00:00."""
    cool_down_file: Annotated[str | None, arg(metavar="FILE")] = None
    """Begin the cooldown when this file appears."""
    checkpoint_every: Duration = 1000
    """Steps between checkpoints, as any duration."""
    keep_last: int = 2
    """Keep so many of the newest checkpoints: with one, nothing is behind a damaged one."""
    keep_every: MaybeDuration = None
    """Keep those at multiples of so many steps too, as any duration: to cool down from later."""
    log_every: Duration = 50
    """Steps between rows of log.csv, as any duration."""

    on_nonfinite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is not finite ends the run; or the update is skipped."""
    max_skipped: int = 10
    """So many skipped updates in a row end the run."""
    on_spike: Literal["ignore", "warn", "rewind"] = "ignore"
    """What is done about a leap of the loss: nothing, a warning, or going back to the last
    checkpoint before it and on from there without the images in between."""
    spike_window: Duration = 50
    """Steps whose mean loss is held against earlier ones, as any duration."""
    max_rewinds: int = 3
    """So many times the run goes back; the next spike ends it."""

    def __post_init__(self):
        for name, hint in typing.get_type_hints(type(self)).items():
            if typing.get_origin(hint) is Literal:
                check_one_of(typing.get_args(hint), **{name: getattr(self, name)})
        check_positive_integers(
            image_size=self.image_size,
            batch_size=self.batch_size,
            keep_last=self.keep_last,
            max_pixels=self.max_pixels,
            max_skipped=self.max_skipped,
            max_rewinds=self.max_rewinds,
        )
        bad_limit(self.max_bad, images=1)
        check_workers(self.workers)
        check_positive(peak=self.peak, timescale=self.timescale, clip_norm=self.clip_norm)
        check_rates(
            dropout=self.dropout,
            stochastic_depth=self.stochastic_depth,
            label_smoothing=self.label_smoothing,
        )
        if not is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"`seed` must be a whole number from 0. Received: seed={self.seed!r}")
        check_decay(head_and_body(self.head_decay, self.body_decay))
        self._check_validation()
        self._check_ends()
        image_grid(self.image_size, self.shape().patch_size)
        self.train_transform()
        self.eval_transform()
        self.augmentation()

    def _check_validation(self):
        if self.images is not None:
            check_positive_integers(images=self.images)
        held_out = self.validation
        whole = is_whole(held_out) or held_out == 0
        if not (held_out >= 0 if whole else 0 < held_out < 1):
            raise ValueError(
                "`validation` must be a number of images, or a part of the data between 0 and 1. "
                f"Received: validation={held_out}"
            )
        if self.new_head and self.init is None:
            raise ValueError(
                "A new head is one for the model in `init`: give that too, or neither. "
                "Received: new_head=True, init=None"
            )
        if self.evaluate_every is not None and not self.validation:
            raise ValueError(
                "Evaluation needs held-out images: give `validation` too. "
                f"Received: evaluate_every={self.evaluate_every!r}, validation=0"
            )

    def _check_ends(self):
        if self.steps is None and not self.begins_cooldown():
            raise ValueError(
                "A run needs an end: give `steps`; or `cool_down_at`, `deadline` or "
                "`cool_down_file`, which begin its cooldown. Received: none of them"
            )
        if self.steps is not None and self.cool_down_at is not None:
            raise ValueError(
                "Give `steps`, where the cooldown ends, or `cool_down_at`, where it begins. "
                f"Received: steps={self.steps!r}, cool_down_at={self.cool_down_at!r}"
            )
        if self.steps is None and self.schedule in ("linear", "cosine"):
            raise ValueError(
                f"The schedule {self.schedule!r} decays over the whole run, so `steps` must be "
                "given. Received: steps=None"
            )
        cooldown = self.cooldown_length()
        if self.begins_cooldown() and not cooldown:
            raise ValueError(
                "`cool_down_at`, `deadline` and `cool_down_file` begin a cooldown, so `cooldown` "
                f"must be positive. Received: cooldown={self.cooldown!r} with the schedule "
                f"{self.schedule!r}"
            )
        if self.deadline is not None:
            self.deadline_time()

    def begins_cooldown(self) -> bool:
        """Whether something else than `steps` can begin the cooldown."""
        return any(
            value is not None for value in (self.cool_down_at, self.deadline, self.cool_down_file)
        )

    def cooldown_length(self) -> int | float | str:
        """The cooldown with its default in place: a part as a float, else a duration.

        Raises:
            ValueError: If a part is not in [0, 1).
        """
        length = self.cooldown
        if length is None:
            return 0.2 if self.schedule in ("rsqrt", "constant") else 0
        if isinstance(length, str) and "%" in length:
            length = float(parse(length)[0] / 100)
        if isinstance(length, float) and not 0 <= length < 1:
            raise ValueError(
                "`cooldown` must be a duration, or a part of the run in [0, 1). "
                f"Received: cooldown={self.cooldown!r}"
            )
        return length

    def deadline_time(self) -> datetime.datetime:
        """The deadline as a time.

        Raises:
            ValueError: If it is no ISO 8601 time with a time zone.
        """
        try:
            time = datetime.datetime.fromisoformat(self.deadline or "")
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            raise ValueError(
                "`deadline` must be a time with its zone, such as 2027-01-31T18:00+00:00. "
                f"Received: deadline={self.deadline!r}"
            )
        return time

    def shape(self) -> ViTConfig:
        """The model's shape, of a preset's name or of five numbers by name.

        Raises:
            ValueError: If `size` is neither.
        """
        if "=" not in self.size:
            return preset(self.size)
        fields = [f.name for f in dataclasses.fields(ViTConfig)]
        pairs = [part.partition("=") for part in self.size.split(",")]
        given = {name.strip(): value.strip() for name, _, value in pairs}
        if (
            set(given) != set(fields)
            or len(pairs) != len(fields)
            or not all(value.isascii() and value.isdigit() for value in given.values())
        ):
            raise ValueError(
                f"A shape must give {', '.join(fields)}, each once, as whole numbers: "
                f"width=32,depth=3,mlp_dim=128,heads=2,patch_size=4. Received: {self.size!r}"
            )
        return ViTConfig(**{name: int(value) for name, value in given.items()})

    def train_transform(self) -> TrainTransform:
        """Preprocessing of the training images."""
        return TrainTransform(
            self.image_size,
            self.crop,
            self.flip,
            self.max_shift,
            self.filter,
            self.antialias,
            self.fast,
        )

    def augmentation(self) -> Augmentation | None:
        """Augmentation of the batches, or `None`."""
        if not (self.rand_augment or self.mixup or self.cutmix):
            return None
        return Augmentation(self.rand_augment, mixup=self.mixup, cutmix=self.cutmix)

    def eval_transform(self) -> EvalTransform:
        """Preprocessing for evaluation, which the model keeps."""
        return EvalTransform(self.image_size, self.resize, self.margin, self.filter, self.antialias)

    def plan(self, images: int) -> Plan:
        """This run's durations in steps, for so many training images.

        Raises:
            ValueError: If a duration cannot be read or the durations contradict each other.
        """
        plan = make_plan(self, images)
        make_schedule(self, plan)
        return plan


def load_run_config(out: str | Path) -> TrainConfig:
    """The config of a run's folder.

    Raises:
        ValueError: If the folder holds no run, or its config.yaml breaks a rule.
    """
    path = Path(out) / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"A run's folder must hold a config.yaml. Received: {out} ({error})"
        ) from error
    return read_settings(TrainConfig, text, path, "run")
