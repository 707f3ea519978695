"""Image files in one folder a class."""

from pathlib import Path

import numpy as np

from keras_vit_scale.data.decode import read_image
from keras_vit_scale.data.sources import check_labels, described

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class ImageFolder:
    """Image files in one folder a class: `root/class/name.png`.

    Classes and files are sorted by name, so that an index means the same image on
    every machine. PNG, JPEG, WebP and BMP files of any size are read; others are
    ignored. Images come as RGB.

    Args:
        root: The folder that holds the folders of the classes.

    Raises:
        ValueError: If the folder does not exist, or a class, or the whole, holds no image.
    """

    def __init__(self, root: str | Path):
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
        return read_image(self.files[index]), int(self.labels[index])
