"""Images whose bytes lie somewhere in large files, known by file, offset and size."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_vit_scale.data.encoded import EncodedSource
from keras_vit_scale.data.labels import label_lists
from keras_vit_scale.data.shards import read_piece
from keras_vit_scale.data.texts import Texts


class LocatedSource(EncodedSource):
    """A source by an index of each of its files, made of `located`.

    Args:
        files: The files.
        indices: The index of each, which is shared by all sources of the file.
        taken: Of each file which images, in their order; all by default.
        orientation, max_pixels, fast: As for `read_image`.
    """

    def __init__(
        self,
        files: Sequence[str],
        indices: Sequence[dict[str, np.ndarray]],
        taken: Sequence[slice] | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.shards = tuple(files)
        taken = [slice(None)] * len(files) if taken is None else taken
        self._places = [
            np.arange(len(index["sizes"]))[part] for index, part in zip(indices, taken, strict=True)
        ]
        counts = [len(places) for places in self._places]
        self._begin = np.cumsum([0, *counts])
        self._shard = np.repeat(np.arange(len(counts)), counts)
        self._offsets, self._sizes = (
            np.concatenate([i[what][p] for i, p in zip(indices, self._places, strict=True)])
            for what in ("offsets", "sizes")
        )
        self.count = len(self._sizes)
        self._keys = [Texts(index["key_bytes"], index["key_ends"]) for index in indices]
        self._labels = [Texts(index["label_bytes"], index["label_ends"]) for index in indices]

    def encoded(self, index: int) -> bytes:
        """The bytes of an image's file."""
        shard = self.shards[self._shard[index]]
        return read_piece(shard, int(self._offsets[index]), int(self._sizes[index]))

    def name(self, index: int) -> str:
        """The file and the key of an image."""
        shard = int(self._shard[index])
        place = int(self._places[shard][index - self._begin[shard]])
        return f"{self.shards[shard]}:{self._keys[shard][place]}"

    def label_texts(self) -> Iterable[str]:
        """What each image's label says."""
        for texts, places in zip(self._labels, self._places, strict=True):
            yield from (texts[int(place)] for place in places)


def located(
    keys: Iterable[str], offsets: Sequence[int], sizes: Sequence[int], labels: Iterable[str]
) -> dict[str, np.ndarray]:
    """The index of a file: arrays that can be kept."""
    key_texts, label_texts = Texts.of(keys), Texts.of(labels)
    return {
        "offsets": np.array(offsets, np.int64),
        "sizes": np.array(sizes, np.int64),
        "key_bytes": key_texts.joined,
        "key_ends": key_texts.ends,
        "label_bytes": label_texts.joined,
        "label_ends": label_texts.ends,
    }


def numbered(
    values: Iterable[Any],
    class_names: Sequence[str] | None,
    name: Callable[[int], str],
    read: Callable[[Any], Any] = lambda value: value,
) -> np.ndarray:
    """Labels, int64 (N,) or lists (N, k), of values as files hold them.

    Args:
        values: One an image: a whole number or its text, a name of a class as text or bytes, or
            a list of these.
        class_names: The classes, for names.
        name: What to call an image in an error.
        read: What makes such a value of what is given; a `ValueError` of it is told.

    Raises:
        ValueError: Naming the first image whose label is none.

    Example:

    >>> from keras_vit_scale.data.located import numbered
    >>> numbered([1, "0", b"owl"], ["cat", "owl"], str).tolist()
    [1, 0, 1]
    >>> numbered([[1, 0], [], "owl"], ["cat", "owl"], str).tolist()
    [[1, 0], [-1, -1], [1, -1]]
    """
    indices = {} if class_names is None else {str(c): i for i, c in enumerate(class_names)}

    def number(value):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(text, str):
            text = text.strip()
            if text in indices:
                return indices[text]
            digits = text.removeprefix("-")
            # What `int` takes besides, such as "1_0", is no number here.
            if digits.isascii() and digits.isdigit():
                return int(text)
        elif isinstance(text, int | np.integer) and not isinstance(text, bool):
            return int(text)
        known = "which is none of `class_names`" if indices else "and there are no `class_names`"
        raise ValueError(
            "A label must be a whole number, the name of a class, or a list of these. "
            f"Received: {text!r:.80}, {known}"
        )

    labels: list[Any] = []
    for i, value in enumerate(values):
        try:
            value = read(value)
            several = isinstance(value, list | tuple | np.ndarray)
            labels.append([number(v) for v in value] if several else number(value))
        except ValueError as error:
            raise ValueError(f"{error}, for {name(i)}") from None
    if any(isinstance(label, list) for label in labels):
        return label_lists([v if isinstance(v, list) else [v] for v in labels])
    return np.array(labels, np.int64)
