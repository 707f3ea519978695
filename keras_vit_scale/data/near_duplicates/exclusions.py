"""Lists of images to leave out, each of the one data set that it was made for."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_vit_scale.atomic import replacing
from keras_vit_scale.data.decode import BadImageError
from keras_vit_scale.data.identity import digest_of_labels
from keras_vit_scale.data.near_duplicates.hashing import perceptual_hash
from keras_vit_scale.data.sources import Source, Subset
from keras_vit_scale.formats import with_format, without_format

#: Where a Parquet file says what its list is.
KEY = b"keras_vit_scale"

#: Excluded images whose hashes are compared with the list when it is used, and the bits in which
#: another decoder's may differ.
LOOKED_AT, TOLERANCE = 8, 32


@dataclass(frozen=True)
class Exclusions:
    """A list of images to leave out, as `deduplicate` writes it.

    Attributes:
        path: The Parquet file. Its columns are `image`; `source` and `other`, what it resembles:
            image `other` of evaluation source `source`, or of the data set itself where that is
            -1; `distance` in bits of 256; `mirrored`; `similarity`, empty without a check; and
            `hash`, 32 bytes.
        indices: The images to leave out, sorted, int64.
        about: What the list is of: `fingerprint` and `images` of the data set, `threshold`,
            `similarity`, `within`, `against` with the fingerprints of the evaluation sources,
            and how many images were `plain` or `unread` and so not compared.
    """

    path: Path
    indices: np.ndarray
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"<Exclusions: {len(self):,} of {self.about['images']:,} images>"

    def pairs(self) -> pd.DataFrame:
        """The whole list, a row an image."""
        return _parquet().read_table(self.path).to_pandas()

    def hashes(self, rows: np.ndarray) -> np.ndarray:
        """The hashes of some rows, uint8 (N, 32)."""
        column = _parquet().read_table(self.path, columns=["hash"]).column("hash")
        return np.frombuffer(b"".join(column.take(rows).to_pylist()), np.uint8).reshape(-1, 32)


def read_exclusions(path: str | Path) -> Exclusions:
    """The list in a Parquet file that `deduplicate` wrote.

    Raises:
        ValueError: If the file is none.
        ImportError: If pyarrow is not installed.
    """
    path, parquet = Path(path), _parquet()
    try:
        schema = parquet.read_schema(path)
        indices = parquet.read_table(path, columns=["image"]).column("image").to_numpy()
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"Cannot read the exclusion list {str(path)!r}: {error}") from error
    if KEY not in (schema.metadata or {}):
        raise ValueError(
            "An exclusion list must be a Parquet file that `deduplicate` wrote. "
            f"Received: {str(path)!r}, with the columns {schema.names}"
        )
    about = without_format("exclusions", json.loads(schema.metadata[KEY]), path)
    return Exclusions(path, indices, about)


def write_exclusions(path: Path, parts: Iterable[np.ndarray], about: dict[str, Any]) -> Exclusions:
    """Writes a list from its pairs (`candidates.PAIR`), a part at a time, sorted by image."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("image", pa.int64()),
            ("source", pa.int32()),
            ("other", pa.int64()),
            ("distance", pa.int16()),
            ("mirrored", pa.bool_()),
            ("similarity", pa.float32()),
            ("hash", pa.binary(32)),
        ],
        metadata={KEY: json.dumps(with_format("exclusions", about), sort_keys=True).encode()},
    )
    with (
        replacing(path) as temporary,
        _parquet().ParquetWriter(temporary, schema) as writer,
    ):
        for pairs in parts:
            columns = [pa.array(pairs[name]) for name in schema.names[:5]]
            columns.append(pa.array(pairs["similarity"], from_pandas=True))
            columns.append(pa.array([bytes(h) for h in pairs["hash"]], pa.binary(32)))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return read_exclusions(path)


class Excluding(Subset):
    """A source without the images of an exclusion list.

    The list must have been made for this source: the labels and class names must be the same,
    and some of the images that are to go must look as the list says.

    Args:
        source: The images that `deduplicate` was given. What is held out or replaced comes
            after: `ReplaceBad(Excluding(source, "excluded.parquet"))`.
        exclusions: The list, or its file.

    Raises:
        ValueError: If the list is of another data set, or nothing would be left.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_vit_scale.data import ArraySource, Excluding, Subset, deduplicate, digits
    >>> train, test = Subset(digits(), range(0, 60)), Subset(digits(), range(50, 80))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = deduplicate(train, [test], folder=folder)
    ...     len(found), len(Excluding(train, found))
    (10, 50)
    """

    def __init__(self, source: Source, exclusions: Exclusions | str | Path):
        if not isinstance(exclusions, Exclusions):
            exclusions = read_exclusions(exclusions)
        self.exclusions = exclusions
        _check_for(source, exclusions)
        kept = np.ones(len(source), bool)
        kept[exclusions.indices] = False
        if not kept.any():
            raise ValueError(
                f"A data set must hold at least one image. Received: {exclusions!r} of {source!r}"
            )
        super().__init__(source, np.flatnonzero(kept))


def _check_for(source, exclusions):
    """Refuses a list that is not of this source."""
    about, fingerprint = exclusions.about, digest_of_labels(source)
    if (about["images"], about["fingerprint"]) != (len(source), fingerprint):
        raise ValueError(
            "An exclusion list must be of the data set that it is used for: run `deduplicate` for "
            f"this one. Received: {str(exclusions.path)!r}, of {about['images']:,} images with "
            f"fingerprint {about['fingerprint']}, for {len(source):,} with {fingerprint}"
        )
    if not len(exclusions):
        return
    # Fingerprints are of labels alone, and many data sets have the same: one class, say.
    rows = np.unique(np.linspace(0, len(exclusions) - 1, LOOKED_AT).astype(np.int64))
    for index, expected in zip(exclusions.indices[rows], exclusions.hashes(rows), strict=True):
        try:
            found = perceptual_hash(source[int(index)][0])
        except BadImageError:
            continue
        bits = int(np.bitwise_count(found ^ expected).sum())
        if bits > TOLERANCE:
            raise ValueError(
                "An exclusion list must be of the data set that it is used for: run `deduplicate` "
                f"for this one. Received: {str(exclusions.path)!r}, whose image {index} looks "
                f"otherwise here, in {bits} of 256 bits, though the labels are the same"
            )


def _parquet():
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Exclusion lists are Parquet files: pip install 'keras-vit-scale[dedup]'"
        ) from error
    return parquet
