"""Files of Hugging Face transformers: its ViT, and the vision tower of its SigLIP."""

from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.layout import (
    CONVOLUTION,
    TABLE,
    Layout,
    Row,
    attention_rows,
    joined_rows,
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
            "vit.embeddings.patch_embeddings.projection.weight",
            CONVOLUTION,
        ),
        Row("patch_embedding/bias", "vit.embeddings.patch_embeddings.projection.bias"),
        Row("position_embedding/embedding", "vit.embeddings.position_embeddings"),
        Row("class_token/token", "vit.embeddings.cls_token"),
        *attention_rows(
            "encoder/",
            {
                "query": "vit.encoder.layer.{i}.attention.attention.query",
                "key": "vit.encoder.layer.{i}.attention.attention.key",
                "value": "vit.encoder.layer.{i}.attention.attention.value",
                "out": "vit.encoder.layer.{i}.attention.output.dense",
            },
            optional=True,
        ),
        *norm_rows(
            {
                "encoder/attention_norm": "vit.encoder.layer.{i}.layernorm_before",
                "encoder/mlp_norm": "vit.encoder.layer.{i}.layernorm_after",
                "norm/": "vit.layernorm",
            }
        ),
        *linear_rows(
            {
                "encoder/mlp_in": "vit.encoder.layer.{i}.intermediate.dense",
                "encoder/mlp_out": "vit.encoder.layer.{i}.output.dense",
                "head/": "classifier",
            }
        ),
    ),
    gelu="exact",
    epsilon=1e-12,
    settings=_settings,
    # A model without a classifier is written without its name.
    renames=((r"^(?=(embeddings|encoder|layernorm|pooler)\.)", "vit."),),
)

SIGLIP = Layout(
    name="transformers",
    rows=(
        Row(
            "patch_embedding/kernel", "vision_model.embeddings.patch_embedding.weight", CONVOLUTION
        ),
        Row("patch_embedding/bias", "vision_model.embeddings.patch_embedding.bias"),
        Row(
            "position_embedding/embedding",
            "vision_model.embeddings.position_embedding.weight",
            TABLE,
        ),
        *attention_rows(
            "encoder/",
            {
                "query": "vision_model.encoder.layers.{i}.self_attn.q_proj",
                "key": "vision_model.encoder.layers.{i}.self_attn.k_proj",
                "value": "vision_model.encoder.layers.{i}.self_attn.v_proj",
                "out": "vision_model.encoder.layers.{i}.self_attn.out_proj",
            },
        ),
        Row("pooling/probe", "vision_model.head.probe"),
        # torch.nn.MultiheadAttention joins query, key and value.
        *joined_rows("pooling/", "vision_model.head.attention.in_proj_"),
        *attention_rows("pooling/", {"out": "vision_model.head.attention.out_proj"}),
        *norm_rows(
            {
                "encoder/attention_norm": "vision_model.encoder.layers.{i}.layer_norm1",
                "encoder/mlp_norm": "vision_model.encoder.layers.{i}.layer_norm2",
                "norm/": "vision_model.post_layernorm",
                "pooling/mlp_norm": "vision_model.head.layernorm",
            }
        ),
        *linear_rows(
            {
                "encoder/mlp_in": "vision_model.encoder.layers.{i}.mlp.fc1",
                "encoder/mlp_out": "vision_model.encoder.layers.{i}.mlp.fc2",
                "pooling/mlp_in": "vision_model.head.mlp.fc1",
                "pooling/mlp_out": "vision_model.head.mlp.fc2",
                "head/": "classifier",
            }
        ),
    ),
    gelu="tanh",
    epsilon=1e-6,
    settings=_settings,
    left_out=r"text_model\.|logit_(scale|bias)$|vision_model\.embeddings\.position_ids$",
    head_reads_mean=True,
)
