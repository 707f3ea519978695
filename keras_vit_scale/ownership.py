"""One process at a time in a folder, known to the others, and free again when it dies."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keras_vit_scale.processes import from_first, is_first

#: The file whose lock is the ownership; what it says is for people.
OWNER = ".owner"


class OwnedError(Exception):
    """A folder in which another process works."""


@contextmanager
def owning(folder: str | Path, wait: bool = False) -> Iterator[None]:
    """Owns a folder, made if need be, for as long as the context lasts.

    The kernel lets go of it when the process ends, however it ends; on the file systems of
    several machines that know flock (NFS, Lustre, CephFS) it holds among them too. Of processes
    that train together the first one owns it for all.

    Args:
        folder: The folder.
        wait: Whether to wait until no other process owns it.

    Raises:
        OwnedError: If another process owns it, saying which, and `wait` is false.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.ownership import owning
    >>> with tempfile.TemporaryDirectory() as folder, owning(folder):
    ...     pass
    """
    if not is_first():
        yield
        return
    with locking(folder, wait):
        yield


@contextmanager
def locking(folder: str | Path, wait: bool = False) -> Iterator[None]:
    """What `owning` does for a process that trains with no others: no device is looked for.

    Raises:
        OwnedError: As `owning`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Appending: opening must not wipe out who the owner is.
    with open(folder / OWNER, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise OwnedError(
                f"Another process works in {folder}: {file.read().strip() or 'unknown'}. Wait for "
                "it, stop it, or take another folder."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        # Closing the file lets go.
        yield


@contextmanager
def claiming(folder: str | Path) -> Iterator[bool]:
    """Owns a folder for as long as the context lasts, unless another process does; whether so.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.ownership import claiming
    >>> with tempfile.TemporaryDirectory() as folder, claiming(folder) as mine:
    ...     with claiming(folder) as again:
    ...         mine, again
    (True, False)
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(owning(folder))
            mine = True
        except OwnedError:
            mine = False
        yield from_first(mine)
