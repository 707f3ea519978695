"""Image files as arrays of bytes."""

from pathlib import Path

import numpy as np
from PIL import Image


def read_image(path: str | Path) -> np.ndarray:
    """An image file as RGB, uint8, (H, W, 3).

    Palettes are resolved, transparency is dropped, 16-bit grey is scaled to 8
    bits. EXIF orientation is ignored, as TensorFlow's decoders do.

    Raises:
        ValueError: If the file cannot be decoded, naming it.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16") or image.mode == "I":
                # `convert` would clip 16 bits to white.
                grey = np.asarray(image).astype(np.uint32) >> 8
                return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Cannot decode the image file {str(path)!r}: {error}") from error
