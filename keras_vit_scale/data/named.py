"""The source that a name stands for."""

import difflib
from pathlib import Path

from keras_vit_scale.data.decode import MAX_PIXELS, check_reading
from keras_vit_scale.data.folder import ImageFolder
from keras_vit_scale.data.npz import open_npz
from keras_vit_scale.data.sources import Source, digits
from keras_vit_scale.data.tfds import TFDSSource

FORMS = (
    "'digits' (scikit-learn's)",
    "a folder that holds one folder of images a class",
    "an .npz file, 'PATH.npz' or 'PATH.npz@SPLIT'",
    "a TensorFlow Datasets name, 'tfds:NAME', 'tfds:NAME@SPLIT' or "
    "'tfds:NAME/CONFIG:VERSION@SPLIT'",
)


def open_source(
    name: str | Path, *, orientation: str = "ignore", max_pixels: int = MAX_PIXELS
) -> Source:
    """The source that a name stands for.

    Args:
        name: "digits"; a folder as `ImageFolder` reads it; an `.npz` file as
            `open_npz` does; or "tfds:" and a name as `TFDSSource` takes it. After
            the last two may stand "@" and a split, which is "train" otherwise;
            TFDS takes slices, as in "tfds:cifar10@train[:90%]".
        orientation, max_pixels: As for `ImageFolder`; the images of the others are pixels
            already, or decoded by TFDS.

    Raises:
        ValueError: If it is none of these, what it names is refused, or an option is unknown.
        ImportError: If TFDS is asked for and not installed.

    Example:

    >>> from keras_vit_scale.data import open_source
    >>> len(open_source("digits"))
    1797
    """
    check_reading(orientation, max_pixels)
    text, path = str(name), Path(name)
    if text == "digits":
        return digits()
    if text.startswith("tfds:"):
        dataset, at, split = text.removeprefix("tfds:").partition("@")
        if not dataset or (at and not split):
            raise ValueError(
                "A TensorFlow Datasets source is 'tfds:NAME' or 'tfds:NAME@SPLIT'. "
                f"Received: {text!r}"
            )
        return TFDSSource(dataset, split or "train")
    if path.is_dir():
        return ImageFolder(path, orientation=orientation, max_pixels=max_pixels)
    if path.is_file() and path.suffix == ".npz":
        return open_npz(path)
    file, _, split = text.rpartition("@")
    if split and file.endswith(".npz") and Path(file).is_file():
        return open_npz(file, split)
    raise ValueError(
        f"A data set must be {'; '.join(FORMS)}. Received: {text!r}{_suggestion(path)}"
    )


def _suggestion(path):
    """What a misspelt name may have meant: "digits", or a neighbour of the missing file."""
    names = ["digits"] if path.parent == Path() else []
    if path.parent.is_dir():
        names += [p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix == ".npz"]
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f". Did you mean {str(path.with_name(close[0]))!r}?"
    return ", which exists but is neither folder nor .npz" if path.exists() else ""
