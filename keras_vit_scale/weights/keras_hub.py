"""Presets of KerasHub's ViT: a backbone in one HDF5 file, a classifier's head in another."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.weights.archive import Archive, open_archive
from keras_vit_scale.weights.declared import WeightsError, parse_json
from keras_vit_scale.weights.files import read_small
from keras_vit_scale.weights.layout import TABLE, Layout, Row

_EMBEDDING = "layers/vi_t_patching_and_embedding"
_ENCODER = "layers/vi_t_encoder"
_BLOCK = f"{_ENCODER}/encoder_layers/vi_t_encoder_block_{{i}}"
#: Before the names of a task's own file, so that they meet none of the backbone's.
_TASK = "task/"


def _settings(config):
    """What the backbone's config.json says, and the task's, which `open_preset` adds."""
    task = config.get("task") or {}
    config = config.get("config") or {}
    found = {"pooling": task.get("pooling", "token")}
    if not config.get("use_class_token", True):
        found["pooling"] = "gap"
    for ours, theirs in {"heads": "num_heads", "epsilon": "layer_norm_epsilon"}.items():
        if theirs in config:
            found[ours] = config[theirs]
    if "image_shape" in config:
        found["image_size"] = tuple(config["image_shape"][:2])
    return found


def _pair(ours, theirs, names=("kernel", "bias")):
    """Two variables of a Keras layer, which a file numbers."""
    kinds = enumerate(names)
    return tuple(Row(f"{ours}{name}", f"{theirs}/vars/{i}") for i, name in kinds)


KERAS_HUB = Layout(
    name="keras_hub",
    rows=(
        *_pair("patch_embedding/", f"{_EMBEDDING}/patch_embedding"),
        Row("position_embedding/embedding", f"{_EMBEDDING}/position_embedding/vars/0", TABLE),
        Row("class_token/token", f"{_EMBEDDING}/vars/0"),
        *_pair("encoder/attention_norm_", f"{_BLOCK}/layer_norm_1", ("scale", "bias")),
        *_pair("encoder/query_", f"{_BLOCK}/mha/query_dense"),
        *_pair("encoder/key_", f"{_BLOCK}/mha/key_dense"),
        *_pair("encoder/value_", f"{_BLOCK}/mha/value_dense"),
        *_pair("encoder/out_", f"{_BLOCK}/mha/output_dense"),
        *_pair("encoder/mlp_norm_", f"{_BLOCK}/layer_norm_2", ("scale", "bias")),
        *_pair("encoder/mlp_in_", f"{_BLOCK}/mlp/dense_1"),
        *_pair("encoder/mlp_out_", f"{_BLOCK}/mlp/dense_2"),
        *_pair("norm/", f"{_ENCODER}/layer_norm", ("gamma", "beta")),
        *_pair("head/", f"{_TASK}layers/dense"),
    ),
    gelu="exact",
    epsilon=1e-6,
    settings=_settings,
    # Keras leaves the number of the first layer of a kind away.
    renames=((r"/vi_t_encoder_block/", "/vi_t_encoder_block_0/"),),
    left_out=rf"({_TASK})?optimizer/",
)


class Preset:
    """A backbone's archive and its task's, read as one."""

    def __init__(self, backbone: Archive, task: Archive, config: dict[str, Any]):
        self.path = backbone.path.parent
        self.infos = {
            **backbone.infos,
            **{f"{_TASK}{name}": info for name, info in task.infos.items()},
        }
        self.config = {**(backbone.config or {}), "task": config}
        self._backbone, self._task = backbone, task

    def read(self, name: str) -> np.ndarray:
        """The array `name`."""
        if name.startswith(_TASK):
            return self._task.read(name.removeprefix(_TASK))
        return self._backbone.read(name)

    def close(self) -> None:
        """Closes both."""
        self._backbone.close()
        self._task.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def open_preset(folder: Path, **options: Any) -> Preset:
    """Opens the folder of a preset that has a task's weights beside the backbone's.

    Raises:
        WeightsError: If one of its files is refused.
    """
    backbone = open_archive(folder / "model.weights.h5", **options)
    try:
        task = open_archive(folder / "task.weights.h5", **options)
    except BaseException:
        backbone.close()
        raise
    path = folder / "task.json"
    try:
        config: Any = {}
        if path.is_file():
            config = parse_json(read_small(path), f"{str(path)!r}").get("config")
        if not isinstance(config, dict):
            raise WeightsError(
                f"A preset's task.json must have a `config`, an object. Received: {config!r:.80}"
            )
    except BaseException:
        backbone.close()
        task.close()
        raise
    return Preset(backbone, task, config)
