"""Parts of images that are cut out while they are read, so that no more is made of an image.

A decoder knows the size of an image before its pixels, and can leave out what is not wanted; and
Pillow's picture need not become an array before it is cut and resized.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

#: Top, left, height and width of a part of an image.
Box: TypeAlias = tuple[int, int, int, int]

#: From the height and width of an image to the part that is wanted.
Choose: TypeAlias = Callable[[int, int], Box]

#: Bytes of an image, uint8 (H, W, channels); or Pillow's own, of mode "RGB", which `resize` takes
#: as it is.
Picture: TypeAlias = np.ndarray | Image.Image


def cut(image: Any, box: Box) -> Any:
    """A part of an image, of the same type."""
    top, left, height, width = box
    if isinstance(image, Image.Image):
        return image.crop((left, top, left + width, top + height))
    return image[top : top + height, left : left + width]


def chosen(image: Picture, choose: Choose | None) -> Picture:
    """The part of an image that is chosen, or the whole."""
    if choose is None:
        return image
    if isinstance(image, Image.Image):
        height, width = image.height, image.width
    else:
        height, width = image.shape[:2]
    box = choose(height, width)
    # Of all of a picture Pillow would make a copy.
    return image if box == (0, 0, height, width) else cut(image, box)


class CuttingSource(ABC):
    """A source that cuts out a part of an image while it reads it."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        image, label = self.read(index)
        return np.asarray(image), label

    @abstractmethod
    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        """An image, or the part of it that is chosen, and its label.

        `choose` may be called again if an image turns out to be damaged, for another that is read
        in its place.
        """


def read_from(source: Any, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
    """An image of any source, or the part of it that is chosen, and its label."""
    # A class that has changed what its items are must be asked for items.
    if getattr(type(source), "__getitem__", None) is CuttingSource.__getitem__:
        return source.read(index, choose)
    image, label = source[index]
    return chosen(image, choose), label
