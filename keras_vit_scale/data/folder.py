"""Image files in one folder a class."""

from pathlib import Path

import numpy as np

from keras_vit_scale.data.decode import MAX_PIXELS, check_reading, read_image
from keras_vit_scale.data.sources import check_labels, described

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class ImageFolder:
    """Image files in one folder a class: `root/class/name.png`.

    Classes and files are sorted by name, so that an index means the same image on
    every machine. JPEG, PNG, WebP, GIF, BMP and TIFF files are listed, others ignored;
    they are opened only when their image is asked for. Images come as RGB.

    Args:
        root: The folder that holds the folders of the classes.
        orientation, max_pixels: As for `read_image`.

    Raises:
        ValueError: If the folder does not exist, or a class, or the whole, holds no image;
            or an option is unknown.
        BadImageError: From an item, if its file cannot be read.
    """

    def __init__(
        self, root: str | Path, *, orientation: str = "ignore", max_pixels: int = MAX_PIXELS
    ):
        check_reading(orientation, max_pixels)
        self.orientation, self.max_pixels = orientation, max_pixels
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"An image folder must exist. Received: {str(root)!r}")
        names = sorted(p.name for p in self.root.iterdir() if p.is_dir())
        if not names:
            loose = any(p.suffix.lower() in IMAGE_SUFFIXES for p in self.root.iterdir())
            raise ValueError(
                "An image folder must hold one folder of images a class: root/class/name.png. "
                f"Received: {str(self.root)!r}, which holds no folder"
                + (", but images; is the folder above it meant?" if loose else "")
            )
        self.files: list[Path] = []
        labels = []
        for label, name in enumerate(names):
            files = sorted(
                p for p in (self.root / name).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES
            )
            if not files:
                raise ValueError(
                    "Each folder of an image folder is a class and must hold images "
                    f"({', '.join(IMAGE_SUFFIXES)}). "
                    f"Received: {str(self.root / name)!r} without any"
                )
            self.files += files
            labels += [label] * len(files)
        self.labels, self.class_names = check_labels(labels, names, len(self.files))

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = read_image(
            self.files[index], orientation=self.orientation, max_pixels=self.max_pixels
        )
        return image, int(self.labels[index])
