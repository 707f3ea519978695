"""Optimizers that keep little state, with decoupled weight decay."""

from keras_vit_scale.optimizers.adafactor import Adafactor
from keras_vit_scale.optimizers.adamw import AdamW
from keras_vit_scale.optimizers.decay import head_and_body
from keras_vit_scale.optimizers.momentum import Momentum

__all__ = ["Adafactor", "AdamW", "Momentum", "head_and_body"]
