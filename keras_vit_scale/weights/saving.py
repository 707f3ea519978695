"""Weights out: a model's weights as another project reads them."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.models.architecture import Architecture, architecture, weights_of
from keras_vit_scale.models.positions import sincos_2d
from keras_vit_scale.types import Tensor
from keras_vit_scale.weights.big_vision import BIG_VISION
from keras_vit_scale.weights.checkpoint import POSITION, TOKEN
from keras_vit_scale.weights.layout import Layout
from keras_vit_scale.weights.npz import write_npz
from keras_vit_scale.weights.safetensors_file import write_safetensors
from keras_vit_scale.weights.timm import GELUS, POOLINGS, TIMM
from keras_vit_scale.weights.transformers import SIGLIP, VIT

FORMATS = ("timm", "big_vision", "transformers")


def save_weights_as(model: keras.Model, path: str | Path, format: str) -> None:
    """Writes a model's weights so that another project reads them and computes the same.

    `from_pretrained` reads them back, bit for bit where they are float32; weights of
    fewer bits are written as float32.

    Args:
        model: A model that `ViT` built.
        path: For "big_vision" a file, `.npz`, which timm takes too (a model with a
            [class] token there needs `no_embed_class=True`). For the others a
            folder, made if need be, which gets `model.safetensors` and
            `config.json`: what `timm.create_model("local-dir:...")` and
            transformers' `from_pretrained` take.
        format: "timm", "big_vision" or "transformers". The last has for [class]
            tokens its ViT, for MAP its SigLIP vision model, for GAP that with its
            classifier.

    Raises:
        ValueError: If there is no such format, the path is not of its kind, or the
            other project has no such model.

    Example:

    >>> import tempfile
    >>> import keras_vit_scale as kvs
    >>> model = kvs.ViT("mu/8", 5, image_size=32, gelu="exact")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kvs.save_weights_as(model, folder, format="timm")
    ...     kvs.from_pretrained(folder).name
    'ViT_mu_8'
    """
    check_one_of(FORMATS, format=format)
    path = Path(path)
    if (path.suffix == ".npz") != (format == "big_vision"):
        raise ValueError(
            "`path` must end in .npz for big_vision, and be a folder for the others. "
            f"Received: path={str(path)!r}, format={format!r}"
        )
    found = architecture(model)
    if format == "big_vision":
        _refuse(found, "big_vision", gelu=("tanh",), epsilon=(1e-6,))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, their_arrays(model, found, BIG_VISION))
        return
    if format == "timm":
        layout, config = TIMM, _timm_config(found)
    else:
        layout, config = _transformers_config(found)
    arrays = their_arrays(model, found, layout)
    path.mkdir(parents=True, exist_ok=True)
    write_safetensors(path / "model.safetensors", arrays, {"format": "pt"})
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def their_arrays(model: keras.Model, found: Architecture, layout: Layout) -> dict[str, np.ndarray]:
    """A model's weights under a layout's names, in float32."""
    ours = {name: _array(weight) for name, weight in weights_of(model).items()}
    stacks: dict[str, Tensor] = {}
    model.get_layer("encoder").save_own_variables(stacks)
    ours |= {f"encoder/{name}": _array(stack) for name, stack in stacks.items()}
    if found.positions == "sincos" and not layout.fixed_positions:
        fixed = sincos_2d(*found.grid, found.config.width)
        ours[POSITION] = fixed[None].astype("float32")
    if found.pooling == "token" and POSITION in ours and layout.token_has_position:
        # The [class] token has a position of its own there, which zero leaves without effect.
        ours[POSITION] = np.concatenate([np.zeros_like(ours[TOKEN]), ours[POSITION]], axis=1)
    pieces: defaultdict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for row in layout.rows:
        if row.ours.startswith("encoder/"):
            for i, array in enumerate(ours[row.ours]):
                pieces[row.theirs.replace("{i}", str(i))][row.part] = row.form.write(array)
        elif row.ours in ours:
            pieces[row.theirs][row.part] = row.form.write(ours[row.ours])
    return {name: _joined(parts) for name, parts in pieces.items()}


def _joined(parts):
    arrays = [parts[i] for i in sorted(parts)]
    return np.ascontiguousarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def _array(weight):
    return np.asarray(keras.ops.convert_to_numpy(weight), dtype="float32")


def _refuse(found: Architecture, project: str, **possible: Sequence[object]) -> None:
    """Refuses a model that the other project cannot build."""
    for option, values in possible.items():
        value = getattr(found, option)
        if value not in values:
            allowed = " or ".join(repr(v) for v in values)
            raise ValueError(
                f"A model for {project} must have {option}={allowed}. Received: {option}={value!r}"
            )


def _timm_config(d):
    """The config.json of timm's hub folders."""
    _refuse(d, "timm", epsilon=(1e-6,))
    c, (height, width) = d.config, d.image_size
    pooling = next(theirs for theirs, ours in POOLINGS.items() if ours == d.pooling)
    half = [0.5] * 3
    return {
        # One architecture stands for all: the arguments say everything that differs.
        "architecture": "vit_base_patch16_224",
        "num_classes": d.num_classes or 0,
        "num_features": c.width,
        "global_pool": pooling,
        "model_args": {
            "img_size": [height, width],
            "patch_size": c.patch_size,
            "embed_dim": c.width,
            "depth": c.depth,
            "num_heads": c.heads,
            "mlp_ratio": _ratio(c.width, c.mlp_dim),
            "class_token": d.pooling == "token",
            "global_pool": pooling,
            "fc_norm": False,
            "act_layer": next(theirs for theirs, ours in GELUS.items() if ours == d.gelu),
        },
        "pretrained_cfg": {
            "num_classes": d.num_classes or 0,
            "input_size": [3, height, width],
            "fixed_input_size": True,
            "mean": half,
            "std": half,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def _ratio(width, mlp_dim):
    """The number of which timm's `int(width * ratio)` makes the MLP's width."""
    ratio = mlp_dim / width
    while int(width * ratio) < mlp_dim:
        ratio = math.nextafter(ratio, math.inf)
    return ratio


def _transformers_config(d):
    """The layout and the config.json of transformers' models."""
    c, (height, width) = d.config, d.image_size
    sizes = {
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "intermediate_size": c.mlp_dim,
        "patch_size": c.patch_size,
        "num_channels": 3,
        "image_size": height if height == width else [height, width],
        "layer_norm_eps": d.epsilon,
        "hidden_act": "gelu_pytorch_tanh" if d.gelu == "tanh" else "gelu",
    }
    classes = {}
    if d.num_classes is not None:
        labels = {i: f"LABEL_{i}" for i in range(d.num_classes)}
        classes = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    if d.pooling == "token":
        name = "ViTForImageClassification" if classes else "ViTModel"
        return VIT, {"model_type": "vit", "architectures": [name], **sizes, **classes}
    if height != width:
        raise ValueError(
            "transformers has SigLIP for square images only; another format takes others. "
            f"Received: images of {height} x {width}"
        )
    if d.pooling == "map":
        if classes:
            raise ValueError(
                "transformers has no classifier on MAP: save as 'timm' or 'big_vision', or without "
                f"the head. Received: {d.num_classes} classes"
            )
        name = "SiglipVisionModel"
        return SIGLIP, {"model_type": "siglip_vision_model", "architectures": [name], **sizes}
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False, **sizes}
    if not classes:
        return SIGLIP, {**vision, "architectures": ["SiglipVisionModel"]}
    return SIGLIP, {
        "model_type": "siglip",
        "architectures": ["SiglipForImageClassification"],
        "vision_config": vision,
        **classes,
    }
