"""Learning-rate schedules as products of pure factors, and durations in steps."""

from keras_vit_scale.schedules.durations import steps
from keras_vit_scale.schedules.reciprocal_sqrt import ReciprocalSqrt

__all__ = ["ReciprocalSqrt", "steps"]
