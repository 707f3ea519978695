"""Duplicates planted on purpose: what becomes of images on the web, as functions of one image.

Each takes a picture and a generator, which draws how much is changed.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Plant = Callable[[Image.Image, np.random.Generator], Image.Image]

_FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


def jpeg(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Stored as JPEG of quality 30 to 95."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(30, 96)))
    return Image.open(file).convert(picture.mode)


def half(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Half as wide and half as high, by one of four filters."""
    width, height = picture.size
    chosen = _FILTERS[int(rng.integers(len(_FILTERS)))]
    return picture.resize((max(1, width // 2), max(1, height // 2)), chosen)


def brightness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Values times 0.7 to 1.4, clipped at white."""
    return ImageEnhance.Brightness(picture).enhance(_factor(rng))


def contrast(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Differences from the mean times 0.7 to 1.4, clipped."""
    return ImageEnhance.Contrast(picture).enhance(_factor(rng))


def grey(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Without colour."""
    return ImageOps.grayscale(picture).convert(picture.mode)


def crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """5 to 15 % of the width and of the height cut off, anywhere."""
    width, height = picture.size
    wide, high = np.maximum(1, np.round((1 - rng.uniform(0.05, 0.15, 2)) * (width, height)))
    left, top = np.round(rng.uniform(0, 1, 2) * (width - wide, height - high))
    return picture.crop((int(left), int(top), int(left + wide), int(top + high)))


def flip(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirrored, left for right."""
    return ImageOps.mirror(picture)


def text(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A line of small text, 7 % of the height, in black or white."""
    written = picture.copy()
    width, height = picture.size
    font = ImageFont.load_default(max(6, 0.07 * height))
    left, top = rng.uniform(0, 0.5) * width, rng.uniform(0, 0.9) * height
    colour = 255 if rng.integers(2) else 0
    fill = colour if picture.mode == "L" else (colour, colour, colour)
    ImageDraw.Draw(written).text((left, top), "photo 2026", fill=fill, font=font)
    return written


def _factor(rng):
    """By 10 to 40 % more, or as much less."""
    return float(np.exp(rng.choice((-1, 1)) * rng.uniform(np.log(1.1), np.log(1.4))))


#: The kinds, by name.
KINDS: dict[str, Plant] = {
    "jpeg": jpeg,
    "half": half,
    "brightness": brightness,
    "contrast": contrast,
    "grey": grey,
    "crop": crop,
    "flip": flip,
    "text": text,
}


def planted(image: np.ndarray, kind: str, seed: int | tuple[int, ...]) -> np.ndarray:
    """An image changed in one way, as a function of the seed.

    Args:
        image: uint8 (H, W, 1 or 3).
        kind: One of `KINDS`.
        seed: Decides how much and where.

    Example:

    >>> from keras_vit_scale.data import digits
    >>> from keras_vit_scale.data.near_duplicates.planted import planted
    >>> planted(digits()[0][0], "half", seed=1).shape
    (4, 4, 1)
    """
    grey_values = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if grey_values else image)
    changed = np.asarray(KINDS[kind](picture, np.random.default_rng(seed)))
    return changed[..., None] if grey_values else changed
