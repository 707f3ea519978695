"""What a model costs, known before it is built: parameters, FLOPs, core-days, memory."""

from keras_vit_scale.planning.accelerators import (
    ACCELERATORS,
    TYPICAL_MFU,
    Accelerator,
    accelerator,
    recognised,
    this_accelerator,
)
from keras_vit_scale.planning.collectives import Collective
from keras_vit_scale.planning.compute import TPUV3_CORE_FLOPS, tpuv3_core_days
from keras_vit_scale.planning.costs import training_costs
from keras_vit_scale.planning.estimate import Estimate, Estimator, estimate
from keras_vit_scale.planning.flops import forward_flops, training_flops
from keras_vit_scale.planning.largest_batch import LargestBatch, max_batch
from keras_vit_scale.planning.memory import Memory
from keras_vit_scale.planning.parameters import parameters
from keras_vit_scale.planning.shapes import FIGURE_8, Setting, search_shapes
from keras_vit_scale.planning.shapes_picture import draw_shapes
from keras_vit_scale.planning.step import (
    CompiledStep,
    LoweredStep,
    OutOfMemoryError,
    StepMemory,
    StepPlan,
    compile_step,
    lower_step,
)
from keras_vit_scale.planning.table import presets_table
from keras_vit_scale.planning.topologies import TPU_KINDS, tpu_devices

__all__ = [
    "ACCELERATORS",
    "FIGURE_8",
    "TPUV3_CORE_FLOPS",
    "TPU_KINDS",
    "TYPICAL_MFU",
    "Accelerator",
    "Collective",
    "CompiledStep",
    "Estimate",
    "Estimator",
    "LargestBatch",
    "LoweredStep",
    "Memory",
    "OutOfMemoryError",
    "Setting",
    "StepMemory",
    "StepPlan",
    "accelerator",
    "compile_step",
    "draw_shapes",
    "estimate",
    "forward_flops",
    "lower_step",
    "max_batch",
    "parameters",
    "presets_table",
    "recognised",
    "search_shapes",
    "this_accelerator",
    "tpu_devices",
    "tpuv3_core_days",
    "training_costs",
    "training_flops",
]
