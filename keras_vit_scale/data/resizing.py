"""Resizing by a choice of filters, as functions of one image, uint8 (H, W, 1 or 3).

A target pixel is a weighted mean of the pixels around its centre, down the columns and then along
the rows. An antialiased filter grows with the scale where an image shrinks, so that every pixel
counts; one that is not reads a few pixels alone, whatever lies between them.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.boxes import Picture
from keras_vit_scale.data.fast import resize_bilinear

#: Filters by name, as Pillow calls them.
_PILLOWS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}

FILTERS = tuple(_PILLOWS)


def check_filter(filter: str, antialias: bool) -> None:
    """Refuses filters that there are not.

    Raises:
        ValueError: If the filter is unknown or `antialias` is neither true nor false.
    """
    check_one_of(FILTERS, filter=filter)
    check_one_of((True, False), antialias=antialias)


def resize(
    image: Picture,
    size: tuple[int, int],
    filter: str = "bilinear",
    antialias: bool = True,
    *,
    fast: bool = False,
) -> np.ndarray:
    """An image squashed to a size.

    An image that has the size is returned as it is. Edges are not continued: weights that would
    fall beyond them go to the others.

    Args:
        image: uint8 (H, W, 1 or 3), or a picture of Pillow's in RGB.
        size: Height and width.
        filter: "bilinear", a triangle over two pixels; "bicubic", over four (Keys, a = -1/2);
            "lanczos", a windowed sinc over six; "box", the mean of the pixels whose centres lie
            within the target pixel; or "nearest", one pixel.
        antialias: Let the filter grow with the scale where the image shrinks, as Pillow does.
            TensorFlow's `tf.image.resize` does not unless it is asked to, nor do OpenCV's filters
            of these names. Without it "box" is "nearest", which has none.
        fast: Let OpenCV (extra `fast`) do what it does alike, the bilinear filter without
            antialiasing, to within one level of 256.

    Raises:
        ValueError: If the filter is unknown.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import resize
    >>> board = np.array([[[0], [0], [100], [0]]], "uint8")
    >>> [resize(board, (1, 2), name).ravel().tolist() for name in ("box", "nearest")]
    [[0, 50], [0, 0]]
    """
    check_filter(filter, antialias)
    chosen = _PILLOWS[filter if antialias else "nearest"]
    by_pillow = antialias or filter not in KERNELS
    if isinstance(image, Image.Image):
        if by_pillow:
            return np.asarray(image.resize(size[::-1], chosen))
        image = np.asarray(image)
    if image.shape[:2] == tuple(size):
        return image
    if by_pillow:
        grey = image.shape[-1] == 1
        picture = Image.fromarray(image[..., 0] if grey else image)
        resized = np.asarray(picture.resize(size[::-1], chosen))
        return resized[..., None] if grey else resized
    if fast and filter == "bilinear":
        return resize_bilinear(image, size)
    return _sampled(image, size, filter)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _keys(x: np.ndarray) -> np.ndarray:
    """R. G. Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    x = np.abs(x)
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


#: Filters that can be sampled, and the pixels to either side that they reach.
KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (_keys, 2),
    "lanczos": (_lanczos, 3),
}


def taps(old: int, new: int, filter: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of `old` pixels in a line each of `new` is the weighted mean of, and their weights.

    Returns:
        Places, int64 (new, k), and weights, float32 (new, k), which sum to 1.

    Example:

    >>> from keras_vit_scale.data.resizing import taps
    >>> places, weights = taps(6, 4, "bilinear")
    >>> places[1].tolist(), weights[1].tolist()
    ([1, 2], [0.25, 0.75])
    """
    kernel, reach = KERNELS[filter]
    centres = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5
    places = np.floor(centres).astype(np.int64) + np.arange(1 - reach, 1 + reach)
    weights = np.where((places >= 0) & (places < old), kernel(places - centres), 0)
    weights /= weights.sum(1, keepdims=True)
    return places.clip(0, old - 1), weights.astype(np.float32)


def _sampled(image: np.ndarray, size: tuple[int, int], filter: str) -> np.ndarray:
    """An image resized without antialiasing."""
    # Whole rows are gathered, which is quick; so the columns become rows for their turn.
    values = _sampled_rows(image, size[0], filter).swapaxes(0, 1)
    values = _sampled_rows(np.ascontiguousarray(values), size[1], filter).swapaxes(0, 1)
    return np.rint(values).clip(0, 255).astype(np.uint8, order="C")


def _sampled_rows(values: np.ndarray, new: int, filter: str) -> np.ndarray:
    if len(values) == new:
        return values
    places, weights = taps(len(values), new, filter)
    found = values[places[:, 0]] * weights[:, 0, None, None]
    for k in range(1, places.shape[1]):
        found += values[places[:, k]] * weights[:, k, None, None]
    return found
