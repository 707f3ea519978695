"""Images in tar files, as WebDataset writes them."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.folder import IMAGE_SUFFIXES
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.located import LocatedSource, located, numbered
from keras_vit_scale.data.shards import BadShardError, find_shards, index_shards, open_shard

#: Bytes of a label's file at most: a list of all of 30,000 classes has fewer.
_LONGEST_LABEL = 2**18


class TarShards(LocatedSource):
    """Images and labels in tar files, one after the other: WebDataset's shards.

    The files of one example follow each other and share a key, their path up to the first dot of
    the name: `0007.jpg` and `0007.cls`. Each shard is walked through once, its index kept in
    `$KERAS_VIT_SCALE_CACHE` or `~/.cache/keras_vit_scale`; then any image is read by itself, on
    a disk or in a bucket. Examples come in the order of the shards and within them. Files of
    other kinds are passed over.

    Args:
        shards: A path, a pattern such as "train-*.tar", a URL of either, or a list of them.
        label: The ending of labels: "cls", the text of a whole number or of the name of a class;
            or "json:KEY", a value of a JSON file: a number, a name, or a list of these.
        class_names: The classes; by default as many numbers as the largest label asks for.
        bad_shards: "error", or "skip" damaged shards, with a warning that counts them.
        orientation, max_pixels, fast: As for `read_image`.

    Raises:
        BadShardError: A `ValueError`, naming a shard that is truncated, damaged, compressed or
            no tar file, or in which an example has no image, no label or several, or the key of
            another.
        ValueError: If a shard is missing or named twice, or a label is no class.
        BadImageError: From an item, if its image cannot be read.

    Source: the format of https://github.com/webdataset/webdataset.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        label: str = "cls",
        class_names: Sequence[str] | None = None,
        bad_shards: str = "error",
        orientation: str = "ignore",
        max_pixels: int = MAX_PIXELS,
        fast: bool = False,
    ):
        ending, colon, key = label.partition(":")
        if not ending or bool(key) != (ending == "json") or bool(colon) != bool(key):
            raise ValueError(
                f"`label` must be an ending such as 'cls', or 'json:KEY'. Received: label={label!r}"
            )
        files, indices = index_shards(
            f"tar-{ending}",
            find_shards(shards, "'train-*.tar'"),
            lambda file: _index(file, ending),
            bad_shards,
        )
        super().__init__(files, indices, orientation=orientation, max_pixels=max_pixels, fast=fast)
        values = numbered(
            self.label_texts(), class_names, self.name, partial(_value, key=key) if key else str
        )
        self.labels, self.class_names = check_labels(values, class_names, len(self._sizes))


def _value(text: str, key: str) -> Any:
    """The value of a key of JSON."""
    try:
        return json.loads(text)[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Labels must be under the key {key!r} of JSON. Received: {text!r:.80}"
        ) from error


def _index(file: str, ending: str) -> dict[str, np.ndarray]:
    """Where each example's image lies, and the text of its label."""
    examples: dict[str, tuple[int, int, str]] = {}
    key, found = "", dict[str, Any]()
    with open_shard(file) as stream:
        for member in _members(file, stream):
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if folder + slash + stem != key:
                _close(file, key, found, examples, ending)
                key, found = folder + slash + stem, {}
            kind = "label" if suffix == ending else "image"
            if kind == "image" and not f".{suffix.lower()}".endswith(IMAGE_SUFFIXES):
                continue
            if kind in found:
                raise BadShardError(file, f"the example {key!r} has several {kind}s")
            found[kind] = (member.offset_data, member.size)
            if kind == "label":
                found[kind] = _text(file, stream, member)
        _close(file, key, found, examples, ending)
    if not examples:
        raise BadShardError(file, f"it holds no image with a label, a file ending in .{ending}")
    offsets, sizes, labels = zip(*examples.values(), strict=True)
    return located(examples, offsets, sizes, labels)


def _close(file, key, found, examples, ending):
    """Adds an example that is complete; what has neither image nor label is none."""
    if not found:
        return
    if len(found) < 2:
        cure = "" if "label" in found else f", no file ending in .{ending}"
        missing = "image" if "label" in found else "label"
        raise BadShardError(file, f"the example {key!r} has no {missing}{cure}")
    if key in examples:
        raise BadShardError(file, f"the key {key!r} is there twice")
    examples[key] = (*found["image"], found["label"])


def _text(file, stream, member):
    if member.size > _LONGEST_LABEL:
        raise BadShardError(file, f"the label {member.name!r} has {member.size} bytes")
    here = stream.tell()
    stream.seek(member.offset_data)
    text = stream.read(member.size).decode("utf-8", "replace")
    stream.seek(here)
    return text


def _members(file: str, stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The files of a tar file; its end must be there, which `tarfile` does not ask for."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            yield from (member for member in tar if member.isfile())
            stream.seek(tar.offset)
            end = stream.read(tarfile.BLOCKSIZE)
    except tarfile.TarError as error:
        raise BadShardError(file, f"it is no whole, uncompressed tar file: {error}") from error
    if end != bytes(tarfile.BLOCKSIZE):
        raise BadShardError(
            file, f"it is truncated or damaged at byte {tar.offset}, where no file and no end is"
        )
