"""What other Vision Transformers have and ours has not, known by the names of its weights."""

import re
from collections.abc import Iterable

from keras_vit_scale.weights.declared import WeightsError

#: Each part that our architecture lacks, and the names that give it away.
FEATURES = {
    "layer scale": r"\.ls[12]\.|\bgamma_[12]\b|layer_?scale|\blambda_?[12]\b",
    "register tokens": r"\breg_token|register_tokens|storage_tokens",
    "SwiGLU": r"\.mlp\.(fc1_[gx]|w12|w[123]|gate)|\.weights_(in|out)\.|gate_proj|swiglu",
    "norms of query and key (qk-norm)": r"\b[qk]_norm\b|query_norm|key_norm|(query|key)_ln",
    "norms inside attention or MLP": r"\.(attn|mlp)\.norm\.",
    "a norm before the blocks (pre-norm)": r"norm_pre\b|pre_?layr?norm|ln_pre",
    "a norm after pooling (fc_norm)": r"\bfc_norm\b",
    "rotary positions (rope)": r"\brope|rotary|inv_freq|freqs",
    "a distillation token": r"dist_token|head_dist|distillation",
    "relative positions": r"relative_position|rel_pos",
    "positions in the attention pool": r"attn_pool\.pos_embed",
    "a representation layer (pre_logits)": r"pre_logits|\bpooler\.|^task/layers/dense_1/",
    "a mask token": r"mask_token",
}


def refuse_unknown_parts(names: Iterable[str]) -> None:
    """Refuses a file that has parts which our architecture cannot represent.

    Raises:
        WeightsError: Naming every such part with one of its weights.
    """
    found = {}
    for feature, pattern in FEATURES.items():
        name = next((name for name in names if re.search(pattern, name, re.IGNORECASE)), None)
        if name is not None:
            found[feature] = name
    if found:
        parts = "; ".join(f"{feature}: {name!r}" for feature, name in found.items())
        raise WeightsError(
            "The file's model must have only parts that `ViT` has. What is known not to change its "
            "features can be left out by name with `ignore=`. "
            f"Received: {parts}"
        )
