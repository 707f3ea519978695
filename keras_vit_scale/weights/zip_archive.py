"""Zip archives whose directory is believed only as far as the file bears it out."""

import zipfile
from typing import BinaryIO

from keras_vit_scale.weights.declared import MAX_HEADER, WeightsError, check_count, check_name
from keras_vit_scale.weights.files import size_of

#: Deflate yields at most 1,032 bytes for one, and a block of its own for none.
MAX_DEFLATION = 1032
ENCRYPTED = 0x1


class _Careful:
    """A file that refuses to read a directory too long, which `zipfile` would do at once."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read = file.read

    def read(self, size: int = -1) -> bytes:
        if size > MAX_HEADER:
            raise WeightsError(
                f"The directory of a zip archive may have at most {MAX_HEADER} bytes. "
                f"Received: {size}"
            )
        return self._read(size)


def open_zip(file: BinaryIO) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """An archive and its members, of which names and sizes are checked.

    Raises:
        WeightsError: If two members have one name, one is encrypted or packed other than
            by deflate, or the sizes cannot be those of the bytes that are there.
    """
    archive = zipfile.ZipFile(_Careful(file))
    entries = archive.infolist()
    check_count(len(entries))
    names = set()
    for entry in entries:
        name = check_name(entry.filename)
        if name in names:
            raise WeightsError(f"Two members of a zip archive must not share a name: {name!r}")
        names.add(name)
        _check_entry(name, entry)
    packed = sum(entry.compress_size for entry in entries)
    if packed > size_of(file):
        raise WeightsError(
            f"The members of a zip archive must fit into it, which has {size_of(file)} bytes; it "
            f"may be cut short. Received: {packed} bytes of members"
        )
    return archive, entries


def _check_entry(name, entry):
    if entry.flag_bits & ENCRYPTED or entry.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise WeightsError(
            "Members of a zip archive must be stored or deflated, and not encrypted. "
            f"Received: {name!r} by method {entry.compress_type}"
        )
    stored = entry.compress_type == zipfile.ZIP_STORED
    most = entry.compress_size * (1 if stored else MAX_DEFLATION)
    if entry.file_size > most or (stored and entry.file_size != most):
        raise WeightsError(
            f"{entry.compress_size} bytes of a zip archive yield at most {most}. "
            f"Received: {entry.file_size} declared for {name!r}"
        )
