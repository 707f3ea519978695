"""Learning-rate schedules as products of pure factors."""

from keras_vit_scale.schedules.reciprocal_sqrt import ReciprocalSqrt

__all__ = ["ReciprocalSqrt"]
