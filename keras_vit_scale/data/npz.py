"""Data sets in one `.npz` file."""

import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from keras_vit_scale.data.sources import ArraySource


def open_npz(path: str | Path, split: str | None = None) -> ArraySource:
    """The images of an `.npz` file, in memory.

    The file holds `images` and `labels` as `ArraySource` takes them, or one pair for
    each split, named as Keras' own data sets are: `x_train` and `y_train`, `x_test`
    and `y_test`. It may hold `class_names`. Labels of shape (N, 1) are taken as (N,).

    Args:
        path: The file.
        split: "train", "test", or whatever follows `x_` and `y_`; "train" by default
            where the file has splits.

    Raises:
        ValueError: If the file is damaged, lacks an array or the split, or holds
            Python objects, which are never unpickled.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_vit_scale.data import open_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     x, y = np.zeros((3, 8, 8), "uint8"), np.array([[1], [0], [1]])
    ...     np.savez(f"{folder}/d.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    ...     len(open_source(f"{folder}/d.npz")), len(open_source(f"{folder}/d.npz@test"))
    (3, 2)
    """
    path = Path(path)
    with _reading(path):
        # Checked here because NumPy takes any other file for a single array, or a pickle.
        zipfile.ZipFile(path).close()
        file = np.load(path, allow_pickle=False)
    with file:
        names = _names(path, set(file), split)
        with _reading(path):
            arrays = {name: file[name] for name in (*names, "class_names") if name in file}
    images, labels = (arrays[name] for name in names)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    classes = arrays.get("class_names")
    return ArraySource(images, labels, None if classes is None else [str(c) for c in classes])


@contextmanager
def _reading(path):
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"Cannot read the data set {str(path)!r}: {error}") from error


def _names(path, present, split):
    """What the images and the labels of a split are called in a file."""
    names = ("images", "labels") if split is None else (f"x_{split}", f"y_{split}")
    if split is None and not present & set(names) and {"x_train", "y_train"} <= present:
        return "x_train", "y_train"
    missing = sorted(set(names) - present)
    if missing:
        raise ValueError(
            "An .npz data set must hold `images` and `labels`, or `x_train` and `y_train` and "
            "so on for each split. "
            f"Received: {str(path)!r} without {missing}, with {sorted(present)}"
        )
    return names
