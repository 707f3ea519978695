"""Training runs: one run is one directory. Fine-tuning is one or more of them."""

from keras_vit_scale.runs.branching import branch
from keras_vit_scale.runs.config import TrainConfig, load_run_config
from keras_vit_scale.runs.fine_tune import FineTune
from keras_vit_scale.runs.fine_tune_run import fine_tune
from keras_vit_scale.runs.run import RunError, train
from keras_vit_scale.runs.start import model_file
from keras_vit_scale.runs.tasks import Task, fine_tune_tasks, load_tasks, summary

__all__ = [
    "FineTune",
    "RunError",
    "Task",
    "TrainConfig",
    "branch",
    "fine_tune",
    "fine_tune_tasks",
    "load_run_config",
    "load_tasks",
    "model_file",
    "summary",
    "train",
]
