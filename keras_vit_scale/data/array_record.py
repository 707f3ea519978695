"""Images in ArrayRecord files, which have random access of their own."""

import json
from collections.abc import Sequence
from pathlib import Path

import grain
import numpy as np

from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.encoded import EncodedSource
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.located import numbered
from keras_vit_scale.data.shards import BadShardError, find_shards, index_shards
from keras_vit_scale.data.texts import Texts
from keras_vit_scale.data.tfrecord import image_and_label


class ArrayRecordShards(EncodedSource):
    """Images and labels in ArrayRecord files of `tf.train.Example`, as Grain reads them.

    Labels lie beside their images, so each file is read through once for them; they are kept in
    `$KERAS_VIT_SCALE_CACHE` or `~/.cache/keras_vit_scale`. Examples come in the order of the
    files and within them. On a bucket, ArrayRecord files must be mounted.

    Args:
        shards: A path, a pattern such as "train-*", or a list of them.
        image, label, class_names, bad_shards: As for `TFRecordShards`.
        orientation, max_pixels, fast: As for `read_image`.

    Raises:
        BadShardError: A `ValueError`, naming a file that is damaged or holds other records.
        ValueError: If a file is missing or named twice, or a label is no class.
        BadImageError: From an item, if its image cannot be read.

    Source: the format of https://github.com/google/array_record.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        image: str = "image",
        label: str = "label",
        class_names: Sequence[str] | None = None,
        bad_shards: str = "error",
        orientation: str = "ignore",
        max_pixels: int = MAX_PIXELS,
        fast: bool = False,
    ):
        super().__init__(orientation, max_pixels, fast)
        self.image, self.label = image, label
        files = find_shards(shards, "'train-*.array_record'")
        if remote := [file for file in files if "://" in file]:
            raise ValueError(
                "ArrayRecord files must lie on a disk or be mounted. "
                f"Received: {remote[0]!r}; tar and TFRecord files are read from buckets"
            )
        kind = f"array_record-{image}-{label}".replace("/", "_")
        self.shards, indices = index_shards(
            kind, files, lambda file: _index(file, image, label), bad_shards
        )
        self._records = grain.sources.ArrayRecordDataSource(self.shards)
        self._begin = np.cumsum([0, *(len(index["label_ends"]) for index in indices)])
        texts = (t for i in indices for t in Texts(i["label_bytes"], i["label_ends"]))
        values = numbered(texts, class_names, self.name, json.loads)
        self.labels, self.class_names = check_labels(values, class_names, len(values))

    def encoded(self, index: int) -> bytes:
        """The bytes of an image's file."""
        return image_and_label(self._records[index], self.image, self.label)[0]

    def name(self, index: int) -> str:
        """The file of an image and the number of its record."""
        shard = int(np.searchsorted(self._begin, index, side="right")) - 1
        return f"{self.shards[shard]}:record {index - self._begin[shard]}"


def _index(file, image, label):
    """The labels of a file's records, as JSON."""
    try:
        records = grain.sources.ArrayRecordDataSource([file])
        labels = [image_and_label(records[i], image, label)[1] for i in range(len(records))]
    except (ValueError, RuntimeError, IndexError, OSError) as error:
        raise BadShardError(
            file, f"it is no whole ArrayRecord file of examples: {error}"
        ) from error
    if not labels:
        raise BadShardError(file, "it holds no record")
    texts = Texts.of(labels)
    return {"label_bytes": texts.joined, "label_ends": texts.ends}
