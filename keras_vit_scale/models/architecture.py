"""What a Vision Transformer is, beside its weights: of a model and of a file alike."""

from dataclasses import dataclass

import keras

from keras_vit_scale.models.block import block_weights
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.models.embedding import PatchEmbedding
from keras_vit_scale.models.encoder import Encoder
from keras_vit_scale.models.pooling import AttentionPooling, TokenPooling, map_weights
from keras_vit_scale.models.positions import SinCosPositionEmbedding
from keras_vit_scale.models.presets import SIZES


@dataclass(frozen=True)
class Architecture:
    """Everything that decides what a model computes with given weights.

    Args:
        config: Its shape.
        grid: Rows and columns of patches.
        pooling: "map", "gap" or "token".
        positions: "learned" or "sincos".
        gelu: "tanh" or "exact".
        epsilon: LayerNorm's.
        num_classes: Classes of the head; `None` without one.
    """

    config: ViTConfig
    grid: tuple[int, int]
    pooling: str
    positions: str
    gelu: str
    epsilon: float
    num_classes: int | None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of its images in pixels."""
        rows, columns = self.grid
        return rows * self.config.patch_size, columns * self.config.patch_size

    def __str__(self):
        height, width = self.image_size
        head = f"{self.num_classes} classes" if self.num_classes else "no head"
        return f"{shape_name(self.config)} at {height} x {width}, {self.pooling!r} pooling, {head}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by layer and name; those of the encoder are stacked."""
        c, (rows, columns) = self.config, self.grid
        shapes = {
            "patch_embedding/kernel": (c.patch_size, c.patch_size, 3, c.width),
            "patch_embedding/bias": (c.width,),
        }
        if self.positions == "learned":
            shapes["position_embedding/embedding"] = (1, rows * columns, c.width)
        if self.pooling == "token":
            shapes["class_token/token"] = (1, 1, c.width)
        for name, weight in block_weights(c.width, c.mlp_dim, c.heads).items():
            shapes[f"encoder/{name}"] = (c.depth, *weight.shape)
        shapes |= {"norm/gamma": (c.width,), "norm/beta": (c.width,)}
        if self.pooling == "map":
            for name, weight in map_weights(c.width, c.mlp_dim, c.heads).items():
                shapes[f"pooling/{name}"] = weight.shape
        if self.num_classes is not None:
            shapes["head/kernel"] = (c.width, self.num_classes)
            shapes["head/bias"] = (self.num_classes,)
        return shapes


def preset_name(config: ViTConfig) -> str | None:
    """The preset that a shape is, "B/16"; `None` if it is none."""
    shape = (config.width, config.depth, config.mlp_dim, config.heads)
    size = next((size for size, known in SIZES.items() if known == shape), None)
    return size and f"{size}/{config.patch_size}"


def shape_name(config: ViTConfig) -> str:
    """The preset that a shape is, or else its five numbers by name.

    Example:

    >>> from keras_vit_scale.models import ViTConfig, preset
    >>> from keras_vit_scale.models.architecture import shape_name
    >>> shape_name(preset("So400m/14")), shape_name(ViTConfig(12, 2, 48, 3, 8))
    ('So400m/14', 'width=12,depth=2,mlp_dim=48,heads=3,patch_size=8')
    """
    return preset_name(config) or ",".join(
        f"{name}={value}" for name, value in vars(config).items()
    )


def usual_heads(width: int, mlp_dim: int) -> int | None:
    """The heads of the size that has these widths; `None` if there is no such size."""
    return next(
        (heads for w, _, mlp, heads in SIZES.values() if (w, mlp) == (width, mlp_dim)), None
    )


def architecture(model: keras.Model) -> Architecture:
    """What a model that `ViT` built is.

    Raises:
        ValueError: If it has not the layers of a `ViT`.

    Example:

    >>> from keras_vit_scale.models import ViT, architecture
    >>> found = architecture(ViT("s/28", 3, image_size=56, pooling="gap", gelu="exact"))
    >>> print(found, found.gelu)
    s/28 at 56 x 56, 'gap' pooling, 3 classes exact
    """
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    patches, encoder = layers.get("patch_embedding"), layers.get("encoder")
    needed = {"position_embedding", "norm", "pooling"}
    if (
        not isinstance(patches, PatchEmbedding)
        or not isinstance(encoder, Encoder)
        or not needed <= layers.keys()
    ):
        raise ValueError(
            "The model must be one that `ViT` builds, or hold its layers under their names; a "
            "model of `to_blocks` goes through `from_blocks` first. "
            f"Received: {model!r} with layers {sorted(layers)}"
        )
    height, width = model.input_shape[1:3]
    poolings = {AttentionPooling: "map", TokenPooling: "token"}
    return Architecture(
        config=ViTConfig(
            patches.width, encoder.depth, encoder.mlp_dim, encoder.heads, patches.patch_size
        ),
        grid=(height // patches.patch_size, width // patches.patch_size),
        pooling=poolings.get(type(layers["pooling"]), "gap"),
        positions="sincos"
        if isinstance(layers["position_embedding"], SinCosPositionEmbedding)
        else "learned",
        gelu=encoder.gelu,
        epsilon=encoder.epsilon,
        num_classes=layers["head"].units if "head" in layers else None,
    )


def weights_of(model: keras.Model) -> dict[str, keras.Variable]:
    """A model's variables by layer and name, but those of the encoder, which stacks its own."""
    return {
        f"{layer.name}/{weight.name}": weight
        for layer in model.layers
        if not isinstance(layer, Encoder)
        for weight in layer.weights
    }
