"""Images that cannot be read, replaced by others, counted, and listed in a file."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.checks import is_whole
from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture, read_from
from keras_vit_scale.data.decode import BadImageError
from keras_vit_scale.data.ledger import Ledger
from keras_vit_scale.data.sources import Source, described


class TooManyBadImagesError(ValueError):
    """More images of a source cannot be read than may be replaced."""


class ReplaceBad(CuttingSource):
    """A source in whose place of an unreadable image stands another of its images.

    Of the images with the same label it is the first readable one from a place on that follows
    from the index alone, so that `labels` stay true. If there is none, it is any other, and
    the item has that one's label. It depends on nothing but the source and the
    index: not on what was read before, in which order, or in which process.

    Only a `BadImageError` is replaced, the fault of one file. Where the disk or its folder is
    at fault, that error remains.

    Args:
        source: Images and labels, such as an `ImageFolder` or a part of one.
        ledger: A CSV file that gets a line for each bad image, once: its file and what is
            wrong with it. Several sources and processes may share it, and a run that goes
            on adds to it. `None` counts them in this object alone.
        limit: How many images may be bad, an integer; or which part of the source, a float
            between 0 and 1. All that the ledger lists count.

    Raises:
        ValueError: If the limit is neither.
        TooManyBadImagesError: From an item, if more are bad, naming the first.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from keras_vit_scale.data import ImageFolder, ReplaceBad
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pets, ledger = Path(folder, "pets"), Path(folder, "bad_images.csv")
    ...     for name in ("cat/a.png", "cat/b.png", "dog/a.png"):
    ...         (pets / name).parent.mkdir(parents=True, exist_ok=True)
    ...         Image.new("RGB", (2, 2), "red").save(pets / name)
    ...     (pets / "cat/a.png").write_bytes(b"")
    ...     source = ReplaceBad(ImageFolder(pets), ledger, limit=1)
    ...     image, label = source[0]
    ...     source.class_names[label], image[0, 0].tolist()
    ...     ledger.read_text().splitlines()[1].partition("pets/")[2]
    0
    ('cat', [255, 0, 0])
    'cat/a.png,the file is empty'
    """

    def __init__(self, source: Source, ledger: str | Path | None = None, limit: int | float = 0.01):
        self.source, self.limit = source, bad_limit(limit, len(source))
        self.ledger = Ledger(ledger)
        self.labels, self.class_names = source.labels, source.class_names
        self.parts = getattr(source, "parts", ())

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        try:
            return read_from(self.source, index, choose)
        except BadImageError as error:
            self._note(error)
        for other in self._others(range(len(self))[index]):
            try:
                return read_from(self.source, other, choose)
            except BadImageError as error:
                self._note(error)
        raise TooManyBadImagesError(
            f"A source must hold an image that can be read. Received: {self.source!r}, none "
            f"of which can; {self._listed()}"
        )

    def _others(self, index):
        """Every other index, those of the same class first."""
        same = self.labels == self.labels[index]
        if same.ndim == 2:
            same = same.all(axis=1)
        for candidates in (np.flatnonzero(same), np.flatnonzero(~same)):
            if len(candidates):
                begin = int(np.random.default_rng(index).integers(len(candidates)))
                for place in range(begin, begin + len(candidates)):
                    other = int(candidates[place % len(candidates)])
                    if other != index:
                        yield other

    def _note(self, error):
        bad = self.ledger.note(error.file, error.reason)
        if bad > self.limit:
            raise TooManyBadImagesError(
                f"At most {self.limit} images may be bad: mend or remove them, or raise the limit. "
                f"Received: {bad} so far; {self._listed()}"
            ) from error

    def _listed(self):
        first = "; ".join(f"{file!r}: {reason}" for file, reason in self.ledger.first(3))
        return f"first {first}" + (f"; all in {self.ledger.path}" if self.ledger.path else "")


def bad_limit(limit: int | float, images: int) -> int:
    """How many of so many images may be bad: a number, or a part of them between 0 and 1.

    A part is rounded up, so that one image of few is none too many.

    Raises:
        ValueError: If it is neither.

    Example:

    >>> from keras_vit_scale.data.replacing import bad_limit
    >>> bad_limit(0.01, 1_281_167), bad_limit(0.01, 7), bad_limit(3, 7), bad_limit(0, 7)
    (12812, 1, 3, 0)
    """
    if is_whole(limit) and limit >= 0:
        return int(limit)
    if isinstance(limit, float) and 0 < limit < 1:
        return int(np.ceil(limit * images))
    raise ValueError(
        "The limit of bad images must be a number of images, from 0 on, or a part of them "
        f"between 0 and 1. Received: {limit!r}"
    )
