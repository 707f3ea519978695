"""Files of Hugging Face transformers: its ViT, and the vision tower of its SigLIP."""

from keras_vit_scale.weights.archive import WeightsError
from keras_vit_scale.weights.layout import (
    CONVOLUTION,
    FLAT,
    FROM_HEADS,
    LINEAR,
    TABLE,
    Layout,
    Row,
    attention_rows,
    linear_rows,
    norm_rows,
)

#: Names of GELU's forms there.
GELUS = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_pytorch_tanh": "tanh",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
}


def _settings(config):
    """What a config.json says; that of a model with text keeps it in `vision_config`."""
    config = config.get("vision_config") or config
    found = {}
    for ours, theirs in {
        "heads": "num_attention_heads",
        "epsilon": "layer_norm_eps",
        "image_size": "image_size",
    }.items():
        if config.get(theirs) is not None:
            found[ours] = config[theirs]
    activation = config.get("hidden_act")
    if activation is not None:
        if activation not in GELUS:
            raise WeightsError(f"There is no activation here for transformers' {activation!r}.")
        found["gelu"] = GELUS[activation]
    return found


VIT = Layout(
    name="transformers",
    rows=(
        Row(
            "patch_embedding/kernel",
            "embeddings.patch_embeddings.projection.weight",
            CONVOLUTION,
        ),
        Row("patch_embedding/bias", "embeddings.patch_embeddings.projection.bias"),
        Row("position_embedding/embedding", "embeddings.position_embeddings"),
        Row("class_token/token", "embeddings.cls_token"),
        *attention_rows(
            "encoder/",
            {
                "query": "encoder.layer.{i}.attention.attention.query",
                "key": "encoder.layer.{i}.attention.attention.key",
                "value": "encoder.layer.{i}.attention.attention.value",
                "out": "encoder.layer.{i}.attention.output.dense",
            },
            optional=True,
        ),
        *norm_rows(
            {
                "encoder/attention_norm": "encoder.layer.{i}.layernorm_before",
                "encoder/mlp_norm": "encoder.layer.{i}.layernorm_after",
                "norm/": "layernorm",
            }
        ),
        *linear_rows(
            {
                "encoder/mlp_in": "encoder.layer.{i}.intermediate.dense",
                "encoder/mlp_out": "encoder.layer.{i}.output.dense",
                "head/": "classifier",
            }
        ),
    ),
    gelu="exact",
    epsilon=1e-12,
    settings=_settings,
    renames=((r"^vit\.", ""),),
)

SIGLIP = Layout(
    name="transformers",
    rows=(
        Row("patch_embedding/kernel", "embeddings.patch_embedding.weight", CONVOLUTION),
        Row("patch_embedding/bias", "embeddings.patch_embedding.bias"),
        Row("position_embedding/embedding", "embeddings.position_embedding.weight", TABLE),
        *attention_rows(
            "encoder/",
            {
                "query": "encoder.layers.{i}.self_attn.q_proj",
                "key": "encoder.layers.{i}.self_attn.k_proj",
                "value": "encoder.layers.{i}.self_attn.v_proj",
                "out": "encoder.layers.{i}.self_attn.out_proj",
            },
        ),
        # torch.nn.MultiheadAttention joins query, key and value.
        *(
            Row(f"pooling/{name}_{kind}", f"head.attention.in_proj_{theirs}", form, part, 3)
            for part, name in enumerate(("query", "key", "value"))
            for kind, theirs, form in (("kernel", "weight", LINEAR), ("bias", "bias", FLAT))
        ),
        Row("pooling/probe", "head.probe"),
        Row("pooling/out_kernel", "head.attention.out_proj.weight", FROM_HEADS),
        Row("pooling/out_bias", "head.attention.out_proj.bias"),
        *norm_rows(
            {
                "encoder/attention_norm": "encoder.layers.{i}.layer_norm1",
                "encoder/mlp_norm": "encoder.layers.{i}.layer_norm2",
                "norm/": "post_layernorm",
                "pooling/mlp_norm": "head.layernorm",
            }
        ),
        *linear_rows(
            {
                "encoder/mlp_in": "encoder.layers.{i}.mlp.fc1",
                "encoder/mlp_out": "encoder.layers.{i}.mlp.fc2",
                "pooling/mlp_in": "head.mlp.fc1",
                "pooling/mlp_out": "head.mlp.fc2",
                "head/": "classifier",
            }
        ),
    ),
    gelu="tanh",
    epsilon=1e-6,
    settings=_settings,
    renames=((r"^vision_model\.", ""),),
    left_out=r"text_model\.|logit_(scale|bias)$|(vision_model\.)?embeddings\.position_ids$",
    head_reads_mean=True,
)
