"""The paper's fine-tuning as a recipe: of a model and labelled images, the runs that it takes."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
from tyro.conf import arg

from keras_vit_scale.checks import check_one_of, check_positive, check_positive_integers
from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.models.architecture import Architecture, shape_name
from keras_vit_scale.models.block import EPSILON
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.runs.config import Duration, MaybeDuration, TrainConfig
from keras_vit_scale.runs.plan import make_schedule
from keras_vit_scale.runs.recipe import loss_function, make_optimizer
from keras_vit_scale.runs.settings import STRICT
from keras_vit_scale.schedules.durations import parse

#: What the protocols decide, unless it is said otherwise.
PROTOCOLS: dict[str, dict[str, Any]] = {
    # Fine-tuning on ImageNet.
    "paper": {
        "rates": (0.03, 0.01),
        "steps": 20_000,
        "images": None,
        "validation": 0.02,
        "crop": "inception",
        "flip": True,
        "resize": "short",
    },
    # One setting for nineteen tasks of 1,000 images; some ask where or how many things are, so
    # nothing is cut off or mirrored.
    "vtab": {
        "rates": (0.01,),
        "steps": 2500,
        "images": 1000,
        "validation": 200,
        "crop": "none",
        "flip": False,
        "resize": "none",
    },
}


@dataclass(frozen=True)
class FineTune:
    """The paper's fine-tuning, of which the command's options are the fields.

    Softmax cross-entropy; gradient descent with momentum 0.9, gradients clipped to a
    global norm of 1, no weight decay; a new head that starts at zero; position
    embeddings resampled to a higher resolution; a warm-up of 500 steps and a cosine.
    The rate is the best of some on held-out images, and the model is then trained on
    all. What is `None` here is what the protocol says, and read so afterwards:

        protocol    rates         steps    images    held out    crop, flip, resize
        "paper"     0.03, 0.01    20000    all       2 %         inception, yes, short
        "vtab"      0.01          2500     1000      200         none, no, none

    With the schedule "constant" the rate stays after the warm-up, and the weights are
    averaged, as the paper does for G/14. Where the paper leaves a choice, ours are: an
    exponential average over 10 % of the steps; VTAB's warm-up, the 500 steps of the
    other protocol, and its preprocessing, images squashed to the size; held-out images
    that are each class's share; training again on all images once a rate is chosen.

    Raises:
        ValueError: If a value breaks a rule.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Appendix D; for
    VTAB-1k, Zhai et al., arXiv 1910.04867.

    Example:

    >>> from keras_vit_scale import FineTune
    >>> FineTune().rates, FineTune(protocol="vtab").steps
    ((0.03, 0.01), 2500)
    """

    __pydantic_config__ = STRICT

    protocol: Literal["paper", "vtab"] = "paper"
    """The fine-tuning on ImageNet, or that on VTAB's tasks of 1,000 images."""
    rates: Annotated[tuple[float, ...] | None, arg(metavar="RATE [RATE ...]")] = None
    """Learning rates, of several the best on the held-out images; by default 0.03 and 0.01,
    for vtab 0.01."""
    steps: MaybeDuration = None
    """How long to train, "1e6 images", "10 epochs"; by default 20000 steps, for vtab 2500."""
    images: Annotated[int | None, arg(metavar="IMAGES")] = None
    """Use only so many random images of the data; by default all, for vtab 1000."""
    validation: Annotated[int | float | None, arg(metavar="IMAGES|PART")] = None
    """Images held out while rates are judged, how many or which part; by default 0.02, for
    vtab 200."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Side of the images in pixels: by default 518 for patches of 14, else the largest
    multiple of the patch up to 384."""
    batch_size: int = 512
    """Images a step."""
    seed: int = 0
    """Decides held-out images, order and augmentation."""

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

    crop: Annotated[
        Literal["inception", "shift", "none"] | None, arg(metavar="{inception,shift,none}")
    ] = None
    """Training crop: the paper's (by default), or squashed and moved by a pixel or so, or
    only squashed (by default for vtab)."""
    max_shift: int = 1
    """Pixels that the crop "shift" moves an image at most."""
    flip: Annotated[bool | None, arg(metavar="{True,False}")] = None
    """Mirror half of the training images; by default True, for vtab False."""
    rand_augment: int = 0
    """Operations of RandAugment. The paper uses none."""
    mixup: float = 0.0
    """Alpha of MixUp, in [0, 1]; 0 for none, as in the paper."""
    cutmix: float = 0.0
    """Alpha of CutMix; with MixUp each batch has one of them."""
    resize: Annotated[
        Literal["short", "squash", "none"] | None, arg(metavar="{short,squash,none}")
    ] = None
    """Evaluation: short side (by default) or both sides to a margin's more than the size and
    its centre, or squashed (by default for vtab)."""
    margin: float = 448 / 384
    """That margin: sides before the central crop over sides after it."""
    filter: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bilinear"
    """How images are resized, for training and evaluation. The model keeps it."""
    antialias: bool = True
    """Whether that filter grows with the scale where an image shrinks, so that every pixel
    counts. TensorFlow's does not unless it is asked to."""

    dropout: float = 0.0
    """Part of the activations dropped in training."""
    stochastic_depth: float = 0.0
    """Chance of the last block to be skipped; it rises from 0 at the first."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What layers compute in."""
    remat: Annotated[str | None, arg(metavar="{full,dots}")] = None
    """Recompute in the backward pass instead of keeping: full or dots."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy: of the classes' softmax, or of every class apart and summed."""
    label_smoothing: float = 0.0
    """How far targets are moved towards indifference."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: down to zero, or flat with averaged weights (the paper's G/14)."""
    warmup: Duration = 500
    """Duration of the warm-up."""
    average: MaybeDuration = None
    """Keep the mean of the weights over about so many last steps, weighted exponentially;
    by default none, or 10% of the steps where the rate is constant."""
    clip_norm: float = 1.0
    """Largest global norm of the gradients."""

    evaluate_every: MaybeDuration = None
    """Steps between evaluations on held-out images; at the end alone by default."""
    checkpoint_every: Duration = 1000
    """Steps between checkpoints, as any duration."""
    keep_last: int = 2
    """Keep so many of the newest checkpoints."""
    log_every: Duration = 50
    """Steps between rows of log.csv, as any duration."""

    def __post_init__(self):
        check_one_of(PROTOCOLS, protocol=self.protocol)
        flat = self.schedule == "constant"
        defaults = {**PROTOCOLS[self.protocol], "average": "10%" if flat else 0}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise ValueError(
                f"`rates` must be one or more, each once. Received: rates={self.rates}"
            )
        check_positive(**{f"rates[{i}]": rate for i, rate in enumerate(self.rates)})
        if not self.validation:
            raise ValueError(
                "Rates are judged on held-out images: `validation` must be positive. "
                f"Received: validation={self.validation}"
            )
        if self.image_size is not None:
            check_positive_integers(image_size=self.image_size)
        self._any_run()

    def peak_rates(self) -> tuple[float, ...]:
        """`rates`, with those of the protocol in place of `None`."""
        return self.rates or PROTOCOLS[self.protocol]["rates"]

    def run(
        self, init: str, model: Architecture, data: str, rate: float, held_out: bool
    ) -> TrainConfig:
        """One training run of the recipe.

        Args:
            init: Where the weights come from.
            model: The `architecture` of the model there.
            data: Training images.
            rate: Learning rate at the end of the warm-up.
            held_out: Whether the held-out images are left out, and evaluated.

        Raises:
            ValueError: If the settings do not go with the model.
        """
        ours = {field.name for field in dataclasses.fields(TrainConfig)}
        settings = {name: value for name, value in vars(self).items() if name in ours}
        patch = model.config.patch_size
        settings["image_size"] = self.image_size or default_side(patch)
        settings["pooling"] = model.pooling
        if not held_out:
            settings |= {"validation": 0, "evaluate_every": None}
        return TrainConfig(
            **settings,
            size=shape_name(model.config),
            init=init,
            new_head=True,
            data=data,
            stratified=True,
            optimizer="momentum",
            peak=rate,
            head_decay=0.0,
            body_decay=0.0,
            cooldown=0,
        )

    def optimizer(
        self, rate: float | None = None, images: int | None = None
    ) -> keras.optimizers.Optimizer:
        """The recipe's optimizer with its schedule, for `compile`.

        `fit` for as long as the recipe's `steps`. Where weights are averaged, the
        averages are in their place when `fit` ends.

        Args:
            rate: Learning rate at the end of the warm-up; by default the last of `rates`.
            images: Training images, needed where a duration is in epochs.

        Raises:
            ValueError: If the rate is not positive, or a duration cannot be made steps.
        """
        run = self._any_run(self.peak_rates()[-1] if rate is None else rate)
        durations = [d for d in (run.steps, run.warmup, run.average) if isinstance(d, str)]
        if images is None and any(parse(d)[1] == "epochs" for d in durations):
            raise ValueError(
                "To make steps of epochs, give the number of training images. Received: images=None"
            )
        # Durations in other units are the same for any number of images.
        plan = run.plan(images or 1)
        return make_optimizer(run, plan, make_schedule(run, plan))

    def compile(
        self, model: keras.Model, rate: float | None = None, images: int | None = None
    ) -> None:
        """Compiles any model whose outputs are logits, for `fit` on class indices.

        Arguments and errors are those of `optimizer`.

        Example:

        >>> import keras_vit_scale as kvs
        >>> model = kvs.ViT("mu/4", num_classes=10, image_size=8)
        >>> kvs.FineTune(steps=50, warmup=10).compile(model, rate=0.03)
        >>> round(float(model.optimizer.learning_rate), 3), model.optimizer.global_clipnorm
        (0.0, 1.0)
        """
        model.compile(
            optimizer=self.optimizer(rate, images),
            loss=loss_function(self.loss, self.label_smoothing),
            metrics=["accuracy"],
        )

    def _any_run(self, rate: float | None = None) -> TrainConfig:
        """A run of the recipe whose model and data are left open; it checks the settings."""
        shape = ViTConfig(1, 1, 1, 1, patch_size=1)
        model = Architecture(shape, (1, 1), "map", "learned", "tanh", EPSILON, None)
        rate = self.peak_rates()[0] if rate is None else rate
        return self.run("", model, "", rate, held_out=True)


def default_side(patch_size: int) -> int:
    """The side of images for a patch: the paper's 518 pixels for 14, else its 384 or just below.

    Example:

    >>> from keras_vit_scale.runs.fine_tune import default_side
    >>> default_side(16), default_side(14), default_side(28)
    (384, 518, 364)
    """
    return 518 if patch_size == 14 else 384 // patch_size * patch_size
