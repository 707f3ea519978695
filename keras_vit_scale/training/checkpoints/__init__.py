"""Checkpoints of training: exact, whole or not there, the same on every backend."""

from keras_vit_scale.training.checkpoints.manifest import CheckpointError
from keras_vit_scale.training.checkpoints.restoring import Restored, restore_folder
from keras_vit_scale.training.checkpoints.state import training_state
from keras_vit_scale.training.checkpoints.store import CheckpointStore, Keep

__all__ = [
    "CheckpointError",
    "CheckpointStore",
    "Keep",
    "Restored",
    "restore_folder",
    "training_state",
]
