"""Near-duplicates: perceptual hashes, the search for near ones, and lists of what is to go."""

from keras_vit_scale.data.near_duplicates.calibration import Calibration, calibrate
from keras_vit_scale.data.near_duplicates.deduplicate import PartsMissingError, deduplicate
from keras_vit_scale.data.near_duplicates.exclusions import (
    Excluding,
    Exclusions,
    read_exclusions,
)
from keras_vit_scale.data.near_duplicates.hashing import perceptual_hash

__all__ = [
    "Calibration",
    "Excluding",
    "Exclusions",
    "PartsMissingError",
    "calibrate",
    "deduplicate",
    "perceptual_hash",
    "read_exclusions",
]
