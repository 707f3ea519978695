"""Named arrays of a file or a folder, whatever its format.

    with open_archive("vit.safetensors") as archive:
        archive.infos["head.weight"].shape      # from the header, nothing read yet
        archive.read("head.weight")             # this array alone

Formats are told by content: safetensors, `.npz`, HDF5 as Keras writes it, and, on request, files
of PyTorch. A file that is damaged or lies raises `WeightsError`, whatever is wrong with it.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_vit_scale.weights import hdf5
from keras_vit_scale.weights.declared import MAX_BYTES, ArrayInfo, WeightsError, check_total
from keras_vit_scale.weights.files import open_file, size_of
from keras_vit_scale.weights.folder import Parts, parts_of, read_config
from keras_vit_scale.weights.npz import NpzFile
from keras_vit_scale.weights.safetensors_file import SafetensorsFile
from keras_vit_scale.weights.torch_file import TorchFile, is_torch
from keras_vit_scale.weights.zip_archive import open_zip


class Format(Protocol):
    """What is made of one open file, whatever its format."""

    @property
    def infos(self) -> Mapping[str, ArrayInfo]: ...

    def read(self, name: str) -> np.ndarray: ...

    def close(self) -> None: ...


class Archive:
    """Named arrays, declared at once and each read when it is asked for.

    Attributes:
        path: The file or folder.
        infos: Shape and type of every array, by name; from headers alone, and checked.
        config: The content of the `config.json` beside the weights, or `None`.
    """

    def __init__(self, path: Path, config: dict[str, Any] | None):
        self.path, self.config = path, config
        self.infos: dict[str, ArrayInfo] = {}
        self._sources: dict[str, Format] = {}
        self._files = ExitStack()

    def _add(self, file: Format) -> None:
        """Takes the arrays of one more file, which is then closed with the archive."""
        self._files.callback(file.close)
        for name, info in file.infos.items():
            if name in self.infos:
                raise WeightsError(
                    f"Two files must not hold arrays of one name. Received: {name!r} twice"
                )
            self.infos[name], self._sources[name] = info, file

    def read(self, name: str) -> np.ndarray:
        """One array, of the shape and type that `infos` has for it.

        Raises:
            KeyError: If there is none of this name.
            WeightsError: If its bytes cannot be read, or have another checksum.
        """
        file = self._sources[name]
        with _refusing(self.path):
            return file.read(name)

    def close(self) -> None:
        self._files.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def open_archive(
    path: str | Path, *, allow_torch_pickle: bool = False, max_bytes: int = MAX_BYTES
) -> Archive:
    """Opens a file of named arrays, or a folder with one or its shards.

    The format is told by content: safetensors, NumPy's `.npz`, HDF5 as Keras writes it,
    and PyTorch's `.pt` and `.bin` on request. Of a folder the weights are
    `model.safetensors`, the shards of `model.safetensors.index.json`, the backbone of a
    preset of KerasHub (`model.weights.h5`, or `model.weights.json` and its shards), or
    the only file of a format that is read.

    Names, shapes, types and sizes are checked against limits, and against the bytes that
    are there, before anything is allocated. No pickle is read, unless asked for.

    Args:
        path: A local file or folder; `locate` finds others.
        allow_torch_pickle: Whether files of PyTorch are read, by PyTorch and with
            `weights_only=True`. Only for files whose author is trusted.
        max_bytes: Bytes that all arrays together may have, 64 GiB by default.

    Raises:
        WeightsError: If the file is damaged, lies about itself, holds anything but
            arrays, or is of another format.
        ImportError: If a file of PyTorch is to be read and torch 2.10 is missing.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> from keras_vit_scale.weights.archive import open_archive
    >>> from keras_vit_scale.weights.npz import write_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(f"{folder}/vit.npz", {"head/bias": np.array([1.0, 2.0], "float32")})
    ...     with open_archive(folder) as archive:
    ...         print(archive.infos["head/bias"], archive.read("head/bias"))
    ArrayInfo(shape=(2,), dtype=dtype('float32')) [1. 2.]
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    with ExitStack() as cleanup:
        with _refusing(path):
            parts = parts_of(path, allow_torch_pickle) if folder == path else Parts([path])
            archive = Archive(path, read_config(folder))
            cleanup.callback(archive.close)
        for part in parts.files:
            with _refusing(part):
                archive._add(_open_file(part, allow_torch_pickle, max_bytes))
        with _refusing(path):
            check_total(archive.infos, max_bytes)
            _check_listed(archive.infos, parts.names)
        cleanup.pop_all()
    return archive


def _open_file(path: Path, allow_torch_pickle: bool, max_bytes: int) -> Format:
    """The arrays of one file, by its first bytes; the file stays open if all is well."""
    with ExitStack() as cleanup:
        file = cleanup.enter_context(open_file(path))
        opened = _opened(file, path, allow_torch_pickle, max_bytes)
        cleanup.pop_all()
    return opened


def _opened(file: BufferedReader, path: Path, allow_torch_pickle: bool, max_bytes: int) -> Format:
    start = file.read(64)
    if start.startswith(hdf5.MAGIC):
        return hdf5.Hdf5File(file, path, max_bytes)
    if start.startswith(b"PK"):
        _, entries = open_zip(file)
        names = [entry.filename for entry in entries]
        if not is_torch(names):
            if "model.weights.h5" in names:
                raise WeightsError(
                    "Weights are read from files of arrays. Received: a model of Keras; load it "
                    "with `keras.saving.load_model` if you trust its author"
                )
            return NpzFile(file, max_bytes)
        if allow_torch_pickle:
            return TorchFile(file, path, max_bytes)
        raise WeightsError(
            "Files of PyTorch hold a pickle and are read on request only. Received one: ask for "
            "its safetensors, or pass allow_torch_pickle=True if you trust its author"
        )
    if start[8:9] == b"{":
        return SafetensorsFile(file, max_bytes)
    raise WeightsError(
        "Weights are read from safetensors, .npz and HDF5. "
        f"Received: {size_of(file)} bytes that start with {start[:24]!r}{_hint(start)}"
    )


def _hint(start: bytes) -> str:
    """What a file that is no format of ours is likely to be."""
    for prefix, hint in {
        b"": "the file is empty",
        b"version https://git-lfs": "a pointer of Git LFS; fetch the file with `git lfs pull`",
        b"\x93NUMPY": "a single array, which has no name; write it with `numpy.savez`",
        b"\x80": "a pickle, which is never read; write it as safetensors where it was made",
        b"<": "a page of the web rather than the file",
    }.items():
        if start.startswith(prefix) and (prefix or not start):
            return f": {hint}"
    return ""


def _check_listed(infos: Mapping[str, ArrayInfo], names: frozenset[str] | None) -> None:
    """The arrays of all shards must be those that the index lists."""
    if names is not None and names != infos.keys():
        raise WeightsError(
            "The shards must hold the arrays that their index lists. "
            f"Received: without {sorted(names - infos.keys())[:20]}, "
            f"with {sorted(infos.keys() - names)[:20]} beside them"
        )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file led a library to raise into `WeightsError`."""
    try:
        yield
    except ImportError:
        raise
    except WeightsError as error:
        raise WeightsError(f"Cannot read {str(path)!r}. {error}") from error
    except Exception as error:
        raise WeightsError(
            f"Cannot read {str(path)!r}; it is damaged or no file of weights "
            f"({type(error).__name__}: {error})"
        ) from error
