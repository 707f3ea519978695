"""Where a source lies: a minimal stand-in."""

from pathlib import Path


def locate(source, *, sha256=None, revision=None, file=None):
    """The local path of a source."""
    path = Path(source)
    return path / file if file else path
