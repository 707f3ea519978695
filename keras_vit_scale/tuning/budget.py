"""Shapes of Vision Transformers that use up a budget of FLOPs or parameters."""

import bisect
import math
from dataclasses import dataclass

from keras_vit_scale.checks import check_one_of, check_positive, check_positive_integers
from keras_vit_scale.models import ViTConfig
from keras_vit_scale.models.pooling import POOLINGS
from keras_vit_scale.planning import forward_flops, parameters


@dataclass(frozen=True)
class Budget:
    """What a model may cost: FLOPs of one image forward, or parameters; head and pooling included.

    Args:
        flops: FLOPs of one image through the model, a multiply-add counted as two.
        parameters: Number of parameters. Give one of the two.

    Raises:
        ValueError: If neither or both are given, or it is not positive.

    Example:

    >>> from keras_vit_scale import ViTConfig
    >>> from keras_vit_scale.tuning import Budget
    >>> Budget(flops=1e6).holds(ViTConfig(32, 1, 128, 2, 4), image_size=8, num_classes=10)
    True
    """

    flops: float | None = None
    parameters: float | None = None

    def __post_init__(self):
        given = {n: v for n, v in vars(self).items() if v is not None}
        if len(given) != 1:
            raise ValueError(
                "A budget is of `flops` (of one image forward) or of `parameters`: give one of "
                f"them. Received: flops={self.flops}, parameters={self.parameters}"
            )
        check_positive(**given)

    def cost(self, shape: ViTConfig, image_size: int, pooling: str, num_classes: int | None) -> int:
        """What a model costs, in the budget's unit."""
        count = forward_flops if self.flops is not None else parameters
        return count(shape, image_size, pooling=pooling, num_classes=num_classes)

    def holds(
        self,
        shape: ViTConfig,
        image_size: int,
        pooling: str = "map",
        num_classes: int | None = None,
    ) -> bool:
        """Whether a model costs no more."""
        return self.cost(shape, image_size, pooling, num_classes) <= self.limit

    @property
    def limit(self) -> float:
        """The number that was given."""
        return next(float(v) for v in (self.flops, self.parameters) if v is not None)

    def __str__(self):
        unit = "parameters" if self.flops is None else "FLOPs an image"
        return f"{self.limit:,.0f} {unit}"


def largest_shape(
    budget: Budget,
    image_size: int,
    *,
    patch_size: int,
    aspect: float,
    mlp_ratio: float = 4.0,
    head_dim: int = 64,
    pooling: str = "map",
    num_classes: int | None = None,
) -> ViTConfig:
    """The largest shape of about a given aspect that a budget holds.

    Of the shapes that the budget holds, but with neither one head nor one block more, it is the
    one whose aspect is nearest to the one that is asked for, as ratios. So all shapes of a search
    cost about the same, and one that is better is no larger one.

    Args:
        budget: What the model may cost.
        image_size: Side of the images in pixels, a multiple of `patch_size`.
        patch_size: Side of the patches in pixels.
        aspect: Width over depth. Of Table 2: Ti 16, S 32, B 64, L 43, g and G 35.
        mlp_ratio: Width of the MLP over that of the model, rounded to whole numbers.
        head_dim: Features of an attention head.
        pooling: "map", "gap" or "token".
        num_classes: Classes of the head; `None` for no head.

    Raises:
        ValueError: If a number is not positive, or the smallest shape, one block of one head,
            costs more than the budget.

    Example:

    >>> from keras_vit_scale.tuning import Budget, largest_shape
    >>> largest_shape(Budget(parameters=22e6), 224, patch_size=16, aspect=32, pooling="gap")
    ViTConfig(width=384, depth=12, mlp_dim=1536, heads=6, patch_size=16)
    """
    check_one_of(POOLINGS, pooling=pooling)
    check_positive(aspect=aspect, mlp_ratio=mlp_ratio)
    check_positive_integers(image_size=image_size, patch_size=patch_size, head_dim=head_dim)

    def shape(heads, depth):
        width = heads * head_dim
        return ViTConfig(width, depth, max(1, round(mlp_ratio * width)), heads, patch_size)

    def holds(heads, depth):
        return budget.holds(shape(heads, depth), image_size, pooling, num_classes)

    if not holds(1, 1):
        cost = budget.cost(shape(1, 1), image_size, pooling, num_classes)
        raise ValueError(
            "A budget must hold the smallest model, one block of one head: raise it, or take "
            "larger patches, a smaller `head_dim` or `mlp_ratio`. Received: a budget of "
            f"{budget}, the model costs {cost:,} at patch_size={patch_size}, "
            f"head_dim={head_dim}, mlp_ratio={mlp_ratio:g}"
        )
    too_many = 2
    while holds(too_many, 1):
        too_many *= 2

    def most_heads(depth):
        return bisect.bisect_left(range(1, too_many), True, key=lambda h: not holds(h, depth))

    shapes, depth, heads = [], 1, most_heads(1)
    while heads:
        deeper = most_heads(depth + 1)
        if deeper < heads:  # neither wider nor deeper fits
            shapes.append(shape(heads, depth))
            if shapes[-1].width <= aspect * depth:
                break  # behind the first that is too narrow none is nearer
        depth, heads = depth + 1, deeper
    return min(shapes, key=lambda s: abs(math.log(s.width / s.depth / aspect)))
