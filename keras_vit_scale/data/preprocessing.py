"""From images of any size to what a model reads, as functions of one image.

Images are uint8, (H, W, channels); sizes are (height, width). Filters are those of `resizing`, by
default Pillow's bilinear one, which averages over the source when it shrinks.
"""

from dataclasses import dataclass

import numpy as np

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.boxes import Box, Picture, chosen
from keras_vit_scale.data.fast import check_fast, mirror
from keras_vit_scale.data.resizing import check_filter, resize
from keras_vit_scale.models.config import image_shape

#: The paper evaluates a central 224 of a short side of 256.
MARGIN = 256 / 224


def resize_short(
    image: np.ndarray, side: int, filter: str = "bilinear", antialias: bool = True
) -> np.ndarray:
    """The image with its shorter side made `side` and its aspect kept."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = max(side, round(height * scale)), max(side, round(width * scale))
    return resize(image, size, filter, antialias)


def central_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle `size` of an image.

    Raises:
        ValueError: If the image is smaller.
    """
    height, width = image.shape[:2]
    if height < size[0] or width < size[1]:
        raise ValueError(
            f"A crop must fit the image. Received: crop {size} of an image of {height} x {width}"
        )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]


def inception_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.05, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    attempts: int = 100,
) -> Box:
    """Top, left, height and width of a random part of an image.

    It has 5 to 100 % of the area and an aspect (width over height) between 3:4 and 4:3.
    Both are drawn evenly until such a part fits the image; after `attempts` it is the whole.

    The area is drawn evenly in Szegedy et al. (arXiv 1409.4842). TensorFlow's operation of
    that name, which the authors of ViT call, draws the height evenly instead: of an image of
    500 x 400 its parts have 34 % of the area on average, these 43 %.
    """
    for _ in range(attempts):
        target = height * width * rng.uniform(*area)
        ratio = rng.uniform(*aspect)
        w, h = round((target * ratio) ** 0.5), round((target / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return int(top), int(left), h, w
    return 0, 0, height, width


def random_flip(image: np.ndarray, rng: np.random.Generator, fast: bool = False) -> np.ndarray:
    """The image or its mirror, with equal chance."""
    if rng.random() >= 0.5:
        return image
    if fast:
        return mirror(image)
    # Colour by colour: the whole view would be copied at a fifth of the speed.
    mirrored = np.empty_like(image)
    for colour in range(image.shape[-1]):
        mirrored[..., colour] = image[:, ::-1, colour]
    return mirrored


def random_shift(image: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """The image moved by up to `pixels` each way, its edge filled with zeros."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * pixels, width + 2 * pixels, channels), image.dtype)
    padded[pixels : pixels + height, pixels : pixels + width] = image
    top, left = rng.integers(2 * pixels + 1), rng.integers(2 * pixels + 1)
    return padded[top : top + height, left : left + width]


def to_input(images: np.ndarray) -> np.ndarray:
    """A batch of values from 0 to 255, (B, H, W, 1 or 3), as float32 RGB in [-1, 1]."""
    values = np.empty_like(images, np.float32)
    # Three passes over an image while it is near: without a cast of its own the product takes
    # longer than all.
    for value, image in zip(values, images, strict=True):
        np.copyto(value, image)
        value *= np.float32(2 / 255)
        value -= 1
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values


@dataclass(frozen=True)
class TrainTransform:
    """What happens to a training image.

    Args:
        image_size: Side of the result, or `(height, width)`.
        crop: "inception" (the paper's), "shift" (squashed to the size, then moved
            by up to `max_shift` pixels) or "none" (squashed to the size).
        flip: Mirror half of the images; the paper does, digits should not.
        max_shift: Pixels for "shift".
        filter: How it is resized: "bilinear", "bicubic", "lanczos", "box" or "nearest", as
            `data.resize` says.
        antialias: Whether the filter grows with the scale where the image shrinks. TensorFlow's
            training pipelines mostly have "bilinear" without it.
        fast: Let OpenCV (extra `fast`) mirror, and resize where it can, for "bilinear" without
            antialiasing: within one level of 256, in a tenth of the time.

    Raises:
        ValueError: If an option is unknown or a number is out of range.
        ImportError: If `fast` is asked for and the extra not installed.
    """

    image_size: int | tuple[int, int]
    crop: str = "inception"
    flip: bool = True
    max_shift: int = 1
    filter: str = "bilinear"
    antialias: bool = True
    fast: bool = False

    def __post_init__(self):
        image_shape(self.image_size)
        check_one_of(("inception", "shift", "none"), crop=self.crop)
        check_filter(self.filter, self.antialias)
        check_fast(self.fast)
        if self.max_shift < 0:
            raise ValueError(f"`max_shift` must not be negative. Received: {self.max_shift}")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        part = chosen(image, lambda height, width: self.box(height, width, rng))
        return self.transformed(part, rng)

    def box(self, height: int, width: int, rng: np.random.Generator) -> Box:
        """The part of an image of that size that is cut out first.

        To resize a box of the whole instead would blend in what lies around it.
        """
        if self.crop == "inception":
            return inception_box(height, width, rng)
        return 0, 0, height, width

    def transformed(self, part: Picture, rng: np.random.Generator) -> np.ndarray:
        """What becomes of the part: its size, a shift, a flip."""
        size = image_shape(self.image_size)
        image = resize(part, size, self.filter, self.antialias, fast=self.fast)
        if self.crop == "shift":
            image = random_shift(image, self.max_shift, rng)
        return random_flip(image, rng, self.fast) if self.flip else image


@dataclass(frozen=True)
class EvalTransform:
    """What happens to an image for evaluation: nothing random.

    Args:
        image_size: Side of the result, or `(height, width)`.
        resize: "short" (the paper's evaluation: the short side to 256/224 of the
            size, then the central crop), "squash" (the paper's few-shot probe:
            both sides to 256/224, then the central crop) or "none" (squashed to
            the size, nothing cut off).
        margin: What stands for 256/224: sides before the crop over sides after it.
            The paper's fine-tuned models use 448/384.
        filter, antialias: How it is resized, as for `TrainTransform`. Take what the model was
            trained or published with.

    Raises:
        ValueError: If an option is unknown or the margin is less than 1.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import EvalTransform
    >>> EvalTransform(384, margin=448 / 384)(np.zeros((500, 600, 3), "uint8")).shape
    (384, 384, 3)
    """

    image_size: int | tuple[int, int]
    resize: str = "short"
    margin: float = MARGIN
    filter: str = "bilinear"
    antialias: bool = True

    def __post_init__(self):
        image_shape(self.image_size)
        check_one_of(("short", "squash", "none"), resize=self.resize)
        check_filter(self.filter, self.antialias)
        # Below infinity, and no NaN.
        if not 1 <= self.margin < float("inf"):
            raise ValueError(f"`margin` must be at least 1. Received: margin={self.margin!r}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        size, how = image_shape(self.image_size), (self.filter, self.antialias)
        if self.resize == "none":
            return resize(image, size, *how)
        height, width = (round(side * self.margin) for side in size)
        if self.resize == "short":
            image = resize_short(image, max(height, width), *how)
        else:
            image = resize(image, (height, width), *how)
        return central_crop(image, size)
