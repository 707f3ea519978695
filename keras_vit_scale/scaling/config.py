"""What a study is: sizes, durations, seeds, data, recipe and probe, as dataclasses or YAML."""

import dataclasses
import difflib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated

import pydantic

from keras_vit_scale.checks import (
    check_fractions,
    check_one_of,
    check_positive,
    check_positive_integers,
    check_rates,
)
from keras_vit_scale.data import EvalTransform, TrainTransform
from keras_vit_scale.data.decode import MAX_PIXELS, check_reading
from keras_vit_scale.data.folder import LINKS
from keras_vit_scale.data.replacing import bad_limit
from keras_vit_scale.data.resizing import check_filter
from keras_vit_scale.data.workers import check_workers
from keras_vit_scale.models import ViTConfig, preset
from keras_vit_scale.optimizers import head_and_body
from keras_vit_scale.optimizers.decay import check_decay
from keras_vit_scale.runs.settings import (
    STRICT,
    SettingsError,
    differences,
    read_settings,
    settings_text,
)
from keras_vit_scale.schedules import ReciprocalSqrt

#: One name, or several.
_Names = Annotated[
    tuple[str, ...], pydantic.BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)
]


class StudyError(Exception):
    """A study that cannot be run as it is described or with the folder it has."""


@dataclass(frozen=True)
class DataConfig:
    """What trunks are trained on and what they are judged on.

    The probe's images are ones that no trunk saw. They come from other data sets
    (`downstream`), from `held_out` images of `upstream` or from its `held_out_classes`.
    Each data set is a task of its own, with its own law.
    """

    __pydantic_config__ = STRICT

    upstream: str = "digits"
    """Training images: "digits", a folder of class folders, an .npz file, tfds:NAME@SPLIT."""
    downstream: _Names = ()
    """Images for the probe: other data sets, named the same way."""
    held_out: int = 0
    """And, or instead: this many random images of `upstream`, of the same classes."""
    held_out_classes: tuple[str, ...] = ()
    """Or: the images of these classes of `upstream`, which no trunk learns."""
    validation: int = 0
    """Further images of `upstream` that no trunk is trained on, for the upstream error."""
    split_seed: int = 0
    """Decides which images are held out."""
    crop: str = "inception"
    """Training crop: "inception" (the paper's), "shift" or "none"."""
    flip: bool = True
    """Whether to mirror half of the training images."""
    max_shift: int = 1
    """Pixels that the crop "shift" moves an image at most."""
    filter: str = "bilinear"
    """How images are resized, for training and the probe: "bilinear", "bicubic", "lanczos", "box"
    or "nearest"."""
    antialias: bool = True
    """Whether that filter grows with the scale where an image shrinks."""
    bad_images: str = "error"
    """Files of folders that cannot be read: "error", or "replace" them by other images and list
    them in bad_images.csv."""
    max_bad: int | float = 0.01
    """Replace at most so many images, or such a part of all data sets; more are an error."""
    orientation: str = "ignore"
    """EXIF's orientation of image files: "ignore", pixels as they are stored, or "apply" it."""
    max_pixels: int = MAX_PIXELS
    """Pixels of an image file at most, checked before it is decoded."""
    fast: bool = False
    """Decode JPEGs quicker, to the same pixels, and resize training images by OpenCV where the
    filter is bilinear without antialiasing (extra `fast`)."""
    links: str = "refuse"
    """Symbolic links that lead out of a folder of images: "refuse" or "follow" them."""
    exclude: str | None = None
    """A list of images of `upstream` to leave out, which dedup wrote for it."""
    workers: int = 0
    """Processes that read the training images; 0 for two threads."""
    stratified: bool = False
    """Whether `data_sizes` of a study take from each class its share."""

    def __post_init__(self):
        check_one_of(("error", "replace"), bad_images=self.bad_images)
        bad_limit(self.max_bad, images=1)
        check_reading(self.orientation, self.max_pixels, self.fast)
        check_one_of(LINKS, links=self.links)
        check_filter(self.filter, self.antialias)
        check_workers(self.workers)
        for name in ("held_out", "validation"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` is a number of images. Received: {name}={getattr(self, name)}"
                )
        if not (self.downstream or self.held_out or self.held_out_classes):
            raise ValueError(
                "Give downstream, held_out or held_out_classes, so that the probe has images "
                "that no trunk saw. Received: none of them"
            )
        if self.held_out and self.held_out_classes:
            raise ValueError(
                "Give held_out or held_out_classes, not both. Received: "
                f"held_out={self.held_out}, held_out_classes={list(self.held_out_classes)}"
            )
        if self.upstream in self.downstream:
            raise ValueError(
                "Downstream images must not be those of the training. Received the same data set "
                f"as upstream and downstream: {self.upstream!r}; use held_out instead"
            )
        tasks = self.tasks()
        if len(set(tasks)) < len(tasks):
            raise ValueError(
                f"Downstream data sets must have different names. Received: {list(tasks)}"
            )

    def tasks(self) -> tuple[str, ...]:
        """Names of the data sets to probe: "held-out" and those of `downstream`."""
        own = ("held-out",) if self.held_out or self.held_out_classes else ()
        return own + tuple(task_name(name) for name in self.downstream)


def task_name(data: str) -> str:
    """A short name of a data set for tables: that of its folder or file.

    Example:

    >>> from keras_vit_scale.scaling.config import task_name
    >>> task_name("digits"), task_name("data/fashion-mnist.npz")
    ('digits', 'fashion-mnist')
    """
    return Path(data).name.removesuffix(".npz") or data


@dataclass(frozen=True)
class RecipeConfig:
    """How trunks and cooldowns are trained: Adafactor and the reciprocal square root."""

    __pydantic_config__ = STRICT

    batch_size: int = 4096
    """Images a step."""
    peak: float = 8e-4
    """Learning rate at the end of the warm-up."""
    peaks: dict[str, float] = field(default_factory=dict)
    """Other peak rates for some sizes, by name."""
    rates_chosen: str = "not tuned"
    """How the rates were chosen: a law must not measure mistuning. Shown in the report."""
    warmup_steps: int = 10_000
    """Steps until the peak."""
    timescale: float = 10_000.0
    """Steps after the warm-up until the rate has fallen to 1 / sqrt(2)."""
    cooldown: float = 0.3
    """Part of each duration that is its cooldown, between 0 and 1."""
    loss: str = "sigmoid"
    """"sigmoid" (summed over classes, the paper's) or "softmax"."""
    head_decay: float = 3.0
    """Decoupled weight decay of the classifier's kernel."""
    body_decay: float = 0.03
    """Decoupled weight decay of every other kernel."""
    clip_norm: float = 1.0
    """Largest global norm of the gradients."""

    def __post_init__(self):
        check_positive_integers(batch_size=self.batch_size)
        check_rates(cooldown=self.cooldown)
        check_one_of(("sigmoid", "softmax"), loss=self.loss)
        check_positive(clip_norm=self.clip_norm)
        check_decay(head_and_body(self.head_decay, self.body_decay))


@dataclass(frozen=True)
class ProbeConfig:
    """The few-shot probe that judges every result."""

    __pydantic_config__ = STRICT

    shots: tuple[int, ...] = (5, 10)
    """Examples a class. The law is fitted for each."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Choices of the examples; errors are averaged over them."""
    l2: float = 1024.0
    """Penalty of the ridge."""
    test_fraction: float = 0.5
    """Part of the downstream images that is classified; examples come from the rest."""
    resize: str = "squash"
    """Preprocessing: "squash" (the paper's), "short" or "none"."""

    def __post_init__(self):
        if not self.shots or not self.seeds:
            raise ValueError(
                "A probe needs at least one number of shots and one seed. "
                f"Received: shots={self.shots}, seeds={self.seeds}"
            )
        check_positive_integers(**{f"shots[{i}]": s for i, s in enumerate(self.shots)})
        check_fractions(test_fraction=self.test_fraction)


@dataclass(frozen=True)
class StudyConfig:
    """A scaling study: every size trained once a seed, cooled down at every duration.

    With `data_sizes` every trunk is trained on these parts of the data too, as a second axis.
    """

    __pydantic_config__ = STRICT

    sizes: tuple[str, ...]
    """Models to compare: presets such as S/16, or names of `shapes`."""
    durations: tuple[int, ...]
    """Steps at which a cooldown of each trunk ends."""
    data: DataConfig
    image_size: int = 224
    """Side of the images in pixels."""
    seeds: tuple[int, ...] = (0,)
    """One trunk a size for each: decides weights, order and augmentation."""
    data_sizes: tuple[int, ...] = ()
    """Numbers of training images to train on besides all of them; each lies within the next."""
    shapes: dict[str, ViTConfig] = field(default_factory=dict)
    """Shapes of your own, by name."""
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    checkpoint_every: int = 1000
    """Steps between the checkpoints from which an interrupted trunk or cooldown goes on."""

    def __post_init__(self):
        for name in ("sizes", "durations", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must be one or more, each once. Received: {values}")
        check_positive_integers(
            image_size=self.image_size,
            checkpoint_every=self.checkpoint_every,
            **{f"durations[{i}]": d for i, d in enumerate(self.durations)},
            **{f"data_sizes[{i}]": n for i, n in enumerate(self.data_sizes)},
        )
        if len(set(self.data_sizes)) < len(self.data_sizes):
            raise ValueError(f"`data_sizes` must each be there once. Received: {self.data_sizes}")
        for size in self.sizes:
            if self.image_size % self.shape(size).patch_size:
                raise ValueError(
                    "`image_size` must be a multiple of every patch size. Received: "
                    f"image_size={self.image_size}, {size} with {self.shape(size).patch_size}"
                )
            for duration in self.durations:
                self.schedule(size, duration)
        for size in self.recipe.peaks:
            self.shape(size)  # refuses a misspelt name
        folders = [folder_name(size, self.shape(size)).casefold() for size in self.sizes]
        if len(set(folders)) < len(folders):
            raise ValueError(
                "Sizes must differ by more than case and slashes, for their folders. "
                f"Received: {list(self.sizes)}"
            )
        self.train_transform()
        self.probe_transform()

    def shape(self, size: str) -> ViTConfig:
        """The shape of a size: one of `shapes`, or a preset."""
        return self.shapes[size] if size in self.shapes else preset(size)

    def peak(self, size: str) -> float:
        """The peak rate of a size."""
        return self.recipe.peaks.get(size, self.recipe.peak)

    def branch_step(self, duration: int) -> int:
        """The step at which the cooldown that ends at `duration` leaves the trunk."""
        return duration - round(self.recipe.cooldown * duration)

    def schedule(self, size: str, duration: int | None = None) -> ReciprocalSqrt:
        """The schedule of a size's trunk, or of its branch that ends at `duration`."""
        r = self.recipe
        trunk = ReciprocalSqrt(self.peak(size), warmup_steps=r.warmup_steps, timescale=r.timescale)
        if duration is None:
            return trunk
        return trunk.with_cooldown(duration, duration - self.branch_step(duration))

    def train_transform(self) -> TrainTransform:
        """Preprocessing of the training images."""
        d = self.data
        return TrainTransform(
            self.image_size, d.crop, d.flip, d.max_shift, d.filter, d.antialias, d.fast
        )

    def probe_transform(self) -> EvalTransform:
        """Preprocessing of the probe's images."""
        d = self.data
        return EvalTransform(
            self.image_size, self.probe.resize, filter=d.filter, antialias=d.antialias
        )


def folder_name(size: str, shape: ViTConfig) -> str:
    """A folder's name for a size: without a slash, and not by case alone unlike another.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.scaling.config import folder_name
    >>> folder_name("s/16", preset("s/16")), folder_name("S/16", preset("S/16"))
    ('s-16_w256_d6', 'S-16_w384_d12')
    """
    safe = "".join(c if c.isalnum() or c in "-." else "-" for c in size)
    return f"{safe}_w{shape.width}_d{shape.depth}"


def built_in_studies() -> list[str]:
    """Names of the studies that come with the package."""
    folder = resources.files("keras_vit_scale.scaling") / "studies"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir())


def load_config(name: str | Path) -> StudyConfig:
    """The study of a YAML file, or a built-in one by its name.

    Raises:
        StudyError: If there is no such study, or the file breaks a rule; unknown
            keys are refused.
    """
    if str(name) in built_in_studies():
        text = (resources.files("keras_vit_scale.scaling") / "studies" / f"{name}.yaml").read_text(
            encoding="utf-8"
        )
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(
                f"A study must be a YAML file or one of {built_in_studies()}. "
                f"Received: {str(name)!r}{_why(name, error)}"
            ) from error
    try:
        return read_settings(StudyConfig, text, name, "study")
    except SettingsError as error:
        raise StudyError(str(error)) from error


def dump_config(config: StudyConfig) -> str:
    """The YAML text that `load_config` reads as `config`."""
    return settings_text(config, "study")


def conflicts(old: StudyConfig, new: StudyConfig) -> list[str]:
    """Why results of `old` cannot stand beside those of `new`; empty if they can.

    A study may gain or lose sizes, durations, seeds and data sizes. What a result depends on
    must stay: data, recipe, probe, image size, and the shape and rate of each size.
    """
    reasons = []
    if old.image_size != new.image_size:
        reasons.append(f"image_size was {old.image_size}, now {new.image_size}")
    for part, free in (
        ("data", ("bad_images", "max_bad", "workers")),
        ("recipe", ("peak", "peaks", "rates_chosen")),
        ("probe", ()),
    ):
        reasons += differences(getattr(old, part), getattr(new, part), free, part)
    for size in sorted(set(old.sizes) & set(new.sizes)):
        for what in ("shape", "peak"):
            a, b = getattr(old, what)(size), getattr(new, what)(size)
            if a != b:
                reasons.append(f"the {what} of {size} was {a}, now {b}")
    return reasons


def united(old: StudyConfig, new: StudyConfig) -> StudyConfig:
    """The study that holds the sizes, durations, seeds and data sizes of both, without conflict."""

    def both(name):
        return tuple(dict.fromkeys([*getattr(old, name), *getattr(new, name)]))

    sizes = both("sizes")
    peaks = {size: (new if size in new.sizes else old).peak(size) for size in sizes}
    return dataclasses.replace(
        new,
        sizes=sizes,
        durations=tuple(sorted(both("durations"))),
        seeds=both("seeds"),
        data_sizes=tuple(sorted(both("data_sizes"))),
        shapes={**old.shapes, **new.shapes},
        recipe=dataclasses.replace(new.recipe, peaks=peaks),
    )


def _why(name, error):
    """The study that a misspelt name may mean, or why a file could not be read."""
    close = difflib.get_close_matches(str(name), built_in_studies(), n=1)
    if close:
        return f". Did you mean {close[0]!r}?"
    return ", which is not there" if isinstance(error, FileNotFoundError) else f" ({error})"
