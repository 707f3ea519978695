"""Images in TFRecord files, read without TensorFlow."""

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.data.crc32c import crc32c, masked
from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.example import parse_example
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.located import LocatedSource, located, numbered
from keras_vit_scale.data.shards import BadShardError, find_shards, index_shards, open_shard

#: Before a TFRecord's data their length and a checksum of that, after them a checksum of the data.
_HEADER, _FOOTER = 12, 4


class TFRecordShards(LocatedSource):
    """Images and labels in TFRecord files of `tf.train.Example`.

    TFRecord has no index. So each file is read through once, which finds the bytes of each image
    and its label; the index is kept in `$KERAS_VIT_SCALE_CACHE` or `~/.cache/keras_vit_scale`.
    Then any image is read by itself, on a disk or in a bucket. Examples come in the order of the
    files and within them. TensorFlow is not needed. Checksums are verified where it is asked for;
    otherwise a length that is wrong leads to no record, and decoders notice most of what is wrong
    with an image.

    Args:
        shards: A path, a pattern such as "train-*", a URL of either, or a list of them.
        image, label: The names of the features: bytes of an image file, and a whole number, the
            name of a class, or several of these.
        class_names: The classes; by default as many numbers as the largest label asks for.
        bad_shards: "error", or "skip" damaged files, with a warning that counts them.
        checksums: "ignore", or "verify" those of every record when a file is read through, at
            some tens of megabytes a second; a file with a wrong one is damaged.
        orientation, max_pixels, fast: As for `read_image`.

    Raises:
        BadShardError: A `ValueError`, naming a file that is truncated, damaged, compressed, or
            holds other records.
        ValueError: If a file is missing or named twice, or a label is no class.
        BadImageError: From an item, if its image cannot be read.

    Source: the format of https://www.tensorflow.org/tutorials/load_data/tfrecord.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        image: str = "image",
        label: str = "label",
        class_names: Sequence[str] | None = None,
        bad_shards: str = "error",
        checksums: str = "ignore",
        orientation: str = "ignore",
        max_pixels: int = MAX_PIXELS,
        fast: bool = False,
    ):
        check_one_of(("ignore", "verify"), checksums=checksums)
        found = find_shards(shards, "'train-*.tfrecord'")
        verify = checksums == "verify"
        files, indices = index_tfrecords(found, image, label, bad_shards, verify)
        super().__init__(files, indices, orientation=orientation, max_pixels=max_pixels, fast=fast)
        values = numbered(self.label_texts(), class_names, self.name, json.loads)
        self.labels, self.class_names = check_labels(values, class_names, len(self._sizes))


def index_tfrecords(
    files: Sequence[str],
    image: str,
    label: str,
    bad_shards: str = "error",
    verify: bool = False,
) -> tuple[list[str], list[dict[str, np.ndarray]]]:
    """The files that can be read and the index of each; the text of a label is JSON."""
    # What was indexed without is not verified.
    kind = f"tfrecord{'-verified' if verify else ''}-{image}-{label}".replace("/", "_")
    return index_shards(kind, files, lambda file: _index(file, image, label, verify), bad_shards)


def _index(file, image, label, verify=False):
    """Where each record's image lies in the file, and its label."""
    offsets, sizes, labels, place = [], [], [], 0
    with open_shard(file) as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        while place < end:
            header = stream.read(_HEADER)
            size = struct.unpack("<Q", header[:8])[0] if len(header) == _HEADER else end
            if place + _HEADER + size + _FOOTER > end:
                raise BadShardError(file, _not_a_record(header, place, end))
            record = stream.read(size)
            footer = stream.read(_FOOTER)
            if verify and not (
                _is_checksum(header[8:], header[:8]) and _is_checksum(footer, record)
            ):
                raise BadShardError(file, f"the record at byte {place} has another checksum")
            try:
                encoded, said = image_and_label(record, image, label)
            except ValueError as error:
                raise BadShardError(file, f"the record at byte {place}: {error}") from error
            offsets.append(place + _HEADER + record.index(encoded))
            sizes.append(len(encoded))
            labels.append(said)
            place += _HEADER + size + _FOOTER
    if not sizes:
        raise BadShardError(file, "it holds no record")
    return located((f"record {i}" for i in range(len(sizes))), offsets, sizes, labels)


def _is_checksum(stored, data):
    return struct.unpack("<I", stored)[0] == masked(crc32c(data))


def _not_a_record(header, place, end):
    if place == 0 and header[:2] == b"\x1f\x8b":
        return "it is compressed, so that no record can be read by itself; unpack it"
    return f"it is truncated or damaged at byte {place} of {end}, where no record is"


def image_and_label(record: bytes, image: str, label: str) -> tuple[bytes, str]:
    """The bytes of the image of a `tf.train.Example`, and its label as JSON.

    Args:
        record: The example, serialised.
        image, label: Names of its features.

    Raises:
        ValueError: If it is none, lacks one of them, or has not one image.
    """
    features = parse_example(record)
    missing = [name for name in (image, label) if name not in features]
    if missing:
        raise ValueError(f"it has no {missing}, but {sorted(features)}")
    images, values = features[image], features[label]
    if len(images) != 1 or not isinstance(images[0], bytes) or not images[0]:
        raise ValueError(f"{image!r} is not one image file")
    plain: list[Any] = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
    return images[0], json.dumps(plain[0] if len(plain) == 1 else plain)
