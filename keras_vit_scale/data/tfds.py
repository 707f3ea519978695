"""TensorFlow Datasets, read without TensorFlow."""

import difflib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.data.boxes import Choose, Picture
from keras_vit_scale.data.encoded import EncodedSource
from keras_vit_scale.data.indices import kept
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.located import LocatedSource
from keras_vit_scale.data.shards import BadShardError, tracked
from keras_vit_scale.data.tfrecord import index_tfrecords

#: Formats of TFDS in which it finds an example by its number.
RANDOM_ACCESS = ("array_record", "parquet")


class TFDSSource(EncodedSource):
    """One split of an image classification data set of TensorFlow Datasets.

    Needs the extra `tfds`. `tensorflow_datasets` imports TensorFlow to prepare a data set, but
    not to read it, so a run on JAX or PyTorch stays free of it. Nothing is downloaded here.

    Data that were prepared as ArrayRecord or Parquet are read by TFDS's own `as_data_source`;
    TFRecord files, which most data sets are prepared as, are read through once, and then by their
    index, as `TFRecordShards` does. Images are decoded by our decoder in either case, so the same
    data set has the same pixels in the same order. What was read through, all labels that is, is
    kept in `$KERAS_VIT_SCALE_CACHE` or `~/.cache/keras_vit_scale`.

    Args:
        name: A name of TFDS: "cifar10", "imagenet2012:5.1.0", "imagenet_v2/topimages".
        split: A split or a slice of one: "train", "train[:90%]", "train[90%:]+test".
        data_dir: Folder of the prepared data sets; by default the variable
            `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.

    Raises:
        ImportError: If `tensorflow_datasets` is not installed.
        ValueError: If there is no such data set or split, it is not prepared in one of these
            formats, or its examples are not pairs of an image of bytes, grey or colour, and a
            class.
        BadShardError: A `ValueError`, naming a damaged TFRecord file.
        BadImageError: From an item, if its image cannot be read.
    """

    def __init__(self, name: str, split: str = "train", data_dir: str | Path | None = None):
        super().__init__()
        tfds = _tensorflow_datasets()
        self.dataset, self.split = name, split
        builder = _builder(tfds, name, data_dir)
        self._place = str(builder.data_path)
        formats = self._check_prepared(builder)
        self._image, self._label = self._keys(tfds, builder.info)
        self._grey = builder.info.features[self._image].shape[-1] == 1
        self.class_names = tuple(builder.info.features[self._label].names)
        try:
            if formats & set(RANDOM_ACCESS):
                # With the images left as their files' bytes.
                left = {self._image: tfds.decode.SkipDecoding()}
                self._examples: Any = builder.as_data_source(split=split, decoders=left)
            else:
                self._examples = _Records(builder.info.splits[split], self._image, self._label)
            if not len(self._examples):
                raise ValueError("no images")
        except (ValueError, KeyError) as error:
            if isinstance(error, BadShardError):
                raise
            raise ValueError(
                f"The split must be one of {sorted(builder.info.splits)}, a slice such as "
                f"'train[:90%]', or a sum of them, and hold images. Received: {split!r} of "
                f"{name!r}"
            ) from error

    def __len__(self) -> int:
        return len(self._examples)

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        image, label = super().read(index, choose)
        return (np.asarray(image)[..., :1] if self._grey else image), label

    def encoded(self, index: int) -> bytes:
        """The bytes of an image's file."""
        return self._examples[index][self._image]

    def name(self, index: int) -> str:
        """The data set, the split and the number of an image."""
        return f"tfds:{self.dataset}@{self.split}:{index}"

    # An attribute of other sources; here it is a property, so that it is read when it is needed.
    @cached_property
    def labels(self) -> np.ndarray:  # type: ignore[override]
        """Every label, int64 (N,), read when first asked for.

        Labels lie beside their images in the files, so the first time reads all of
        them, though it decodes none.
        """
        if isinstance(self._examples, _Records):
            labels = self._examples.labels()
        else:
            info = Path(self._place, "dataset_info.json")
            state = np.array([info.stat().st_mtime_ns if info.exists() else 0, len(self)])
            labels = kept(
                "tfds",
                f"{self._place}:{self.split}",
                lambda _: state,
                lambda: {"labels": np.array([
                    self._examples[i][self._label]
                    for i in tracked(range(len(self)), f"Labels of {self.dataset}")
                ])},
            )["labels"]  # fmt: skip
        return check_labels(labels, self.class_names, len(self))[0]

    def _check_prepared(self, builder):
        """The formats in which the data set lies."""
        prepare = (
            f"tensorflow_datasets.builder({self.dataset!r}, file_format='array_record', "
            "data_dir=...).download_and_prepare()"
        )
        formats = {f.value for f in builder.info.available_file_formats()}
        if not builder.is_prepared():
            raise ValueError(
                f"A TensorFlow Datasets source must be prepared first: {prepare}. "
                f"Received: {self.dataset!r} without data in {self._place!r}"
            )
        if not formats & {*RANDOM_ACCESS, "tfrecord"}:
            raise ValueError(
                f"A TensorFlow Datasets source must be prepared as one of {RANDOM_ACCESS} or "
                f"'tfrecord', in a folder of its own: {prepare}. "
                f"Received: {self.dataset!r} as {sorted(formats)} in {self._place!r}"
            )
        return formats

    def _keys(self, tfds, info):
        """The names of the image and the label in an example."""
        keys = info.supervised_keys
        features = [info.features[key] for key in keys] if keys and len(keys) == 2 else []
        if [type(f) for f in features] != [tfds.features.Image, tfds.features.ClassLabel]:
            raise ValueError(
                "A TensorFlow Datasets source must have an image and a class as its supervised "
                f"pair. Received: {self.dataset!r} with {keys} of {dict(info.features)}"
            )
        image = features[0]
        if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
            raise ValueError(
                "Images must be of bytes with one channel or three. "
                f"Received: {self.dataset!r} with {image.np_dtype} of shape {image.shape}"
            )
        return keys


class _Records:
    """Examples of TFRecord files that TFDS wrote, as its own data sources give them."""

    def __init__(self, split, image, label):
        self.image, self.label = image, label
        pieces = split.file_instructions
        names = [str(piece.filename) for piece in pieces]
        files, indices = index_tfrecords(names, image, label)
        # TFDS's -1 takes all that are left.
        taken = [slice(p.skip, None if p.take == -1 else p.skip + p.take) for p in pieces]
        self.located = LocatedSource(files, indices, taken)

    def __len__(self):
        return self.located.count

    def __getitem__(self, index):
        return {self.image: self.located.encoded(index)}

    def labels(self):
        return np.array([json.loads(text) for text in self.located.label_texts()])


def _tensorflow_datasets():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            "Names 'tfds:...' need TensorFlow Datasets: pip install 'keras-vit-scale[tfds]'"
        ) from error
    return tensorflow_datasets


def _builder(tfds, name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name.partition("/")[0].partition(":")[0], known, n=3)
        hint = f"; near it are {close}" if close else ""
        raise ValueError(
            "A TensorFlow Datasets source must be a data set that TFDS knows or that lies "
            f"prepared in its folder. Received: {name!r}{hint}"
        ) from error
    except (AssertionError, ValueError, RuntimeError) as error:
        # TFDS asserts that a version or a configuration exists.
        raise ValueError(f"TensorFlow Datasets cannot open {name!r}: {error}") from error
