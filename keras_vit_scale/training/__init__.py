"""The recipe on top of Keras' fit: losses, callbacks and checkpoints."""

import importlib
from typing import TYPE_CHECKING

from keras_vit_scale.losses import SigmoidCrossEntropy

if TYPE_CHECKING:
    from keras_vit_scale.training.averaging import averaged
    from keras_vit_scale.training.callbacks import (
        Cooldown,
        CSVLog,
        EvaluateEvery,
        FewShotEvery,
        FiniteLoss,
        LearningRate,
        LossSpikes,
        Norms,
        StepCallback,
        StepLogger,
        TensorBoardLog,
        Throughput,
        WandbLog,
    )
    from keras_vit_scale.training.callbacks.checkpoints import Checkpoints
    from keras_vit_scale.training.checkpoints import CheckpointStore, Keep
    from keras_vit_scale.training.diverged import DivergedError
    from keras_vit_scale.training.stopping import Stopped, Stopping

__all__ = [
    "CSVLog",
    "CheckpointStore",
    "Checkpoints",
    "Cooldown",
    "DivergedError",
    "EvaluateEvery",
    "FewShotEvery",
    "FiniteLoss",
    "Keep",
    "LearningRate",
    "LossSpikes",
    "Norms",
    "SigmoidCrossEntropy",
    "StepCallback",
    "StepLogger",
    "Stopped",
    "Stopping",
    "TensorBoardLog",
    "Throughput",
    "WandbLog",
    "averaged",
]


#: Where names are that are not in `callbacks`.
_FILES = {
    "averaged": "averaging",
    "CheckpointStore": "checkpoints",
    "Checkpoints": "callbacks.checkpoints",
    "DivergedError": "diverged",
    "Keep": "checkpoints",
    "Stopped": "stopping",
    "Stopping": "stopping",
}


def __getattr__(name):
    # A saved model needs none of them, so they are imported when they are first used.
    if name in __all__:
        file = _FILES.get(name, "callbacks")
        return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
