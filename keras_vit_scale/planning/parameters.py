"""Parameters of a model, listed and counted from its shape without building it."""

from math import prod
from typing import NamedTuple

from keras_vit_scale.checks import check_one_of
from keras_vit_scale.models import ViTConfig
from keras_vit_scale.models.block import block_weights, norm_weights
from keras_vit_scale.models.pooling import POOLINGS, map_weights
from keras_vit_scale.models.positions import POSITIONS
from keras_vit_scale.planning.flops import patch_grid


class Weight(NamedTuple):
    """A weight of a model that need not exist."""

    path: str
    shape: tuple[int, ...]

    @property
    def part(self) -> str:
        """The layer that has it."""
        return self.path.partition("/")[0]

    @property
    def size(self) -> int:
        """Its number of parameters."""
        return prod(self.shape)


def weights(
    config: ViTConfig,
    image_size: int | tuple[int, int] = 224,
    *,
    pooling: str | None = None,
    num_classes: int | None = None,
    positions: str = "learned",
) -> list[Weight]:
    """The weights of a `ViT`, as `parameters` counts them, by their paths.

    Raises:
        ValueError: As `parameters`.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.planning.parameters import weights
    >>> weights(preset("S/16"))[0]
    Weight(path='patch_embedding/kernel', shape=(16, 16, 3, 384))
    """
    check_one_of(POSITIONS, positions=positions)
    check_one_of((None, *POOLINGS), pooling=pooling)
    c = config
    rows, columns = patch_grid(c, image_size)
    found = {
        "patch_embedding/kernel": (c.patch_size, c.patch_size, 3, c.width),
        "patch_embedding/bias": (c.width,),
    }
    if positions == "learned":
        found["position_embedding/embedding"] = (1, rows * columns, c.width)
    if pooling == "token":
        found["class_token/token"] = (1, 1, c.width)
    for name, weight in block_weights(c.width, c.mlp_dim, c.heads).items():
        found[f"encoder/{name}"] = (c.depth, *weight.shape)
    for name, weight in zip(("gamma", "beta"), norm_weights("norm", c.width).values(), strict=True):
        found[f"norm/{name}"] = weight.shape
    if pooling == "map":
        for name, weight in map_weights(c.width, c.mlp_dim, c.heads).items():
            found[f"pooling/{name}"] = weight.shape
    if num_classes is not None:
        found["head/kernel"] = (c.width, num_classes)
        found["head/bias"] = (num_classes,)
    return [Weight(path, shape) for path, shape in found.items()]


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
        ValueError: If the pooling or the positions are unknown or no patch fits the image.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.planning import parameters
    >>> round(parameters(preset("G/14")) / 1e6)
    1843
    """
    listed = weights(
        config, image_size, pooling=pooling, num_classes=num_classes, positions=positions
    )
    return sum(weight.size for weight in listed)
