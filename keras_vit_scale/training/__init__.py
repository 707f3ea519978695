"""The recipe on top of Keras' fit: losses, callbacks and checkpoints."""

import importlib

from keras_vit_scale.training.losses import SigmoidCrossEntropy

_CALLBACKS = [
    "CSVLog",
    "Cooldown",
    "EvaluateEvery",
    "FewShotEvery",
    "LearningRate",
    "Norms",
    "StepCallback",
    "StepLogger",
    "TensorBoardLog",
    "Throughput",
    "WandbLog",
]

__all__ = ["SigmoidCrossEntropy", "averaged", *_CALLBACKS]


def __getattr__(name):
    # A saved model needs none of them, so they are imported when they are first used.
    if name in _CALLBACKS:
        return getattr(importlib.import_module(f"{__name__}.callbacks"), name)
    if name == "averaged":
        return importlib.import_module(f"{__name__}.averaging").averaged
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
