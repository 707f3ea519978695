"""Where checkpoints lie: a folder of a disk, or of a bucket that fsspec opens.

Both know the same few things: to write a file whole or not at all, to read it, to list names
and to delete. A file of a bucket appears when it is closed; one of a disk is written under
another name, flushed to the disk, and renamed.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path

from keras_vit_scale.atomic import replacing

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_TEMPORARY = "."


class LocalFolder:
    """A folder of a disk."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def folder(self, name: str) -> "LocalFolder":
        """A folder in this one."""
        return LocalFolder(self.path / name)

    def make(self) -> None:
        """Makes the folder, if it is not there."""
        self.path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """What is in the folder, sorted; nothing if it is not there."""
        try:
            found = os.listdir(self.path)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith(_TEMPORARY))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self.path / name).stat().st_size

    @contextmanager
    def writing(self, name: str) -> Iterator[BufferedIOBase]:
        """A file to write, which is there under its name once all of it is on the disk."""
        with replacing(self.path / name) as temporary, open(temporary, "wb") as file:
            yield file

    @contextmanager
    def reading(self, name: str) -> Iterator[BufferedIOBase]:
        """A file to read."""
        with open(self.path / name, "rb") as file:
            yield file

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Deletes a folder in this one with all that is in it."""
        # What a reader or another process takes away meanwhile is gone as well.
        shutil.rmtree(self.path / name, ignore_errors=True)


class RemoteFolder:
    """A folder of a bucket, by fsspec.

    Raises:
        ImportError: If fsspec, or the package for this kind of bucket, is not installed.
    """

    def __init__(self, url: str):
        try:
            import fsspec
        except ImportError as error:
            raise ImportError(
                f"Checkpoints at {url!r} need fsspec: pip install 'keras-vit-scale[hub]'"
            ) from error
        self.url = url.rstrip("/")
        self.files, self.path = fsspec.core.url_to_fs(self.url)
        # Other processes write too.
        self.files.use_listings_cache = False

    def __str__(self) -> str:
        return self.url

    def folder(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}")

    def make(self) -> None:
        self.files.makedirs(self.path, exist_ok=True)

    def names(self) -> list[str]:
        self.files.invalidate_cache(self.path)
        try:
            found = self.files.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        names = {name.rstrip("/").rpartition("/")[2] for name in found}
        return sorted(name for name in names if name and not name.startswith(_TEMPORARY))

    def has(self, name: str) -> bool:
        return bool(self.files.isfile(f"{self.path}/{name}"))

    def size(self, name: str) -> int:
        return int(self.files.size(f"{self.path}/{name}"))

    @contextmanager
    def writing(self, name: str) -> Iterator[BufferedIOBase]:
        file = self.files.open(f"{self.path}/{name}", "wb")
        try:
            yield file
        except BaseException:
            # Closing would make a file of what was written so far.
            with suppress(Exception):
                file.discard()
            raise
        file.close()

    @contextmanager
    def reading(self, name: str) -> Iterator[BufferedIOBase]:
        with self.files.open(f"{self.path}/{name}", "rb") as file:
            yield file

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.files.rm_file(f"{self.path}/{name}")

    def delete_folder(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.files.rm(f"{self.path}/{name}", recursive=True)


Folder = LocalFolder | RemoteFolder


def open_folder(place: "str | Path | Folder") -> Folder:
    """The folder of a path, or of a URL such as gs://bucket/run.

    Raises:
        ImportError: If a URL needs a package that is not installed.

    Example:

    >>> from keras_vit_scale.training.checkpoints.storage import open_folder
    >>> type(open_folder("run/checkpoints")).__name__, type(open_folder("memory://run")).__name__
    ('LocalFolder', 'RemoteFolder')
    """
    if isinstance(place, LocalFolder | RemoteFolder):
        return place
    if isinstance(place, str) and _SCHEME.match(place):
        return RemoteFolder(place)
    return LocalFolder(place)


def read_bytes(folder: Folder, name: str) -> bytes:
    """A whole file."""
    with folder.reading(name) as file:
        return file.read()


def write_bytes(folder: Folder, name: str, data: bytes) -> None:
    """Writes a whole file."""
    with folder.writing(name) as file:
        file.write(data)
