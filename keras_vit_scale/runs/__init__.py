"""Training runs: one run is one directory."""

from keras_vit_scale.runs.config import TrainConfig, load_run_config
from keras_vit_scale.runs.run import RunError, train
from keras_vit_scale.runs.weights import model_file

__all__ = ["RunError", "TrainConfig", "load_run_config", "model_file", "train"]
