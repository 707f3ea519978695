"""Tables of images: Parquet files, and the Arrow files of Hugging Face's data sets."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.data.decode import MAX_PIXELS, BadImageError
from keras_vit_scale.data.encoded import EncodedSource
from keras_vit_scale.data.labels import check_labels
from keras_vit_scale.data.located import numbered
from keras_vit_scale.data.shards import BadShardError, find_shards, open_shard, read_shards

#: Row groups of Parquet that are kept in memory.
KEPT_GROUPS = 8


class HuggingFaceDataset(EncodedSource):
    """A data set that Hugging Face's `datasets` saved: `dataset.save_to_disk(folder)`.

    Its Arrow files are mapped into memory, where any image is found at once and only what is read
    is loaded. Needs pyarrow (extra `parquet`), not `datasets`.

    Args:
        folder: What was saved: a data set, or a `DatasetDict`.
        split: Which split of a `DatasetDict`.
        image, label: Names of the columns: `Image`, and `ClassLabel`, integers, or lists of them.
        class_names: The classes; by default those of the `ClassLabel`.
        orientation, max_pixels, fast: As for `read_image`.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If the folder holds no data set, there is no such split or column, images lie
            elsewhere, or a label is no class.
        BadShardError: A `ValueError`, naming a damaged file.
        BadImageError: From an item, if its image cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        *,
        image: str = "image",
        label: str = "label",
        class_names: Sequence[str] | None = None,
        orientation: str = "ignore",
        max_pixels: int = MAX_PIXELS,
        fast: bool = False,
    ):
        super().__init__(orientation, max_pixels, fast)
        self.folder, self.image = _split_folder(Path(folder), split), image
        state, info = (_json(self.folder / n) for n in ("state.json", "dataset_info.json"))
        if state.get("_indices_data_files") or state.get("_indices_files"):
            raise ValueError(
                "A data set that was selected from another must be written out: "
                f"`dataset.flatten_indices().save_to_disk(...)`. Received: {str(self.folder)!r}"
            )
        self.shards = [str(self.folder / file["filename"]) for file in state["_data_files"]]
        self._open()
        if class_names is None:
            class_names = _names(info.get("features") or {}, label)
        values = self._column(label).to_pylist()
        self.labels, self.class_names = check_labels(
            numbered(values, class_names, self.name), class_names, len(values)
        )

    def encoded(self, index: int) -> bytes:
        """The bytes of an image's file."""
        return _bytes(self._images[index].as_py(), self.name(index))

    def name(self, index: int) -> str:
        """The folder of the data set and the row of an image."""
        return f"{self.folder}:row {index}"

    def __getstate__(self) -> dict[str, Any]:
        # What is mapped is mapped again in another process, not copied to it.
        return {k: v for k, v in self.__dict__.items() if k not in ("_table", "_images")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self):
        arrow = _pyarrow()
        tables = []
        for file in self.shards:
            try:
                tables.append(arrow.ipc.open_stream(arrow.memory_map(file)).read_all())
            except (arrow.ArrowInvalid, OSError) as error:
                raise BadShardError(file, f"it is no whole Arrow file: {error}") from error
        self._table = arrow.concat_tables(tables)
        self._images = self._column(self.image)

    def _column(self, name):
        return _chosen(self._table, name, str(self.folder))


