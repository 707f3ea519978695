"""Files of timm's `VisionTransformer`: torch's shapes, query, key and value joined."""

import re

from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.layout import (
    CONVOLUTION,
    Layout,
    Row,
    attention_rows,
    joined_rows,
    linear_rows,
    norm_rows,
)

#: timm's names of pooling; others have no counterpart here.
POOLINGS = {"map": "map", "avg": "gap", "token": "token"}

#: timm's names of GELU's forms.
GELUS = {"gelu": "exact", "gelu_tanh": "tanh"}

#: Architectures that timm itself builds with the tanh form: these sizes of SigLIP.
_TANH = re.compile(
    r"vit_(base_patch32_siglip(_gap)?_256|large_patch16_siglip(_gap)?_512"
    r"|(so400m|giantopt)_patch16_siglip(_gap)?_\d+)$"
)


def _settings(config):
    """What timm's config.json says: an architecture, and arguments that differ from its own."""
    arguments = config.get("model_args") or {}
    found = {}
    if "num_heads" in arguments:
        found["heads"] = arguments["num_heads"]
    pooling = arguments.get("global_pool", config.get("global_pool"))
    if pooling:
        if pooling not in POOLINGS:
            raise WeightsError(f"There is no pooling here for timm's {pooling!r}.")
        found["pooling"] = POOLINGS[pooling]
    activation = arguments.get("act_layer")
    if activation is not None:
        if activation not in GELUS:
            raise WeightsError(f"There is no activation here for timm's {activation!r}.")
        found["gelu"] = GELUS[activation]
    elif _TANH.match(str(config.get("architecture", "")).partition(".")[0]):
        found["gelu"] = "tanh"
    size = arguments.get("img_size") or (config.get("pretrained_cfg") or {}).get("input_size")
    if isinstance(size, list | tuple):
        size = tuple(size[-2:])
    if size:
        found["image_size"] = size
    return found


TIMM = Layout(
    name="timm",
    rows=(
        Row("patch_embedding/kernel", "patch_embed.proj.weight", CONVOLUTION),
        Row("patch_embedding/bias", "patch_embed.proj.bias"),
        Row("position_embedding/embedding", "pos_embed"),
        Row("class_token/token", "cls_token"),
        *norm_rows({
            "encoder/attention_norm": "blocks.{i}.norm1",
            "encoder/mlp_norm": "blocks.{i}.norm2",
            "norm/": "norm",
            "pooling/mlp_norm": "attn_pool.norm",
        }),
        *joined_rows("encoder/", "blocks.{i}.attn.qkv.", optional=True),
        *attention_rows("encoder/", {"out": "blocks.{i}.attn.proj"}),
        Row("pooling/probe", "attn_pool.latent"),
        *joined_rows("pooling/", "attn_pool.kv.", ("key", "value")),
        *attention_rows("pooling/", {"query": "attn_pool.q", "out": "attn_pool.proj"}),
        *linear_rows({
            "encoder/mlp_in": "blocks.{i}.mlp.fc1",
            "encoder/mlp_out": "blocks.{i}.mlp.fc2",
            "pooling/mlp_in": "attn_pool.mlp.fc1",
            "pooling/mlp_out": "attn_pool.mlp.fc2",
            "head/": "head",
        }),
    ),
    gelu="exact",
    epsilon=1e-6,
    settings=_settings,
    # OpenCLIP keeps timm's models as the trunk of its image tower.
    renames=((r"^visual\.trunk\.", ""),),
    left_out=r"text\.|logit_(scale|bias)$",
)  # fmt: skip
