"""Which files of a folder are its weights, by the names that other projects give them."""

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from keras_vit_scale.weights.declared import WeightsError, check_name, parse_json
from keras_vit_scale.weights.files import read_small

CONFIG = "config.json"

#: One of these is the weights of a folder, whatever else lies there.
SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
KERAS, KERAS_INDEX = "model.weights.h5", "model.weights.json"
TORCH, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
STANDARD = (SAFETENSORS, SAFETENSORS_INDEX, KERAS, KERAS_INDEX)
STANDARD_TORCH = (TORCH, TORCH_INDEX)

#: Else the only file that ends in one of these.
SUFFIXES = (".npz", ".safetensors", ".h5")
TORCH_SUFFIXES = (".pt", ".pth", ".bin")

MAX_SHARDS = 1000


class Parts(NamedTuple):
    """The files that together hold the weights of a folder.

    Attributes:
        files: Their paths.
        names: The arrays that must be there, where the folder has a list of them.
    """

    files: list[Path]
    names: frozenset[str] | None = None


def parts_of(folder: Path, allow_torch: bool) -> Parts:
    """The files with a folder's weights.

    Raises:
        WeightsError: If there is none, or more than one could be meant, or an index
            names what is not there.
    """
    present = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    found = [name for name in present if name in STANDARD]
    found = found or [name for name in present if name.endswith(SUFFIXES)]
    if not found and allow_torch:
        found = [name for name in present if name in STANDARD_TORCH]
        found = found or [name for name in present if name.endswith(TORCH_SUFFIXES)]
    if len(found) != 1:
        unread = [name for name in present if name.endswith(TORCH_SUFFIXES)]
        hint = "; files of PyTorch need allow_torch_pickle=True" if unread and not found else ""
        raise WeightsError(
            f"A folder of weights must hold one of {', '.join(STANDARD)}, or one file ending in "
            f"{', '.join(SUFFIXES)}; name the file that you want{hint}. "
            f"Received: {found or present[:20]}"
        )
    (name,) = found
    if name in (SAFETENSORS_INDEX, TORCH_INDEX, KERAS_INDEX):
        return _indexed(folder, name)
    return Parts([folder / name])


def _indexed(folder: Path, name: str) -> Parts:
    """The shards that an index names, which must lie beside it."""
    index = parse_json(read_small(folder / name), f"The index {name!r}")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(
            f"The index {name!r} must have a `weight_map` of names and files. "
            f"Received: {sorted(map(str, index))[:20]}"
        )
    shards = set()
    for key, value in weight_map.items():
        # Keras lists the shards of a layer whose weights lie in several.
        for shard in value if isinstance(value, list) else [value]:
            if not _is_plain(shard):
                raise WeightsError(
                    f"The index {name!r} must name files beside it. "
                    f"Received: {str(shard)[:120]!r} for {key[:120]!r}"
                )
            shards.add(shard)
    if len(shards) > MAX_SHARDS:
        raise WeightsError(f"There may be at most {MAX_SHARDS} shards. Received: {len(shards)}")
    missing = [shard for shard in sorted(shards) if not (folder / shard).is_file()]
    if missing:
        raise WeightsError(
            f"Every shard of the index {name!r} must lie beside it. "
            f"Received: a folder without {missing[:20]}"
        )
    # Keras' index has groups for names, so there is nothing to compare.
    names = None if name == KERAS_INDEX else frozenset(check_name(key) for key in weight_map)
    return Parts([folder / shard for shard in sorted(shards)], names)


def _is_plain(name: Any) -> bool:
    """Whether a name is that of a file in the same folder and nothing else."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and "\\" not in name
        and ":" not in name
        and name not in ("", ".", "..")
        and len(name) < 256
        and PurePosixPath(name).name == name
    )


def read_config(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a folder, which timm, transformers and KerasHub write, if there is one.

    Raises:
        WeightsError: If it is no object of JSON, or too long.
    """
    path = folder / CONFIG
    return parse_json(read_small(path), f"{str(path)!r}") if path.is_file() else None
