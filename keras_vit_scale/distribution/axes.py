"""What each axis of a ViT's weights counts, by the weight's path: which axis a layout cuts.

A letter an axis: L blocks, D width, K heads, F features of a head, M MLP width, N tokens,
C classes, P pixels of a patch, I channels of an image, 1 an axis of one.
"""

import re

_KERNELS = {
    "query_kernel": "DKF", "query_bias": "KF",
    "key_kernel": "DKF", "key_bias": "KF",
    "value_kernel": "DKF", "value_bias": "KF",
    "out_kernel": "KFD", "out_bias": "D",
    "mlp_in_kernel": "DM", "mlp_in_bias": "M",
    "mlp_out_kernel": "MD", "mlp_out_bias": "D",
    "attention_norm_scale": "D", "attention_norm_bias": "D",
    "mlp_norm_scale": "D", "mlp_norm_bias": "D",
}  # fmt: skip

#: The weights of a block of `to_blocks`, which are those of ordinary Keras layers.
_BLOCK = {
    "attention_norm/(gamma|beta)": "D", "mlp_norm/(gamma|beta)": "D",
    "attention/(query|key|value)/kernel": "DKF", "attention/(query|key|value)/bias": "KF",
    "attention/attention_output/kernel": "KFD", "attention/attention_output/bias": "D",
    "mlp_in/kernel": "DM", "mlp_in/bias": "M",
    "mlp_out/kernel": "MD", "mlp_out/bias": "D",
}  # fmt: skip

#: Axes of every weight that a `ViT` may have, by a regular expression of its whole path.
AXES: dict[str, str] = {
    "patch_embedding/kernel": "PPID",
    "patch_embedding/bias": "D",
    "position_embedding/embedding": "1ND",
    "class_token/token": "11D",
    **{f"encoder/(frozen_)?{name}": f"L{axes}" for name, axes in _KERNELS.items()},
    **{rf"block_\d+/{name}": axes for name, axes in _BLOCK.items()},
    "norm/(gamma|beta)": "D",
    "pooling/probe": "11D",
    **{f"pooling/{name}": axes for name, axes in _KERNELS.items()},
    "head/kernel": "DC",
    "head/bias": "C",
}

#: The same within a model of models.
PATTERNS = {rf"(?:.*/)?{path}": axes for path, axes in AXES.items()}

_COMPILED = [(re.compile(pattern), axes) for pattern, axes in PATTERNS.items()]


def axes_of(path: str) -> str | None:
    """What the axes of the weight with this path count; `None` for one of no ViT.

    Example:

    >>> from keras_vit_scale.distribution.axes import axes_of
    >>> axes_of("encoder/frozen_mlp_in_kernel"), axes_of("dense/kernel")
    ('LDM', None)
    """
    return next((axes for pattern, axes in _COMPILED if pattern.fullmatch(path)), None)
