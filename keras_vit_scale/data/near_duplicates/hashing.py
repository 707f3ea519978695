"""Perceptual hashes: 256 signs of the lowest frequencies of an image's grey values.

The image becomes a grey thumbnail of 32 x 32 whatever its shape, and of its discrete cosine
transform the 256 coefficients of lowest frequency but the mean are kept as signs. What keeps an
image to the eye moves few of them; of two unrelated images half differ. A mirrored image has the
signs of every odd horizontal frequency turned, so that its hash follows from the other.

Why these, and not pHash's, dHash's, wHash's or PDQ's: `benchmarks/near_duplicates.py`.
"""

from itertools import product

import numpy as np
from PIL import Image
from scipy.fft import dctn

#: Bits of a hash.
BITS = 256

#: Pixels on a side of the thumbnail.
SIDE = 32

#: Neighbours in the thumbnail differ visibly from so many grey levels of 256 on.
STEP = 4

#: Images with a smaller share of visibly different neighbours are plain: a hash says nothing.
PLAIN = 0.1

#: Sides of the parts of an image whose hashes are compared too, if crops are looked for.
PART_SIDES = (0.92, 0.87)

#: Hashes of an image with its parts.
VIEWS = 1 + 9 * len(PART_SIDES)


def _lowest() -> tuple[np.ndarray, np.ndarray]:
    """Vertical and horizontal frequencies of the bits, from the lowest on."""
    v, u = np.divmod(np.arange(1, SIDE * SIDE), SIDE)
    order = np.lexsort((u, v, u**2 + v**2))[:BITS]
    return v[order], u[order]


FREQUENCIES = _lowest()

#: What of a hash's bytes turns when the image is mirrored.
MIRROR = np.packbits(FREQUENCIES[1] % 2 == 1)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Grey values of an image on 32 x 32 pixels, uint8, by Pillow's antialiased bilinear filter.

    Args:
        image: uint8 (H, W, 1 or 3).
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def part_thumbnails(image: np.ndarray) -> np.ndarray:
    """Thumbnails of an image and of 18 parts of it, uint8 (19, 32, 32).

    The parts are of 92 and of 87 % of its width and height, at the corners, the edges and in the
    middle: of an image from which 5 to 15 % were cut, one is near.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("L")
    width, height = picture.size
    found = [thumbnail(image)]
    for side in PART_SIDES:
        places = np.linspace(0, 1 - side, 3)
        for top, left in product(places * height, places * width):
            box = (left, top, left + side * width, top + side * height)
            found.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)))
    return np.stack(found)


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """The perceptual hash of an image, uint8 (32,): 256 bits.

    Args:
        image: uint8 (H, W, 1 or 3), of any size.

    Example:

    >>> from keras_vit_scale.data import digits
    >>> from keras_vit_scale.data.near_duplicates.hashing import perceptual_hash
    >>> one, other = (perceptual_hash(digits()[i][0]) for i in (0, 1))
    >>> int(np.bitwise_count(one ^ other).sum())
    143
    """
    return hashes_of(thumbnail(image)[None])[0]


def hashes_of(thumbnails: np.ndarray) -> np.ndarray:
    """The hashes, uint8 (..., 32), of thumbnails, uint8 (..., 32, 32)."""
    frequencies = dctn(thumbnails.astype(np.float32), axes=(-2, -1))
    # A hash's bytes lie together, whatever the order that indexing left.
    return np.ascontiguousarray(np.packbits(frequencies[..., *FREQUENCIES] > 0, axis=-1))


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """The hashes of the same images mirrored, left for right."""
    return hashes ^ MIRROR


def are_plain(thumbnails: np.ndarray) -> np.ndarray:
    """Which thumbnails, uint8 (N, 32, 32), show too little to be told apart, bool (N,).

    In a plain sky or a dark wall the signs are noise, or those of one bright spot, which many
    such images share.
    """
    grey = thumbnails.astype(np.int16)
    down = (np.abs(np.diff(grey, axis=1)) >= STEP).mean((1, 2))
    right = (np.abs(np.diff(grey, axis=2)) >= STEP).mean((1, 2))
    return (down + right) / 2 < PLAIN
