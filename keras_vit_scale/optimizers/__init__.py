"""Optimizers that keep little state, with decoupled weight decay."""

from keras_vit_scale.optimizers.adafactor import Adafactor
from keras_vit_scale.optimizers.adamw import AdamW
from keras_vit_scale.optimizers.decay import head_and_body

__all__ = ["Adafactor", "AdamW", "head_and_body"]
