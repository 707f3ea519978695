"""The recipe on top of Keras' fit: losses, callbacks and checkpoints."""

import importlib
from typing import TYPE_CHECKING

from keras_vit_scale.training.losses import SigmoidCrossEntropy

if TYPE_CHECKING:
    from keras_vit_scale.training.averaging import averaged
    from keras_vit_scale.training.callbacks import (
        Cooldown,
        CSVLog,
        EvaluateEvery,
        FewShotEvery,
        LearningRate,
        Norms,
        StepCallback,
        StepLogger,
        TensorBoardLog,
        Throughput,
        WandbLog,
    )

__all__ = [
    "CSVLog",
    "Cooldown",
    "EvaluateEvery",
    "FewShotEvery",
    "LearningRate",
    "Norms",
    "SigmoidCrossEntropy",
    "StepCallback",
    "StepLogger",
    "TensorBoardLog",
    "Throughput",
    "WandbLog",
    "averaged",
]


def __getattr__(name):
    # A saved model needs none of them, so they are imported when they are first used.
    if name in __all__:
        file = "averaging" if name == "averaged" else "callbacks"
        return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
