"""Files of google-research/vision_transformer and of big_vision: Flax's names and shapes."""

from keras_vit_scale.weights.layout import Layout, Row

_ATTENTION = {
    f"{name}_{kind}": f"MultiHeadDotProductAttention_0/{name}/{kind}"
    for name in ("query", "key", "value", "out")
    for kind in ("kernel", "bias")
}
_MLP = {
    f"{ours}_{kind}": f"MlpBlock_0/{theirs}/{kind}"
    for ours, theirs in (("mlp_in", "Dense_0"), ("mlp_out", "Dense_1"))
    for kind in ("kernel", "bias")
}
_BLOCK = {
    "attention_norm_scale": "LayerNorm_0/scale",
    "attention_norm_bias": "LayerNorm_0/bias",
    **_ATTENTION,
    "mlp_norm_scale": "LayerNorm_1/scale",
    "mlp_norm_bias": "LayerNorm_1/bias",
    **_MLP,
}
_MAP = {
    "probe": "probe",
    **_ATTENTION,
    "mlp_norm_scale": "LayerNorm_0/scale",
    "mlp_norm_bias": "LayerNorm_0/bias",
    **_MLP,
}

BIG_VISION = Layout(
    name="big_vision",
    rows=(
        Row("patch_embedding/kernel", "embedding/kernel"),
        Row("patch_embedding/bias", "embedding/bias"),
        Row("position_embedding/embedding", "pos_embedding"),
        Row("class_token/token", "cls"),
        *(
            Row(f"encoder/{ours}", f"Transformer/encoderblock_{{i}}/{theirs}")
            for ours, theirs in _BLOCK.items()
        ),
        Row("norm/gamma", "Transformer/encoder_norm/scale"),
        Row("norm/beta", "Transformer/encoder_norm/bias"),
        *(Row(f"pooling/{ours}", f"MAPHead_0/{theirs}") for ours, theirs in _MAP.items()),
        Row("head/kernel", "head/kernel"),
        Row("head/bias", "head/bias"),
    ),
    gelu="tanh",
    epsilon=1e-6,
    renames=(
        # Within an optimizer's or a trainer's state, and within a tower of images and text.
        (r"^(opt/target|params)/", ""),
        (r"^img/", ""),
        # Positions were the encoder's own once, and a module of it before that.
        (r"^Transformer/(posembed_input/)?pos_embedding$", "pos_embedding"),
        # While ViT-G was made, the parts of the MAP head lay beside the encoder.
        (r"^(probe$|(MultiHeadDotProductAttention|LayerNorm|MlpBlock)_0/)", r"MAPHead_0/\1"),
        # The first Flax numbered the parts of a block throughout, the later one kind by kind.
        (r"(/encoderblock(?:_\d+)?)/LayerNorm_2/", r"\1/LayerNorm_1/"),
        (r"(/encoderblock(?:_\d+)?)/MultiHeadDotProductAttention_1/",
         r"\1/MultiHeadDotProductAttention_0/"),
        (r"(/encoderblock(?:_\d+)?)/MlpBlock_3/", r"\1/MlpBlock_0/"),
    ),
    left_out=r"opt/(?!target/)|(chrono|extra)(/|$)|(params/)?(txt/|(t|b)$)",
    fixed_positions=True,
    token_has_position=False,
)  # fmt: skip
