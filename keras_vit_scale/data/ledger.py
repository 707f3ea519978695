"""A file of bad images, to which threads and processes add each of them once."""

import csv
import fcntl
import io
import os
import threading
from itertools import islice
from pathlib import Path

from keras_vit_scale.atomic import flush

COLUMNS = ("file", "reason")


class Ledger:
    """Bad images by their names, with the reason that was found first.

    A line is added under a lock, and is whole on the disk when `note` returns without an error; of
    a piece that a full disk or a crash left, the next writer disposes.

    Args:
        path: A CSV file, made with the first image; what it holds stays and counts. `None`
            keeps the list in memory.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.data.ledger import Ledger
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = Ledger(f"{folder}/bad_images.csv")
    ...     counts = [ledger.note(name, "truncated") for name in ("a.jpg", "b.jpg", "a.jpg")]
    ...     counts, ledger.path.read_text().splitlines()
    ([1, 2, 2], ['file,reason', 'a.jpg,truncated', 'b.jpg,truncated'])
    """

    def __init__(self, path: str | Path | None = None):
        self.path = None if path is None else Path(path)
        self._reasons: dict[str, str] = {}
        self._read = 0
        # Of this process's threads; among processes the file's own serves.
        self._lock = threading.Lock()

    def __reduce__(self):
        # Locks stay in their process.
        return type(self), (self.path,)

    def note(self, name: str, reason: str) -> int:
        """Adds an image unless it is there, and tells how many are."""
        name, reason = _plain(name), _plain(reason)
        with self._lock:
            if name not in self._reasons:
                if self.path is None:
                    self._reasons[name] = reason
                else:
                    self._add(self.path, name, reason)
            return len(self._reasons)

    def first(self, count: int) -> list[tuple[str, str]]:
        """The first images and what is wrong with them."""
        with self._lock:
            return list(islice(self._reasons.items(), count))

    def _add(self, path: Path, name: str, reason: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Closing it unlocks. Not buffered, so that errors are told here.
        with open(path, "a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            new = self._catch_up(file) == 0
            if name in self._reasons:
                return
            left = _csv_line(*COLUMNS) * new + _csv_line(name, reason)
            while left:
                # A disk that is getting full takes a part, and tells it of the next.
                left = left[file.write(left) :]
            os.fsync(file.fileno())
            self._catch_up(file)
        if new:
            flush(path.parent)

    def _catch_up(self, file):
        """Reads the lines that were added since, and returns how long the file is."""
        if os.fstat(file.fileno()).st_size < self._read:
            self._read = 0
        file.seek(self._read)
        added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        if len(whole) < len(added):
            file.truncate(self._read + len(whole))
        for row in csv.reader(io.StringIO(whole.decode("utf-8"), newline="")):
            if len(row) != len(COLUMNS):
                raise ValueError(
                    f"A ledger of bad images must have the columns {', '.join(COLUMNS)}. "
                    f"Received: {row!r:.80} in {str(self.path)!r}"
                )
            if tuple(row) != COLUMNS:
                self._reasons.setdefault(*row)
        self._read += len(whole)
        return self._read


def _plain(text):
    """Text without line breaks or what is not UTF-8, which names of files may hold."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _csv_line(*values):
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode("utf-8")
