"""Fetching one file whole: what was cut off, or is another than was asked for, never lands."""

import hashlib
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from keras_vit_scale.atomic import replacing
from keras_vit_scale.weights.declared import MAX_BYTES, WeightsError
from keras_vit_scale.weights.files import CHUNK

#: Seconds without a byte after which a server has gone.
TIMEOUT = 60

#: Bytes from which a bar is worth showing.
LONG = 2**24

#: Seconds after which what a killed process left half-fetched is swept away.
STALE = 24 * 3600


def download(url: str, path: Path, sha256: str | None = None) -> None:
    """Fetches a URL to `path`, in one piece or not at all.

    Raises:
        WeightsError: If it cannot be fetched, ends early, is too long, does not say how
            long it is while `sha256` is not given, or has another digest.
        ImportError: If the file system needs a package that is missing.
    """
    opened = _open_web if urlsplit(url).scheme.lower() in ("http", "https") else _open_bucket
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    try:
        with opened(url) as (stream, size):
            _check_size(url, size, sha256, path.parent)
            with replacing(path) as new, open(new, "wb") as file:
                _copy(url, stream, size, file, sha256)
    except (WeightsError, ImportError):
        raise
    # Sockets, TLS and every file system raise what they like.
    except Exception as error:
        raise WeightsError(f"Cannot fetch {url!r}: {type(error).__name__}: {error}") from error


def compare_digest(what: str, received: str, expected: str) -> None:
    """Refuses bytes that are not those that were asked for."""
    if received != expected:
        raise WeightsError(
            f"The file must have sha256={expected}. Received: {received} of {what!r}; it is "
            "damaged or another file"
        )


def _check_size(url, size, sha256, folder):
    if size is None and sha256 is None:
        raise WeightsError(
            "A server must say how long a file is, or its end could be missing; give its "
            f"`sha256` instead. Received: {url!r} of unknown length"
        )
    if size is not None and size > min(MAX_BYTES, free := shutil.disk_usage(folder).free):
        raise WeightsError(
            f"A file may have at most {MAX_BYTES} bytes, and {free} are free in {str(folder)!r}. "
            f"Received: {size} bytes of {url!r}"
        )


def _copy(url, stream, size, file, sha256):
    """Copies a stream to its end, and holds what came against its length and digest."""
    most, done, digest = MAX_BYTES if size is None else size, 0, hashlib.sha256()
    with _bar(url, size) as advance:
        while chunk := stream.read(CHUNK):
            done += len(chunk)
            if done > most:
                break
            file.write(chunk)
            digest.update(chunk)
            advance(len(chunk))
    if done > most or (size is not None and done < size):
        raise WeightsError(
            f"A file must have the {most} bytes that were announced; fetch it again. "
            f"Received: {'more' if done > most else done} of {url!r}"
        )
    if sha256 is not None:
        compare_digest(url, digest.hexdigest(), sha256)


@contextmanager
def _open_web(url: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The bytes of a page and how many its server announces."""
    _check_web(url)
    opener = urllib.request.build_opener(_Redirects)
    request = urllib.request.Request(url, headers={"User-Agent": "keras-vit-scale"})
    with opener.open(request, timeout=TIMEOUT) as response:
        yield response, response.length


@contextmanager
def _open_bucket(url: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The bytes of an object of a bucket, or of whatever fsspec knows, and how many they are."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ImportError(
            f"{url!r} needs fsspec and its file system: pip install 'keras-vit-scale[hub]'. {error}"
        ) from error
    with system.open(path, "rb") as stream:
        yield stream, system.info(path).get("size")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another only over a way that is as safe."""

    def redirect_request(self, request, file, code, message, headers, url):
        _check_web(url)
        return super().redirect_request(request, file, code, message, headers, url)


def _check_web(url):
    parts = urlsplit(url)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme.lower() != "https" and not (parts.scheme.lower() == "http" and here):
        raise WeightsError(
            "Weights are fetched over https://, and over http:// from this machine alone, since "
            f"anyone on the way could change them. Received: {url!r}"
        )


@contextmanager
def _bar(url, size):
    """Shows in a terminal how a long download goes; yields what counts its bytes."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    hidden = not console.is_terminal or (size is not None and size < LONG)
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=hidden
    ) as progress:
        task = progress.add_task(url.rpartition("/")[2], total=size)
        yield lambda count: progress.advance(task, count)


def _sweep(folder):
    for left in folder.glob(".*"):
        if time.time() - left.stat().st_mtime > STALE:
            left.unlink(missing_ok=True)