class ParquetShards(EncodedSource):
    """Images and labels in Parquet files, such as those of Hugging Face's hub.

    Labels are read when it is opened, and nothing else. Parquet gives no single row: each image
    is read with its row group, of which the last few are kept. So shuffled training reads a group
    for every image, and wants files with small ones: `pyarrow.parquet.write_table(table, file,
    row_group_size=16)`. Reading in order, as evaluation does, reads each once. Needs pyarrow
    (extra `parquet`).

    Args:
        shards: A path, a pattern such as "train-*.parquet", a URL of either, or a list of them.
        image, label: Names of the columns: bytes of image files or structures with `bytes`, as
            Hugging Face's `Image`; and whole numbers, names of classes, or lists of these.
        class_names: The classes; by default those that Hugging Face's `ClassLabel` names, or
            else as many numbers as the largest label asks for.
        bad_shards: "error", or "skip" damaged files, with a warning that counts them.
        orientation, max_pixels, fast: As for `read_image`.

    Raises:
        ImportError: If pyarrow is not installed.
        BadShardError: A `ValueError`, naming a file that is damaged or no Parquet.
        ValueError: If a file is missing or named twice, there is no such column, images lie
            elsewhere, or a label is no class.
        BadImageError: From an item, if its image cannot be read.
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
        self.image = image
        files = find_shards(shards, "'train-*.parquet'")
        self.shards, read = read_shards(
            files, lambda file: _rows_of_parquet(file, image, label), bad_shards
        )
        self._groups = [(s, g) for s, (rows, *_) in enumerate(read) for g in range(len(rows))]
        self._begin = np.cumsum([0, *(number for rows, *_ in read for number in rows)])
        self._forget()
        values = [value for _, labels, _ in read for value in labels]
        if class_names is None:
            class_names = read[0][2]
        self.labels, self.class_names = check_labels(
            numbered(values, class_names, self.name), class_names, len(values)
        )

    def encoded(self, index: int) -> bytes:
        """The bytes of an image's file."""
        group = int(np.searchsorted(self._begin, index, side="right")) - 1
        with self._lock:
            images = self._kept.pop(group, None)
            if images is None:
                images = self._read(*self._groups[group])
            self._kept[group] = images
            if len(self._kept) > KEPT_GROUPS:
                self._kept.popitem(last=False)
        return _bytes(images[int(index - self._begin[group])].as_py(), self.name(index))

    def name(self, index: int) -> str:
        """The file and the row group of an image, and its row in it."""
        group = int(np.searchsorted(self._begin, index, side="right")) - 1
        shard, number = self._groups[group]
        return f"{self.shards[shard]}:row {index - self._begin[group]} of group {number}"

    def __getstate__(self) -> dict[str, Any]:
        # Files that are open, locks and what was read stay in their process.
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_kept", "_files")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self):
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._files: dict[int, Any] = {}

    def _read(self, shard, group):
        if shard not in self._files:
            if len(self._files) >= KEPT_GROUPS:
                self._files.pop(next(iter(self._files))).close()
            self._files[shard] = _open_parquet(self.shards[shard])
        try:
            read = self._files[shard].read_row_group(group, columns=[self.image])
        except (_pyarrow().ArrowInvalid, OSError) as error:
            raise BadShardError(self.shards[shard], str(error)) from error
        return read.column(self.image)


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise ImportError(
            "Parquet files and Hugging Face's data sets need pyarrow: "
            "pip install 'keras-vit-scale[parquet]'"
        ) from error
    return pyarrow


def _open_parquet(file):
    arrow = _pyarrow()
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(open_shard(file))
    except (arrow.ArrowInvalid, OSError) as error:
        raise BadShardError(file, f"it is no whole Parquet file: {error}") from error


def _rows_of_parquet(file, image, label):
    """The rows of each row group, the labels, and the names of the classes or `None`."""
    arrow = _pyarrow()
    with _open_parquet(file) as parquet:
        schema = parquet.schema_arrow
        for name in (image, label):
            _chosen(schema, name, file)
        try:
            labels = parquet.read(columns=[label]).column(label).to_pylist()
        except (arrow.ArrowInvalid, OSError) as error:
            raise BadShardError(file, str(error)) from error
        groups = range(parquet.num_row_groups)
        rows = [parquet.metadata.row_group(group).num_rows for group in groups]
    told = json.loads((schema.metadata or {}).get(b"huggingface", "{}")).get("info") or {}
    return rows, labels, _names(told.get("features") or {}, label)


def _split_folder(folder, split):
    """The folder of a split of what was saved."""
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = _json(splits)["splits"]
        if split not in names:
            raise ValueError(
                f"The split must be one of {sorted(names)}. Received: {split!r} of {str(folder)!r}"
            )
        return folder / split
    if not (folder / "state.json").is_file():
        raise ValueError(
            "A Hugging Face data set must be a folder that `dataset.save_to_disk` wrote, with "
            f"state.json or dataset_dict.json. Received: {str(folder)!r}"
        )
    saved = _json(folder / "state.json").get("_split")
    if split is not None and split != saved:
        raise ValueError(
            f"The split must be one of {[saved]}, the only one that was saved. "
            f"Received: {split!r} of {str(folder)!r}"
        )
    return folder


def _json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadShardError(str(path), f"it is no JSON: {error}") from error


def _names(features, label):
    """The classes that Hugging Face's description of the columns names."""
    feature = features.get(label) or {}
    if isinstance(feature, list):  # how older versions describe a list
        feature = feature[0]
    return (feature.get("feature") or feature).get("names")


def _chosen(table, name, where):
    """A column of a table, or a field of its schema."""
    names = getattr(table, "column_names", None) or table.names
    if name not in names:
        raise ValueError(
            f"The columns must be named, `image=...` and `label=...`. Received: {name!r} of "
            f"{where!r}, which has {list(names)}"
        )
    return table.column(name) if hasattr(table, "column_names") else table.field(name)


def _bytes(value, name):
    """The bytes of an image as a table holds them."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        raise BadImageError(name, f"its file lies elsewhere, {value!r}, not in the table")
    if not isinstance(value, bytes) or not value:
        raise BadImageError(name, "the table holds no bytes of it")
    return value
