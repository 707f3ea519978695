"""The shape of a Vision Transformer: five numbers."""

from dataclasses import dataclass, fields

from keras_vit_scale.checks import check_positive_integers


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a Vision Transformer, without its input size or its head.

    Everything that can be known of a model before it is built (parameters,
    FLOPs, memory) is a function of this shape and an image size.

    Args:
        width: Features of a token.
        depth: Number of blocks.
        mlp_dim: Hidden features of each block's MLP.
        heads: Attention heads; they must divide `width`.
        patch_size: Side of the square patches, in pixels.

    Raises:
        ValueError: If a value is not a positive integer, or `heads` does not
            divide `width`.

    Example:

    >>> from keras_vit_scale.models import ViTConfig
    >>> ViTConfig(width=192, depth=12, mlp_dim=768, heads=3, patch_size=16).head_dim
    64
    """

    width: int
    depth: int
    mlp_dim: int
    heads: int
    patch_size: int

    def __post_init__(self):
        check_positive_integers(**{field.name: getattr(self, field.name) for field in fields(self)})
        check_heads(self.heads, self.width)

    @property
    def head_dim(self) -> int:
        """Features of one attention head."""
        return self.width // self.heads


def image_grid(image_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of the patches that an image is cut into.

    Raises:
        ValueError: If its sides are no multiples of the patch.
    """
    height, width = image_shape(image_size)
    if height % patch_size or width % patch_size:
        raise ValueError(
            "`image_size` must be a multiple of the patch size. "
            f"Received: image_size={image_size}, patch_size={patch_size}"
        )
    return height // patch_size, width // patch_size


def check_heads(heads: int, width: int) -> None:
    """Refuses a number of heads that does not divide the width.

    Raises:
        ValueError: If it does not.
    """
    if width % heads:
        raise ValueError(f"`heads` must divide the width. Received: heads={heads}, width={width}")


def image_shape(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels, from a side or a `(height, width)` pair.

    Raises:
        ValueError: If it is neither a positive integer nor a pair of them.
    """
    pair = tuple(image_size) if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(pair) != 2 or any(type(side) is not int or side < 1 for side in pair):
        raise ValueError(
            "`image_size` must be a positive integer or a (height, width) pair of them. "
            f"Received: image_size={image_size!r}"
        )
    return pair
