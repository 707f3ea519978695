"""The named sizes: Table 2 of the paper, and those its authors used before and later."""

import difflib

from keras_vit_scale.models.config import ViTConfig

#: Width, depth, MLP width and heads by size. "s" and "S" are different models.
SIZES = {
    # Table 2 of "Scaling Vision Transformers".
    "s": (256, 6, 1024, 8),
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "g": (1408, 40, 6144, 16),
    "G": (1664, 48, 8192, 16),
    # The original ViT paper (Dosovitskiy et al. 2020).
    "H": (1280, 32, 5120, 16),
    # Sizes that the same authors added later.
    "mu": (32, 1, 128, 2),
    "M": (512, 12, 2048, 8),
    "So400m": (1152, 27, 4304, 16),
    "g-opt": (1536, 40, 6144, 16),
    "G-opt": (1536, 48, 8192, 16),
    "e": (1792, 56, 15360, 16),
}

#: The models of Table 2, in its order: by compute for one image.
TABLE_2 = (
    "s/28", "s/16", "S/32", "Ti/16", "B/32", "S/16", "B/28", "B/16", "L/16", "g/14", "G/14",
)  # fmt: skip


def preset(name: str) -> ViTConfig:
    """The shape that a name such as `"B/16"` (size/patch) stands for.

    Any size of `SIZES` goes with any patch size: `"So400m/14"`, `"S/8"`.

    Raises:
        ValueError: If the name is not `size/patch` or the size is unknown; the
            message suggests close names.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> preset("G/14")
    ViTConfig(width=1664, depth=48, mlp_dim=8192, heads=16, patch_size=14)
    """
    size, slash, patch = name.partition("/")
    if size in SIZES and slash and patch.isascii() and patch.isdigit() and int(patch) > 0:
        return ViTConfig(*SIZES[size], patch_size=int(patch))
    raise ValueError(
        "A preset is a known size, a slash and a patch size, such as 'B/16'. "
        f"Received: {name!r}. {_suggestion(name)}"
    )


def _suggestion(name: str) -> str:
    """The closest presets: the same letters in another case first."""
    known = [*TABLE_2, *(f"{size}/14" for size in SIZES if f"{size}/14" not in TABLE_2)]
    size, _, patch = name.partition("/")
    if patch.isascii() and patch.isdigit() and int(patch) > 0:
        known += [f"{size}/{patch}" for size in SIZES]
    known = list(dict.fromkeys(known))
    letters = [k for k in known if k.partition("/")[0] == size]
    case = [k for k in known if k.casefold() == name.casefold()]
    close = list(dict.fromkeys(case + letters + difflib.get_close_matches(name, known, n=3)))
    if close:
        return f"Did you mean {' or '.join(repr(k) for k in close[:3])}?"
    return f"Known sizes: {', '.join(SIZES)}."
