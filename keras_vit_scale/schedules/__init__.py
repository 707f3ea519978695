"""Learning-rate schedules as products of pure factors, and durations in steps."""

from keras_vit_scale.schedules.constant import Constant
from keras_vit_scale.schedules.durations import steps
from keras_vit_scale.schedules.fixed_length import Cosine, Linear
from keras_vit_scale.schedules.reciprocal_sqrt import ReciprocalSqrt
from keras_vit_scale.schedules.schedule import Schedule

__all__ = ["Constant", "Cosine", "Linear", "ReciprocalSqrt", "Schedule", "steps"]
