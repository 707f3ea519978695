"""Parameters of a model, counted from its shape without building it."""

from collections.abc import Mapping
from math import prod

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.models import ViTConfig
from keras_vit_scale.models.block import WeightSpec, block_weights, norm_weights
from keras_vit_scale.models.pooling import map_weights
from keras_vit_scale.models.positions import POSITIONS
from keras_vit_scale.planning.flops import patch_grid


def parameters(
    config: ViTConfig,
    image_size: int | tuple[int, int] = 224,
    *,
    pooling: str | None = None,
    num_classes: int | None = None,
    positions: str = "learned",
) -> int:
    """Number of parameters.

    With only a shape and an image size it counts the trunk, which is what Table 2
    of the paper counts: patch embedding, positions, blocks and final norm. A
    `pooling` and `num_classes` add those of the pooling (for "token", the token)
    and the classifier; `positions="sincos"` has none.

    Raises:
        ValueError: If the positions are unknown or no patch fits the image.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.planning import parameters
    >>> round(parameters(preset("G/14")) / 1e6)
    1843
    """
    check_one_of(POSITIONS, positions=positions)
    c = config
    rows, columns = patch_grid(c, image_size)
    total = c.patch_size**2 * 3 * c.width + c.width
    if positions == "learned":
        total += rows * columns * c.width
    total += c.depth * _count(block_weights(c.width, c.mlp_dim, c.heads))
    total += _count(norm_weights("norm", c.width))
    if pooling == "map":
        total += _count(map_weights(c.width, c.mlp_dim, c.heads))
    elif pooling == "token":
        total += c.width
    if num_classes is not None:
        total += c.width * num_classes + num_classes
    return total


def _count(weights: Mapping[str, WeightSpec]) -> int:
    return sum(prod(weight.shape) for weight in weights.values())
