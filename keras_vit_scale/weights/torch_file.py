"""PyTorch's `.pt` and `.bin`: a zip archive of one pickle and the bytes of its tensors.

Read on request only. The pickle must name nothing but what tensors are made of, before PyTorch
sees it; PyTorch then runs it with `weights_only=True` and maps the bytes.
"""

import pickletools
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from keras_vit_scale.types import Tensor
from keras_vit_scale.weights.declared import (
    MAX_HEADER,
    WeightsError,
    check_total,
    declare,
)
from keras_vit_scale.weights.files import size_of
from keras_vit_scale.weights.zip_archive import open_zip

PICKLE = "data.pkl"
FLOOR = (2, 10)

#: What the pickle of a dictionary of tensors calls. `weights_only` allows more, such as
#: `bytearray`, which takes any amount of memory.
KINDS = "Float Double Half BFloat16 Long Int Short Char Byte Bool"
CALLS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in KINDS.split()),
}


class TorchFile:
    """The tensors of an open file that `torch.save` wrote of a dictionary of them."""

    def __init__(self, file: BinaryIO, path: Path, max_bytes: int):
        self.file = file
        torch = _torch()
        _check_pickle(file)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        self.tensors: dict[str, Tensor] = {}
        for name, tensor in _state(content, torch).items():
            tensor = tensor.detach()
            _check_tensor(name, tensor, torch, size_of(file))
            self.tensors[name] = tensor
        self.infos = {
            name: declare(name, tensor.shape, _dtype(name, tensor), max_bytes)
            for name, tensor in self.tensors.items()
        }
        check_total(self.infos, max_bytes)

    def read(self, name: str) -> np.ndarray:
        """A copy: the file may change or be cut short under a map of it."""
        tensor, info = self.tensors[name], self.infos[name]
        if info.dtype == ml_dtypes.bfloat16:
            # NumPy has no name for it: the bytes go as those of integers.
            return np.array(tensor.view(_torch().int16).numpy()).view(ml_dtypes.bfloat16)
        return np.array(tensor.numpy())

    def close(self) -> None:
        self.tensors = {}
        self.file.close()


def is_torch(names: Iterable[str]) -> bool:
    """Whether the members of a zip archive are those of a file of PyTorch."""
    return any(name.rpartition("/")[2] == PICKLE for name in names)


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "Files of PyTorch need it: pip install 'keras-vit-scale[torch]', or write the weights "
            "as safetensors where it is installed"
        ) from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < FLOOR:
        raise ImportError(
            f"Files of PyTorch are read by torch {FLOOR[0]}.{FLOOR[1]} or later, since earlier "
            f"ones have open loading advisories. Received: torch {torch.__version__}"
        )
    return torch


def _check_pickle(file):
    """Refuses an archive whose pickle does more than build a dictionary of tensors."""
    archive, entries = open_zip(file)
    pickles = [entry for entry in entries if is_torch([entry.filename])]
    if len(pickles) != 1 or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
        raise WeightsError(
            f"A file of PyTorch must hold one {PICKLE} and nothing compressed. "
            f"Received: {len(pickles)}, or compressed members"
        )
    if pickles[0].file_size > MAX_HEADER:
        raise WeightsError(
            f"The pickle of a file of PyTorch may have at most {MAX_HEADER} bytes. "
            f"Received: {pickles[0].file_size}"
        )
    with archive.open(pickles[0]) as stream:
        content = stream.read()
    for operation, argument, _ in pickletools.genops(content):
        foreign = operation.name == "GLOBAL" and argument not in CALLS
        if foreign or operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise WeightsError(
                "A file of PyTorch must hold a dictionary of tensors and nothing else that must "
                f"be called: {sorted(CALLS)}. Received: {argument or operation.name!r}; save "
                "`model.state_dict()` alone"
            )


def _state(content: Any, torch: Any) -> Mapping[str, Tensor]:
    """The dictionary of tensors, which training scripts put beside other things."""
    if not isinstance(content, Mapping):
        raise WeightsError(
            "A file of PyTorch must hold a dictionary of tensors. "
            f"Received: {type(content).__name__}"
        )

    def tensors_of(mapping):
        return {k: v for k, v in mapping.items() if isinstance(v, torch.Tensor)}

    found = {"": tensors_of(content)}
    if not found[""]:
        found = {k: tensors_of(v) for k, v in content.items() if isinstance(v, Mapping)}
        found = {k: tensors for k, tensors in found.items() if tensors}
    if len(found) != 1:
        raise WeightsError(
            "A file of PyTorch must hold one dictionary of tensors; save the one you want alone. "
            f"Received: {sorted(map(str, found))} of {sorted(map(str, content))[:20]}"
        )
    (tensors,) = found.values()
    return tensors


def _check_tensor(name, tensor, torch, length):
    """A dense tensor that has as many bytes as it declares."""
    plain = type(tensor) is torch.Tensor or isinstance(tensor, torch.nn.Parameter)
    if not plain or tensor.layout is not torch.strided or tensor.is_quantized:
        raise WeightsError(
            "A tensor of weights must be dense. "
            f"Received: {type(tensor).__name__}, {tensor.layout}, of {tensor.dtype} for {name!r}"
        )
    size = tensor.numel() * tensor.element_size()
    if size > tensor.untyped_storage().nbytes() or size > length:
        raise WeightsError(
            f"The file must hold the {size} bytes of {name!r}. "
            f"Received: {tensor.untyped_storage().nbytes()}"
        )


def _dtype(name: str, tensor: Tensor) -> np.dtype:
    """NumPy's name of a type of PyTorch."""
    text = str(tensor.dtype).removeprefix("torch.")
    try:
        return np.dtype(ml_dtypes.bfloat16 if text == "bfloat16" else text)
    except TypeError as error:
        raise WeightsError(
            f"A tensor of weights must hold floats, integers or booleans. "
            f"Received: {name!r} of {tensor.dtype}"
        ) from error
