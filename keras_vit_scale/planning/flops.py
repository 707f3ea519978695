"""Floating-point operations of a model, from its shape: one multiply-add counts as two."""

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.models.config import ViTConfig, image_shape
from keras_vit_scale.models.pooling import POOLINGS
from keras_vit_scale.types import Number

#: A training step costs a forward and a backward pass, the latter twice the former.
TRAINING_OVER_FORWARD = 3


def forward_flops(
    config: ViTConfig,
    image_size: int | tuple[int, int] = 224,
    *,
    pooling: str | None = None,
    num_classes: int | None = None,
) -> int:
    """FLOPs of one image through the model, matrix products alone.

    With only a shape and an image size it counts the trunk without a pooling head
    or a classifier, which comes within 1 % (small models: 0.2 GFLOP) of the
    columns of Table 2 in the paper. `pooling` and `num_classes` add theirs, which
    matters for small models.

    Args:
        config: Shape of the model.
        image_size: Side in pixels, or `(height, width)`. Only whole patches
            count, as in the paper's column for 384 pixels at patch 14.
        pooling: `None`, or one of "map", "gap" and "token" (one more token).
        num_classes: Classes of the head, or `None`.

    Raises:
        ValueError: If the pooling is unknown or no patch fits the image.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.planning import forward_flops
    >>> round(forward_flops(preset("L/16")) / 1e9, 1)
    122.5
    """
    check_one_of((None, *POOLINGS), pooling=pooling)
    c = config
    rows, columns = patch_grid(c, image_size)
    patches = rows * columns
    tokens = patches + (pooling == "token")
    projections, products, mlp = attention_and_mlp_flops(c, tokens, tokens)
    total = 2 * patches * c.patch_size**2 * 3 * c.width
    total += c.depth * (projections + products + mlp)
    if pooling == "map":
        total += sum(attention_and_mlp_flops(c, 1, tokens))
    if num_classes is not None:
        total += 2 * c.width * num_classes
    return total


def attention_and_mlp_flops(c: ViTConfig, queries: int, tokens: int) -> tuple[int, int, int]:
    """Projections, attention products and MLP of `queries` that attend to `tokens`."""
    projections = 2 * (2 * queries + 2 * tokens) * c.width**2
    products = 2 * 2 * queries * tokens * c.width
    mlp = 2 * 2 * queries * c.width * c.mlp_dim
    return projections, products, mlp


def training_flops(forward: Number, images: Number) -> Number:
    """FLOPs of training on `images` images (repeats counted), at three forward passes each."""
    # In float from the first product: a long run of a large model overflows an array of int64.
    return float(TRAINING_OVER_FORWARD) * forward * images


def patch_grid(config: ViTConfig, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Whole patches down and across an image.

    Raises:
        ValueError: If there is none.
    """
    rows, columns = (side // config.patch_size for side in image_shape(image_size))
    if not rows or not columns:
        raise ValueError(
            "An image must hold at least one patch. "
            f"Received: image_size={image_size}, patch_size={config.patch_size}"
        )
    return rows, columns
