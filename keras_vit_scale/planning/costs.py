"""What training a model costs, for tables of results."""

from typing import Any

from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.planning.compute import tpuv3_core_days
from keras_vit_scale.planning.flops import forward_flops, training_flops
from keras_vit_scale.planning.parameters import parameters


def training_costs(
    config: ViTConfig,
    image_size: int | tuple[int, int],
    images: int,
    *,
    pooling: str | None = None,
    num_classes: int | None = None,
) -> dict[str, float]:
    """Images seen, parameters, FLOPs and TPUv3 core-days of training on `images` images.

    Args:
        config, image_size, pooling, num_classes: As in `forward_flops`.
        images: Images seen, repeats counted.

    Raises:
        ValueError: As `forward_flops`.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.planning import training_costs
    >>> costs = training_costs(preset("g/14"), 224, 16_000_000_000)
    >>> costs["parameters"] // 10**6, round(costs["tpuv3_core_days"] * 24, -3)
    (1011, 210000.0)
    """
    shape: dict[str, Any] = {"pooling": pooling, "num_classes": num_classes}
    flops = training_flops(forward_flops(config, image_size, **shape), images)
    return {
        "images_seen": images,
        "parameters": parameters(config, image_size, **shape),
        "flops": flops,
        "tpuv3_core_days": tpuv3_core_days(flops),
    }
