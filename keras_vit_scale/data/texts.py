"""Millions of short texts in two arrays."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class Texts(Sequence[str]):
    """Texts one after the other in UTF-8, with the place where each ends.

    A million file names take their bytes and 8 each; as `str` in a list they would take some
    70 bytes more.

    Args:
        joined: The bytes of all, uint8.
        ends: Where each ends, int64 (N,).

    Example:

    >>> from keras_vit_scale.data.texts import Texts
    >>> texts = Texts.of(["a.jpg", "bee.jpg"])
    >>> len(texts), texts[1], list(texts)
    (2, 'bee.jpg', ['a.jpg', 'bee.jpg'])
    """

    def __init__(self, joined: np.ndarray, ends: np.ndarray):
        self.joined, self.ends = joined, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """The texts, which may hold what the names of files do."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "list[str]": ...

    def __getitem__(self, index: int | slice) -> "str | list[str]":
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        begin = self.ends[index - 1] if index else 0
        return self.joined[begin : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")
