"""What a model costs, known before it is built: parameters, FLOPs, core-days."""

from keras_vit_scale.planning.accelerators import (
    ACCELERATORS,
    Accelerator,
    accelerator,
    recognised,
    this_accelerator,
)
from keras_vit_scale.planning.compute import TPUV3_CORE_FLOPS, tpuv3_core_days
from keras_vit_scale.planning.costs import training_costs
from keras_vit_scale.planning.flops import forward_flops, training_flops
from keras_vit_scale.planning.parameters import parameters
from keras_vit_scale.planning.table import presets_table

__all__ = [
    "ACCELERATORS",
    "TPUV3_CORE_FLOPS",
    "Accelerator",
    "accelerator",
    "forward_flops",
    "parameters",
    "presets_table",
    "recognised",
    "this_accelerator",
    "tpuv3_core_days",
    "training_costs",
    "training_flops",
]
