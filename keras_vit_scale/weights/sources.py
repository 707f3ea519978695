"""Where weights come from: the disk, the Hugging Face hub, the web and buckets.

    locate("vit.npz")                                    a file or a folder
    locate("hf://timm/vit_tiny_patch16_224.augreg_in21k")     a repository, or a file of it
    locate("https://storage.googleapis.com/vit_models/augreg/....npz", sha256="...")
    locate("gs://vit_models/augreg/....npz")             whatever fsspec opens

What is fetched lies under `$KERAS_VIT_SCALE_HOME`, by default `~/.cache/keras_vit_scale`, and is
fetched once; what comes from the hub lies in the hub's own cache. Plain `http://` is taken from
this machine alone: on the way from another, bytes could be changed.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.download import compare_digest, download
from keras_vit_scale.weights.files import open_file
from keras_vit_scale.weights.folder import (
    CONFIG,
    KERAS,
    KERAS_INDEX,
    SAFETENSORS,
    SAFETENSORS_INDEX,
)

HOME = "KERAS_VIT_SCALE_HOME"

#: Files of a repository that hold its weights and say what they are. Never a pickle.
HUB_FILES = (
    CONFIG, SAFETENSORS, SAFETENSORS_INDEX, "model-*-of-*.safetensors",
    KERAS, KERAS_INDEX, "model_*.weights.h5", "task.weights.h5", "task.json",
)  # fmt: skip

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_HUB = re.compile(
    r"hf://(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[^@]+))?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def locate(
    source: str | Path,
    *,
    sha256: str | None = None,
    revision: str | None = None,
    file: str | None = None,
) -> Path:
    """The local file or folder of a source of weights, fetched if it is elsewhere.

    Args:
        source: A local file or folder; `hf://owner/name[/file][@revision]`; or a URL of a
            file, of `https://` or of any file system that fsspec knows, such as `gs://`.
        sha256: What the bytes of the file must have, as 64 hexadecimal digits.
        revision: Branch, tag or commit of a repository of the hub.
        file: A file of the folder or repository; by default the hub's standard weights.

    Raises:
        WeightsError: If the source is malformed, missing or cut off, or has another digest.
        ImportError: If the hub or a bucket is asked for without the extra `hub`.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_vit_scale.weights.sources import locate
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "vit.npz").write_bytes(b"...")
    ...     locate(folder, file="vit.npz").name
    'vit.npz'
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256 := str(sha256).lower()):
        raise WeightsError(f"`sha256` must be 64 hexadecimal digits. Received: sha256={sha256!r}")
    scheme = _SCHEME.match(str(source))
    if scheme is None:
        _refuse_revision(revision, source)
        path = _local(Path(source).expanduser(), file)
    elif scheme[1].lower() == "hf":
        path = _from_hub(str(source), revision, file)
    else:
        _refuse_revision(revision, source)
        return _fetched(str(source), sha256, file)
    if sha256 is not None:
        check_digest(path, sha256)
    return path


def cache() -> Path:
    """The folder of what was fetched."""
    home = os.environ.get(HOME)
    return (Path(home) if home else Path.home() / ".cache" / "keras_vit_scale") / "weights"


def check_digest(path: Path, sha256: str) -> None:
    """Reads a file once and compares its SHA-256.

    Raises:
        WeightsError: If it is another, or `path` is a folder.
    """
    if path.is_dir():
        raise WeightsError(
            "`sha256` is of one file; name it by `file=` or in the source. "
            f"Received: the folder {str(path)!r}"
        )
    with open_file(path) as content:
        digest = hashlib.file_digest(content, "sha256")
    compare_digest(str(path), digest.hexdigest(), sha256)


def _refuse_revision(revision, source):
    if revision is not None:
        raise WeightsError(
            "Only sources hf://owner/name have a `revision`. "
            f"Received: revision={revision!r} for {str(source)!r}"
        )


def _local(path: Path, file: str | None) -> Path:
    if file is not None:
        _check_inside(file)
        path = path / file
    if not path.exists():
        raise WeightsError(
            "Weights must be an existing file or folder, hf://owner/name, or a URL. "
            f"Received: {str(path)!r}, which does not exist"
        )
    return path


def _check_inside(file):
    """Refuses a name that leads out of its folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or not path.parts:
        raise WeightsError(
            f"`file` must be a path inside the folder or repository. Received: file={file!r}"
        )


def _from_hub(source: str, revision: str | None, file: str | None) -> Path:
    """A file of a repository, or the folder with its standard weights and config."""
    match = _HUB.fullmatch(source)
    if match is None:
        raise WeightsError(
            f"A source of the hub must be hf://owner/name[/file][@revision]. Received: {source!r}"
        )
    for name, given in {"file": file, "revision": revision}.items():
        if match[name] is not None and given is not None:
            raise WeightsError(
                f"`{name}` must be given once. Received: {name}={given!r} for {source!r}"
            )
    file, revision = match["file"] or file, match["revision"] or revision
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ImportError(
            "Sources hf:// need huggingface_hub: pip install 'keras-vit-scale[hub]'"
        ) from error
    wanted: Sequence[str] = HUB_FILES
    if file is not None:
        _check_inside(file)
        # Its config stands beside it. What is asked for is a name, not a pattern.
        folder = file.rpartition("/")[0]
        wanted = [_literally(name) for name in (file, f"{folder}/{CONFIG}".lstrip("/"))]
    try:
        folder = hub.snapshot_download(
            match["repository"], revision=revision, allow_patterns=list(wanted)
        )
    # The hub, the network and the disk each raise what they like.
    except Exception as error:
        raise WeightsError(f"Cannot fetch {source!r}: {error}") from error
    path = Path(folder) if file is None else Path(folder, file)
    if not path.exists() or (file is None and not any("model" in p.name for p in path.iterdir())):
        raise WeightsError(
            f"A repository must hold {file or f'one of {HUB_FILES[1:]}'}; "
            "name another file as hf://owner/name/file. "
            f"Received: {source!r}, which does not"
        )
    return path


def _literally(name):
    """A pattern of the hub that matches one name."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _fetched(url: str, sha256: str | None, file: str | None) -> Path:
    """The cached copy of a URL, fetched if there is none yet."""
    if file is not None:
        raise WeightsError(f"A URL names its file itself. Received: file={file!r} for {url!r}")
    name = re.split("[?#]", url)[0].rpartition("/")[2]
    if name in ("", ".", "..") or "\\" in name or ":" in name:
        raise WeightsError(f"A URL of weights must end in the name of a file. Received: {url!r}")
    key = hashlib.sha256(url.encode("utf-8")).hexdigest()[:16]
    path = cache() / key / name
    if not path.is_file():
        download(url, path, sha256)
    elif sha256 is not None:
        check_digest(path, sha256)
    return path
