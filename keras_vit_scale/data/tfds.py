"""TensorFlow Datasets, read without TensorFlow."""

import difflib
from functools import cached_property
from pathlib import Path

import numpy as np

from keras_vit_scale.data.labels import check_labels


class TFDSSource:
    """One split of an image classification data set of TensorFlow Datasets.

    Needs the extra `tfds`. The data must lie prepared in a file format with random
    access; `tensorflow_datasets` imports TensorFlow to prepare a data set, but not to
    read it, so a run on JAX or PyTorch stays free of it. Nothing is downloaded here.

    Args:
        name: A name of TFDS: "cifar10", "imagenet2012:5.1.0", "imagenet_v2/topimages".
        split: A split or a slice of one: "train", "train[:90%]", "train[90%:]+test".
        data_dir: Folder of the prepared data sets; by default the variable
            `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.

    Raises:
        ImportError: If `tensorflow_datasets` is not installed.
        ValueError: If there is no such data set or split, it is not prepared for
            random access, or its examples are not pairs of an image of bytes, grey or
            colour, and a class.
    """

    def __init__(self, name: str, split: str = "train", data_dir: str | Path | None = None):
        tfds = _tensorflow_datasets()
        self.name, self.split = name, split
        builder = _builder(tfds, name, data_dir)
        self._check_prepared(builder)
        self._image, self._label = self._keys(tfds, builder.info)
        self.class_names = tuple(builder.info.features[self._label].names)
        read = builder.as_data_source
        try:
            self._examples = read(split=split)
            # The same examples with the images left as their files' bytes.
            self._undecoded = read(split=split, decoders={self._image: tfds.decode.SkipDecoding()})
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"The split must be one of {sorted(builder.info.splits)}, a slice such as "
                f"'train[:90%]', or a sum of them, and hold images. Received: {split!r} of "
                f"{name!r}"
            ) from error

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        example = self._examples[int(index)]
        return np.asarray(example[self._image]), int(example[self._label])

    @cached_property
    def labels(self) -> np.ndarray:
        """Every label, int64 (N,), read when first asked for.

        Labels lie beside their images in the files, so the first time reads all of
        them, though it decodes none.
        """
        labels = [example[self._label] for example in self._undecoded]
        return check_labels(labels, self.class_names, len(self))[0]

    def _check_prepared(self, builder):
        prepare = (
            f"tensorflow_datasets.builder({self.name!r}, file_format='array_record', "
            "data_dir=...).download_and_prepare()"
        )
        formats = sorted(f.value for f in builder.info.available_file_formats())
        if not builder.is_prepared():
            raise ValueError(
                f"A TensorFlow Datasets source must be prepared first: {prepare}. "
                f"Received: {self.name!r} without data in {str(builder.data_path)!r}"
            )
        if not set(formats) & {"array_record", "parquet"}:
            raise ValueError(
                "A TensorFlow Datasets source must be prepared in a format with random access, "
                f"in a folder of its own: {prepare}. "
                f"Received: {self.name!r} as {formats} in {str(builder.data_path)!r}"
            )

    def _keys(self, tfds, info):
        """The names of the image and the label in an example."""
        keys = info.supervised_keys
        features = [info.features[key] for key in keys] if keys and len(keys) == 2 else []
        if [type(f) for f in features] != [tfds.features.Image, tfds.features.ClassLabel]:
            raise ValueError(
                "A TensorFlow Datasets source must have an image and a class as its supervised "
                f"pair. Received: {self.name!r} with {keys} of {dict(info.features)}"
            )
        image = features[0]
        if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
            raise ValueError(
                "Images must be of bytes with one channel or three. "
                f"Received: {self.name!r} with {image.np_dtype} of shape {image.shape}"
            )
        return keys


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
