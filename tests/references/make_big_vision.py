"""Records what big_vision itself computes with tiny models: tests/references/big_vision.npz.

    git clone https://github.com/google-research/big_vision && pip install flax einops absl-py
    PYTHONPATH=big_vision python tests/references/make_big_vision.py

Each case has a file's arrays as `case/file/NAME`, the images, and big_vision's `logits` and
`features`. Files of older layouts are read by big_vision's own `fix_old_checkpoints`.
"""

import re
import tempfile
import zlib
from pathlib import Path

import big_vision.models.vit as vit
import big_vision.utils as u
import jax
import numpy as np

SHAPE = {"width": 12, "depth": 3, "mlp_dim": 19, "num_heads": 3, "patch_size": (2, 2)}
CLASSES, SIZE = 5, 6

#: What to build, and how its file was written: a function of the flat names and arrays.
CASES = {
    "tok": ({"pool_type": "tok"}, "new"),
    "map": ({"pool_type": "map"}, "new"),
    "gap_sincos": ({"pool_type": "gap", "posemb": "sincos2d"}, "params"),
    "map_scan": ({"pool_type": "map", "scan": True}, "params"),
    "tok_vision_transformer": ({"pool_type": "tok"}, "vision_transformer"),
    "tok_encoder_positions": ({"pool_type": "tok"}, "encoder_positions"),
    "map_inlined": ({"pool_type": "map"}, "inlined"),
    "siglip": ({"pool_type": "map", "num_classes": None}, "tower"),
}


def rng_of(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def drawn(name, shape):
    """A value with real spread, so that no zero or one hides a swap."""
    value = rng_of(name).normal(size=shape)
    if name.endswith("scale"):
        value = 1 + 0.3 * value
    elif name.endswith("kernel"):
        value = value * 12**-0.5
    else:
        value = 0.3 * value
    return value.astype("float32")


def with_class_position(flat):
    """Positions with one more for the [class] token, before the others."""
    extra = drawn("class position", (1, 1, SHAPE["width"]))
    return {
        k: np.concatenate([extra, v], axis=1) if k == "pos_embedding" else v
        for k, v in flat.items()
    }


def in_layout(flat, layout):
    """The file that a version of the code wrote of the present one's parameters."""
    if layout == "new":
        return flat
    if layout == "params":
        return {f"params/{k}": v for k, v in flat.items()} | {"opt/0/count": np.zeros((), "int32")}
    if layout == "tower":
        text = {"params/txt/Embed_0/embedding": np.ones((2, 3), "float32")}
        scale = {"params/t": np.ones(1, "float32"), "params/b": np.ones(1, "float32")}
        return {f"params/img/{k}": v for k, v in flat.items()} | text | scale
    if layout == "inlined":
        return {k.removeprefix("MAPHead_0/"): v for k, v in flat.items()}
    flat = with_class_position(flat)
    if layout == "encoder_positions":
        renamed = {re.sub("^pos_emb", "Transformer/pos_emb", k): v for k, v in flat.items()}
        state = {"opt/state/step": np.zeros((), "int32")}
        return {f"opt/target/{k}": v for k, v in renamed.items()} | state
    # The parts of a block numbered throughout, positions a module of the encoder.
    numbers = {"LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3",
               "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1"}  # fmt: skip
    for new, old in numbers.items():
        flat = {re.sub(f"/{new}/", f"/{old}/", k): v for k, v in flat.items()}
    return {re.sub("^pos_emb", "Transformer/posembed_input/pos_emb", k): v for k, v in flat.items()}


recorded = {}
for case, (arguments, layout) in CASES.items():
    model = vit.Model(**{"num_classes": CLASSES, **SHAPE, **arguments})
    images = rng_of(f"{case} images").uniform(-1, 1, (2, SIZE, SIZE, 3)).astype("float32")
    initial = jax.device_get(model.init(jax.random.key(0), images)["params"])
    names, values = zip(*u.tree_flatten_with_names(initial)[0], strict=True)
    flat = {k: drawn(f"{case} {k}", np.shape(v)) for k, v in zip(names, values, strict=True)}
    written = in_layout(flat, layout)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/file.npz", **written)
        tree = u.load_params(f"{folder}/file.npz" + (":img" if layout == "tower" else ""))
    params = vit.fix_old_checkpoints(tree)
    out, parts = model.apply({"params": params}, images)
    recorded |= {f"{case}/file/{k}": v for k, v in written.items()}
    recorded |= {f"{case}/images": images, f"{case}/features": np.asarray(parts["pre_logits"])}
    if "logits" in parts:
        recorded[f"{case}/logits"] = np.asarray(out)
    print(case, np.abs(parts["pre_logits"]).max())
np.savez_compressed(Path(__file__).with_name("big_vision.npz"), **recorded)
