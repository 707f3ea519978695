"""The paper's unit of compute, the TPUv3 core-day, in FLOPs."""

from keras_vit_scale.types import Number

#: FLOP/s that one TPUv3 core sustained, as the published cost of g/14 implies: 210,000
#: core-hours for 16 billion images of 533.1 GFLOPs forward, a step counted as three
#: forward passes. That is 3.4e13, 55 % of the core's peak.
TPUV3_CORE_FLOPS = 3 * 533.1e9 * 16e9 / (210_000 * 3600)

_SECONDS_A_DAY = 86_400


def tpuv3_core_days(flops: Number) -> Number:
    """Training FLOPs as TPUv3 core-days at the rate of g/14 in the paper.

    A convention for comparing with the paper, not a promise of speed: every model
    is taken to run at that rate.

    Example:

    >>> from keras_vit_scale.planning import tpuv3_core_days
    >>> round(tpuv3_core_days(3 * 533.1e9 * 16e9) * 24)
    210000
    """
    return flops / (TPUV3_CORE_FLOPS * _SECONDS_A_DAY)
