"""Files that are replaced at once: a crash, an error or a full disk leaves the old or the new."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Names that `replacing` makes.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.keras)?")


@contextmanager
def replacing(path: Path, suffix: str = "") -> Iterator[Path]:
    """The path of a file to write, which then takes the place of `path`.

    It is on the disk before it takes the place, and gone if the writing fails. Its name begins
    with a dot and, so that what a killed process leaves is taken for nothing, ends in no known
    way but the `suffix` that a writer may insist on.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.atomic import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.txt")
    ...     with replacing(path) as new:
    ...         _ = new.write_text("all of it")
    ...         before = path.exists()
    ...     before, path.read_text()
    (False, 'all of it')
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{suffix}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


def delete_leftovers(folder: Path) -> None:
    """Deletes what killed processes left of files that they were replacing in a folder.

    For who alone writes there: what another process is about to write would go too.
    """
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by `text`, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
