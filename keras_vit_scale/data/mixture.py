"""Several sources trained on at once, each with its weight."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from keras_vit_scale.checks import check_positive
from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture, read_from
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.sources import Source, described


class Part(NamedTuple):
    """The images of a mixture from `begin` to `end`, and the weight of their source."""

    begin: int
    end: int
    weight: float


class Mixture(CuttingSource):
    """The images of several sources one after the other, and how often training takes each.

    `train_batches` takes of each source its share of every stretch of the stream, evenly spread,
    so that the source of a place follows from the weights and the place alone. Within a source
    each image comes once an epoch of that source, in an order of its own: a small one with a large
    weight is repeated more often than the others. Anything else, such as `eval_batches`, sees a
    plain source of all images.

    Parts of a mixture have no weights: take parts of its sources, and mix those.

    Args:
        sources: By name, images and labels of the same classes.
        weights: By name, positive numbers; by default each source's number of images, by which
            all are repeated equally often.

    Raises:
        ValueError: If there is no source, the classes or the kinds of labels differ, or a weight
            is not positive or of no source.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import ArraySource, Mixture
    >>> few, many = (ArraySource(np.zeros((n, 8, 8), "uint8"), [0] * n) for n in (10, 90))
    >>> Mixture({"few": few, "many": many}, {"few": 1, "many": 1}).shares
    {'few': 0.5, 'many': 0.5}
    """

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, float] | None = None):
        self.sources = dict(sources)
        if not self.sources:
            raise ValueError("A mixture must have a source. Received: none")
        if weights is None:
            weights = {name: len(source) for name, source in self.sources.items()}
        if set(weights) != set(self.sources):
            raise ValueError(
                "There must be a weight for each source, by its name. "
                f"Received: weights of {sorted(weights)} for {sorted(self.sources)}"
            )
        check_positive(**{f"weights[{name!r}]": weight for name, weight in weights.items()})
        total = sum(weights.values())
        #: The part of each source in the stream.
        self.shares = {name: weights[name] / total for name in self.sources}
        parts = list(self.sources.values())
        for name, source in self.sources.items():
            if tuple(source.class_names) != tuple(parts[0].class_names):
                raise ValueError(
                    "The sources of a mixture must have the same classes. "
                    f"Received: {list(source.class_names)[:10]} of {name!r}, "
                    f"{list(parts[0].class_names)[:10]} of {next(iter(self.sources))!r}"
                )
        self._begin = np.cumsum([0, *map(len, parts)])
        #: Which images are of which source, as `train_batches` asks.
        self.parts = tuple(
            Part(int(begin), int(end), weights[name])
            for name, begin, end in zip(
                self.sources, self._begin[:-1], self._begin[1:], strict=True
            )
        )
        self.labels, self.class_names = check_labels(
            _joined([np.asarray(source.labels) for source in parts]),
            parts[0].class_names,
            int(self._begin[-1]),
        )

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return int(self._begin[-1])

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        index = range(len(self))[index]
        part = int(np.searchsorted(self._begin, index, side="right")) - 1
        source = list(self.sources.values())[part]
        image, label = read_from(source, int(index - self._begin[part]), choose)
        return image, label if self.labels.ndim == 1 else self.labels[index]


def whose_turn(place: int, weights: Sequence[float]) -> tuple[int, int]:
    """Which source a place of the stream is of, and how many before it are of the same.

    Of the first k places the first source has its share, rounded down; the others divide what is
    left likewise. So each has at any place its share of those before, to within one for each
    source, and no place needs any other to be known.

    Example:

    >>> from keras_vit_scale.data.mixture import whose_turn
    >>> [whose_turn(place, [1, 2]) for place in range(6)]
    [(1, 0), (1, 1), (0, 0), (1, 2), (1, 3), (0, 1)]
    """
    exact = [Fraction(weight) for weight in weights]
    left = sum(exact)
    for source, weight in enumerate(exact):
        before, after = (int(k * weight / left) for k in (place, place + 1))
        if after > before:
            return source, before
        place -= before
        left -= weight
    raise ValueError(f"`weights` must be positive. Received: weights={list(weights)}")


def _joined(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Labels one after the other; lists as long as the longest."""
    kinds = {(array.ndim, np.issubdtype(array.dtype, np.floating)) for array in labels}
    if len(kinds) > 1:
        raise ValueError(
            "The sources of a mixture must have labels of one kind: one class an image, lists, or "
            f"shares. Received: {[f'{a.dtype} of shape {a.shape}' for a in labels]}"
        )
    width = max(array.shape[-1] for array in labels)
    if kinds == {(2, False)}:
        labels = [np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=-1) for a in labels]
    return np.concatenate(labels)
