"""What a model was built with, read from its layers."""

from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.models.embedding import PatchEmbedding, PositionEmbedding
from keras_vit_scale.models.encoder import Encoder
from keras_vit_scale.models.pooling import AttentionPooling, TokenPooling
from keras_vit_scale.models.presets import SIZES, preset


def architecture(model) -> dict:
    """The arguments of `ViT` that decide what a model computes, but for its image size and head.

    Returns:
        `config`, `pooling`, `positions` and `gelu`, as `ViT` takes them.

    Raises:
        ValueError: If the model has not the layers of a `ViT`.

    Example:

    >>> from keras_vit_scale.models import ViT, architecture
    >>> found = architecture(ViT("s/28", 3, image_size=28, pooling="gap", gelu="exact"))
    >>> found["config"].depth, found["pooling"], found["positions"], found["gelu"]
    (6, 'gap', 'learned', 'exact')
    """
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    patches, encoder = layers.get("patch_embedding"), layers.get("encoder")
    if not (isinstance(patches, PatchEmbedding) and isinstance(encoder, Encoder)):
        raise ValueError(
            "The model must be one that `ViT` builds, with its layers 'patch_embedding' and "
            f"'encoder' (see `from_blocks` for one of separate blocks). Received: {list(layers)}"
        )
    pooling = "gap"
    if isinstance(layers["pooling"], AttentionPooling):
        pooling = "map"
    elif isinstance(layers["pooling"], TokenPooling):
        pooling = "token"
    learned = isinstance(layers["position_embedding"], PositionEmbedding)
    return {
        "config": ViTConfig(
            patches.width, encoder.depth, encoder.mlp_dim, encoder.heads, patches.patch_size
        ),
        "pooling": pooling,
        "positions": "learned" if learned else "sincos",
        "gelu": encoder.gelu,
    }


def shape_name(config: ViTConfig) -> str:
    """The preset that has a shape, or else its five numbers by name.

    Example:

    >>> from keras_vit_scale.models import ViTConfig, preset
    >>> from keras_vit_scale.models.architecture import shape_name
    >>> shape_name(preset("So400m/14")), shape_name(ViTConfig(12, 2, 48, 3, 8))
    ('So400m/14', 'width=12,depth=2,mlp_dim=48,heads=3,patch_size=8')
    """
    for size in SIZES:
        name = f"{size}/{config.patch_size}"
        if preset(name) == config:
            return name
    return ",".join(f"{name}={value}" for name, value in vars(config).items())
