"""The source that a name stands for."""

import difflib
from pathlib import Path

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.array_record import ArrayRecordShards
from keras_vit_scale.data.arrow import HuggingFaceDataset, ParquetShards
from keras_vit_scale.data.decode import MAX_PIXELS, check_reading
from keras_vit_scale.data.folder import LINKS, ImageFolder
from keras_vit_scale.data.npz import open_npz
from keras_vit_scale.data.sources import Source, digits
from keras_vit_scale.data.tar import TarShards
from keras_vit_scale.data.tfds import TFDSSource
from keras_vit_scale.data.tfrecord import TFRecordShards

FORMS = (
    "'digits' (scikit-learn's)",
    "a folder that holds one folder of images a class",
    "an .npz file, 'PATH.npz' or 'PATH.npz@SPLIT'",
    "shards, a path or pattern ending in .tar, .tfrecord, .array_record or .parquet",
    "a Hugging Face data set on disk, 'hf:FOLDER' or 'hf:FOLDER@SPLIT'",
    "a TensorFlow Datasets name, 'tfds:NAME', 'tfds:NAME@SPLIT' or "
    "'tfds:NAME/CONFIG:VERSION@SPLIT'",
)


#: What reads shards, by the end of their names.
SHARDS: dict[str, type[TarShards | TFRecordShards | ArrayRecordShards | ParquetShards]] = {
    ".tar": TarShards,
    ".tfrecord": TFRecordShards,
    ".array_record": ArrayRecordShards,
    ".parquet": ParquetShards,
}


def open_source(
    name: str | Path,
    *,
    orientation: str = "ignore",
    max_pixels: int = MAX_PIXELS,
    fast: bool = False,
    links: str = "refuse",
) -> Source:
    """The source that a name stands for.

    Args:
        name: "digits"; a folder as `ImageFolder` reads it; an `.npz` file as `open_npz` does;
            shards, "data/train-*.tar", as `TarShards` and its like read them by their ending;
            "hf:" and a folder as `HuggingFaceDataset` does; or "tfds:" and a name as
            `TFDSSource` takes it. After these with a colon and after .npz may stand "@" and a
            split; TFDS, which takes "train" otherwise, has slices, as in
            "tfds:cifar10@train[:90%]".
        orientation, max_pixels, fast: As for `ImageFolder`; those of `.npz` and "digits" are
            pixels already, and TFDS's are as its decoders would have them.
        links: As for `ImageFolder`; other data have none.

    Raises:
        ValueError: If it is none of these, what it names is refused, or an option is unknown.
        ImportError: If TFDS or `fast` is asked for and not installed.

    Example:

    >>> from keras_vit_scale.data import open_source
    >>> len(open_source("digits"))
    1797
    """
    check_reading(orientation, max_pixels, fast)
    check_one_of(LINKS, links=links)
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
    if text.startswith("hf:"):
        folder, _, split = text.removeprefix("hf:").partition("@")
        return HuggingFaceDataset(
            folder, split or None, orientation=orientation, max_pixels=max_pixels, fast=fast
        )
    for ending, shards in SHARDS.items():
        if text.endswith(ending):
            return shards(text, orientation=orientation, max_pixels=max_pixels, fast=fast)
    if path.is_dir():
        return ImageFolder(
            path, orientation=orientation, max_pixels=max_pixels, fast=fast, links=links
        )
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
