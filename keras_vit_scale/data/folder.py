"""Image files in one folder a class."""

import os
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture
from keras_vit_scale.data.decode import MAX_PIXELS, Decoder
from keras_vit_scale.data.indices import kept
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.sources import described
from keras_vit_scale.data.texts import Texts

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

#: What may be done about symbolic links that lead out of the folder.
LINKS = ("refuse", "follow")

#: Images from which on the index of a folder is kept.
KEPT_FROM = 20_000

#: Seconds for which a folder must have rested for its time to tell that nothing changed since.
RESTED = 2.0


class ImageFolder(CuttingSource):
    """Image files in one folder a class: `root/class/name.png`.

    Classes and files are sorted by name, so that an index means the same image on
    every machine. JPEG, PNG, WebP, GIF, BMP and TIFF files are listed, others ignored;
    they are opened only when their image is asked for. Images come as RGB.

    The list of a large folder, of 20,000 images or more, is kept in `$KERAS_VIT_SCALE_CACHE`, or
    else in `~/.cache/keras_vit_scale`, and made again when a file or folder was added, removed
    or renamed.

    Args:
        root: The folder that holds the folders of the classes.
        orientation, max_pixels, fast: As for `read_image`.
        links: "refuse" symbolic links that lead out of the folder, or "follow" them: what they
            lead to may be images that are held out elsewhere, or of somebody else.

    Raises:
        ValueError: If the folder does not exist, or a class, or the whole, holds no image;
            names of classes differ by case alone; a link leads out of it; or an option is
            unknown.
        BadImageError: From an item, if its file cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        orientation: str = "ignore",
        max_pixels: int = MAX_PIXELS,
        fast: bool = False,
        links: str = "refuse",
    ):
        self.decoder = Decoder(orientation, max_pixels, fast)
        check_one_of(LINKS, links=links)
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"An image folder must exist. Received: {str(root)!r}")
        index = kept(
            f"folder-{links}", os.path.realpath(root), self._state, lambda: self._scan(links)
        )
        names = list(Texts(index["class_bytes"], index["class_ends"]))
        self._names = Texts(index["name_bytes"], index["name_ends"])
        labels = np.repeat(np.arange(len(names)), index["images"])
        self.labels, self.class_names = check_labels(labels, names, len(self._names))
        self.files = _Files(self.root, self.class_names, self.labels, self._names)

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, int]:
        return self.decoder.read(self.files[index], choose), int(self.labels[index])

    def _scan(self, links):
        """Classes, how many images each has, and their names."""
        begun = time.time_ns()
        names = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        if not names:
            loose = any(p.suffix.lower() in IMAGE_SUFFIXES for p in self.root.iterdir())
            raise ValueError(
                "An image folder must hold one folder of images a class: root/class/name.png. "
                f"Received: {str(self.root)!r}, which holds no folder"
                + (", but images; is the folder above it meant?" if loose else "")
            )
        _refuse_alike(self.root, names)
        files: list[str] = []
        images = []
        for name in names:
            found = _images(self.root, self.root / name, links)
            if not found:
                raise ValueError(
                    "Each folder of an image folder is a class and must hold images "
                    f"({', '.join(IMAGE_SUFFIXES)}). "
                    f"Received: {str(self.root / name)!r} without any"
                )
            files += found
            images.append(len(found))
        classes, texts = Texts.of(names), Texts.of(files)
        return {
            "class_bytes": classes.joined,
            "class_ends": classes.ends,
            "images": np.array(images),
            "name_bytes": texts.joined,
            "name_ends": texts.ends,
            "begun": np.array(begun),
        }

    def _state(self, index):
        """When each folder last changed; nothing if that could be after it was listed."""
        if len(index["name_ends"]) < KEPT_FROM:
            return np.empty(0)
        try:
            changed = np.array(
                [os.stat(self.root / name).st_mtime_ns for name in (
                    "", *Texts(index["class_bytes"], index["class_ends"])
                )]
            )  # fmt: skip
        except OSError:
            return np.empty(0)
        return changed if changed.max() < index["begun"] - RESTED * 1e9 else np.empty(0)


class _Files(Sequence[Path]):
    """The paths of a folder's images, each made when it is asked for."""

    def __init__(self, root, classes, labels, names):
        self.root, self.classes, self.labels, self.names = root, classes, labels, names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.root / self.classes[self.labels[index]] / self.names[index]


def _images(root, folder, links):
    """The sorted names of a folder's images."""
    if links == "refuse" and os.path.islink(folder):
        _refuse_outside(root, folder)
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                if links == "refuse" and entry.is_symlink():
                    _refuse_outside(root, entry.path)
                names.append(entry.name)
    return sorted(names)


def _refuse_alike(root, names):
    """Refuses classes that would be one on the disks of many desktops, which tell no case apart."""
    seen: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in seen:
            raise ValueError(
                "Classes of an image folder must differ by more than case or the encoding of "
                "accents: rename or join the folders. "
                f"Received: {seen[plain]!r} and {name!r} in {str(root)!r}"
            )
        seen[plain] = name


def _refuse_outside(root, path):
    target = os.path.realpath(path)
    if not Path(target).is_relative_to(os.path.realpath(root)):
        raise ValueError(
            "Symbolic links of an image folder must not lead out of it; if they may, open it with "
            f"links='follow' (--links follow). Received: {str(path)!r}, which leads to "
            f"{target!r}"
        )
