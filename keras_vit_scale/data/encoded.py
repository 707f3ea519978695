"""Images that are stored as the bytes of image files, within larger files."""

from abc import abstractmethod
from typing import Any

import numpy as np

from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture
from keras_vit_scale.data.decode import MAX_PIXELS, Decoder
from keras_vit_scale.data.sources import described, label_at


class EncodedSource(CuttingSource):
    """A source of images that are decoded when they are asked for, all by the same decoder.

    So a data set has the same pixels in whichever kind of file it lies.

    Args:
        orientation, max_pixels, fast: As for `read_image`.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]

    def __init__(
        self, orientation: str = "ignore", max_pixels: int = MAX_PIXELS, fast: bool = False
    ):
        self.decoder = Decoder(orientation, max_pixels, fast)

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The bytes of an image's file, from 0 on."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call an image in errors: its file and its place or key in it."""

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        index = range(len(self))[index]
        image = self.decoder.decode(self.encoded(index), self.name(index), choose)
        return image, label_at(self.labels, index)
