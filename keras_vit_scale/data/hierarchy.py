"""Labels that imply others: a tabby is a cat, and a cat an animal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture, read_from
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.sources import Source, described


class WithAncestors(CuttingSource):
    """A source whose labels imply the ancestors of their classes in a tree.

    An image of a class that has ancestors is one of each of them, though its label does not say
    so. Either they are switched on, so that it is a positive example of all; or they are ignored:
    its loss says nothing of them, for where some images have their most special class and others
    a general one. Without this class they would be negatives.

    Labels become lists, int32 (N, k); `keras_vit_scale.SigmoidCrossEntropy` takes those of a batch.

    Args:
        source: Images and labels: one class each, or lists.
        parents: By the name of a class that of its parent; classes that it lacks are roots.
        ancestors: "on" or "ignored".
        class_names: The classes, if the tree has some that the source has not; those of the
            source first, in their order. By default parents that are new follow by name.

    Raises:
        ValueError: If a name is no class, a class is its own ancestor, the labels are soft, or
            an option is unknown.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import ArraySource, WithAncestors
    >>> cats = ArraySource(np.zeros((2, 8, 8), "uint8"), [0, 1], ["tabby", "owl"])
    >>> source = WithAncestors(cats, {"tabby": "cat", "cat": "animal", "owl": "animal"})
    >>> source.class_names
    ('tabby', 'owl', 'animal', 'cat')
    >>> source.labels.tolist()
    [[0, 2, 3], [1, 2, -1]]
    """

    def __init__(
        self,
        source: Source,
        parents: Mapping[str, str],
        ancestors: str = "on",
        class_names: Sequence[str] | None = None,
    ):
        check_one_of(("on", "ignored"), ancestors=ancestors)
        self.source = source
        if class_names is None:
            new = (set(parents) | set(parents.values())) - set(source.class_names)
            class_names = (*source.class_names, *sorted(new))
        elif tuple(class_names[: len(source.class_names)]) != source.class_names:
            raise ValueError(
                "`class_names` must begin with those of the source. "
                f"Received: {list(class_names)[:5]} for {list(source.class_names)[:5]}"
            )
        table = ancestor_table(parents, class_names)
        labels = with_ancestors(source.labels, table, ignored=ancestors == "ignored")
        self.labels, self.class_names = check_labels(labels, class_names, len(source))

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        return read_from(self.source, index, choose)[0], self.labels[index]


def ancestor_table(parents: Mapping[str, str], class_names: Sequence[str]) -> np.ndarray:
    """The ancestors of each class, int32 (C, depth), filled up with -1.

    Raises:
        ValueError: If a name is no class, or a class is its own ancestor.

    Example:

    >>> from keras_vit_scale.data.hierarchy import ancestor_table
    >>> ancestor_table({"b": "a", "c": "b"}, ["a", "b", "c"]).tolist()
    [[-1, -1], [0, -1], [1, 0]]
    """
    indices = {name: i for i, name in enumerate(class_names)}
    unknown = sorted((set(parents) | set(parents.values())) - set(indices))
    if unknown:
        raise ValueError(
            f"Classes and parents must be in the list of classes. Received: {unknown[:5]}"
        )
    parent = np.full(len(indices), -1, np.int32)
    for name, above in parents.items():
        parent[indices[name]] = indices[above]
    columns, reached = [], parent
    while (reached >= 0).any():
        columns.append(reached)
        if len(columns) == len(parent):
            circle = [class_names[int(i)] for i in np.flatnonzero(reached >= 0)]
            raise ValueError(
                f"No class may be its own ancestor. Received: a circle above {circle[:5]}"
            )
        reached = np.where(reached >= 0, parent[reached], -1)
    return np.stack(columns, axis=1) if columns else np.full((len(parent), 0), -1, np.int32)


def with_ancestors(labels: np.ndarray, table: np.ndarray, *, ignored: bool = False) -> np.ndarray:
    """Label lists with the ancestors of their classes, switched on or ignored; int32 (N, k).

    What is ignored already, -2 - c, stays so unless it is switched on.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data.hierarchy import with_ancestors
    >>> table = np.array([[-1], [0], [0]])  # 0 is above 1 and 2
    >>> with_ancestors(np.array([[1, 2], [0, -1]]), table).tolist()
    [[0, 1, 2], [0, -1, -1]]
    >>> with_ancestors(np.array([[1, 2], [0, -1]]), table, ignored=True).tolist()
    [[1, 2, -2], [0, -1, -1]]
    """
    if np.issubdtype(labels.dtype, np.floating):
        raise ValueError(
            "Ancestors follow from classes, one or a list an image. Received: soft labels, "
            f"{labels.dtype} of shape {labels.shape}"
        )
    lists = labels[:, None] if labels.ndim == 1 else labels
    none = np.iinfo(np.int32).max
    above = np.where((lists >= 0)[..., None], table[lists], -1).reshape(len(lists), -1)
    given = np.where(lists >= 0, 2 * lists, np.where(lists < -1, 2 * (-2 - lists) + 1, none))
    implied = np.where(above >= 0, 2 * above + ignored, none)
    # Twice the class, and one more if it is ignored: so what is on comes before it, and stays.
    coded = np.sort(np.concatenate([given, implied], axis=1), axis=1)
    again = np.zeros_like(coded, bool)
    again[:, 1:] = coded[:, 1:] // 2 == coded[:, :-1] // 2
    coded = np.sort(np.where(again, none, coded), axis=1)
    width = max(int((coded < none).sum(axis=1).max()), 1)
    coded = coded[:, :width]
    found = np.where(coded % 2 == 1, -2 - coded // 2, coded // 2)
    found = np.where(coded < none, found, -1).astype(np.int32)
    # What is on comes first, by class, then what is ignored, then the filling.
    order = np.argsort(np.where(found >= 0, 0, np.where(found < -1, 1, 2)), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)
