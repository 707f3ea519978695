"""Callbacks that count in steps of the optimizer: evaluation, cooldown, speed, norms, logs."""

from keras_vit_scale.training.callbacks.cooldown import Cooldown
from keras_vit_scale.training.callbacks.csv_log import CSVLog
from keras_vit_scale.training.callbacks.evaluate import EvaluateEvery, FewShotEvery
from keras_vit_scale.training.callbacks.finite import FiniteLoss
from keras_vit_scale.training.callbacks.learning_rate import LearningRate
from keras_vit_scale.training.callbacks.loss_spikes import LossSpikes
from keras_vit_scale.training.callbacks.norms import Norms
from keras_vit_scale.training.callbacks.step_logger import StepLogger
from keras_vit_scale.training.callbacks.steps import StepCallback, StepCounter
from keras_vit_scale.training.callbacks.tensorboard_log import TensorBoardLog
from keras_vit_scale.training.callbacks.throughput import Throughput
from keras_vit_scale.training.callbacks.wandb_log import WandbLog

__all__ = [
    "CSVLog",
    "Cooldown",
    "EvaluateEvery",
    "FewShotEvery",
    "FiniteLoss",
    "LearningRate",
    "LossSpikes",
    "Norms",
    "StepCallback",
    "StepCounter",
    "StepLogger",
    "TensorBoardLog",
    "Throughput",
    "WandbLog",
]
