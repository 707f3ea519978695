"""Quicker decoding, resizing and mirroring, by simplejpeg, nvImageCodec and OpenCV (extra `fast`).

All lean on the same libraries or arithmetic as Pillow and `resizing`: a JPEG has the same pixels,
and the sampled bilinear filter differs by at most one level of 256, since OpenCV has its weights
in 11 bits. What none of them does, Pillow does.
"""

import importlib.util
from functools import cache

import numpy as np

from keras_vit_scale.data.boxes import Choose, cut
from keras_vit_scale.data.jpeg_boxes import decode_box, nvimgcodec

#: Packages of the extra by the modules that are imported.
PACKAGES = {"simplejpeg": "simplejpeg", "cv2": "opencv-python-headless"}


def check_fast(fast: bool) -> None:
    """Refuses `fast` where the extra is not installed.

    Raises:
        ImportError: Naming what is missing and how it is installed.
        ValueError: If it is neither true nor false.
    """
    if not isinstance(fast, bool):
        raise ValueError(f"`fast` must be True or False. Received: fast={fast!r}")
    if not fast:
        return
    if missing := _missing():
        raise ImportError(
            "`fast=True` needs simplejpeg and OpenCV: pip install 'keras-vit-scale[fast]', or "
            f"leave it out, which changes speed alone. Missing: {', '.join(missing)}"
        )
    # What fails to be imported must fail here, and not with the first image.
    nvimgcodec()


@cache
def _missing() -> list[str]:
    return [PACKAGES[m] for m in PACKAGES if importlib.util.find_spec(m) is None]


def decode_jpeg(encoded: bytes, max_pixels: int, choose: Choose | None = None) -> np.ndarray | None:
    """The pixels of a JPEG, uint8 (H, W, 3), of grey values or colours but not of inks.

    The accurate transform and the smooth chroma are asked for, which cost a few percent. Of a part
    no other pixels are computed where nvImageCodec is installed, which has no wheels for macOS.

    Args:
        choose: Says which part is wanted; the whole by default.

    Returns:
        The pixels; or `None` where it is no JPEG, is larger or anything at all is amiss, for Pillow
        to judge.
    """
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded, strict=True)
    except (ValueError, RuntimeError):
        return None
    if height * width > max_pixels or colours not in ("RGB", "YCbCr", "Gray"):
        return None
    box = (0, 0, height, width) if choose is None else choose(height, width)
    if box[2:] != (height, width) and (part := decode_box(encoded, box)) is not None:
        return part
    try:
        return cut(simplejpeg.decode_jpeg(encoded, "RGB", strict=True), box)
    except (ValueError, RuntimeError):
        return None


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image, uint8 (H, W, 1 or 3), resized to (height, width) without antialiasing."""
    import cv2

    resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*size, image.shape[-1])


def mirror(image: np.ndarray) -> np.ndarray:
    """An image, uint8 (H, W, 1 or 3), with left for right."""
    import cv2

    return cv2.flip(image, 1).reshape(image.shape)
