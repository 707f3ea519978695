"""Files that are replaced at once: a crash, an error or a full disk leaves the old or the new."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a file to write, which then takes the place of `path`.

    Its name begins with a dot and ends as that of `path`. It is on the disk before it takes the
    place, and gone if the writing fails.

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
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


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
