"""Sources of images, preprocessing, augmentation and batches."""

from keras_vit_scale.data.augment import Augmentation
from keras_vit_scale.data.decode import BadImageError, read_image
from keras_vit_scale.data.folder import ImageFolder
from keras_vit_scale.data.named import open_source
from keras_vit_scale.data.near_duplicates import (
    Calibration,
    Excluding,
    Exclusions,
    PartsMissingError,
    calibrate,
    deduplicate,
    perceptual_hash,
    read_exclusions,
)
from keras_vit_scale.data.npz import open_npz
from keras_vit_scale.data.pipeline import eval_batches, train_batches
from keras_vit_scale.data.preprocessing import EvalTransform, TrainTransform
from keras_vit_scale.data.replacing import ReplaceBad, TooManyBadImagesError
from keras_vit_scale.data.sources import ArraySource, Source, Subset, digits
from keras_vit_scale.data.splits import hold_out, hold_out_classes
from keras_vit_scale.data.tfds import TFDSSource

__all__ = [
    "ArraySource",
    "Augmentation",
    "BadImageError",
    "Calibration",
    "EvalTransform",
    "Excluding",
    "Exclusions",
    "ImageFolder",
    "PartsMissingError",
    "ReplaceBad",
    "Source",
    "Subset",
    "TFDSSource",
    "TooManyBadImagesError",
    "TrainTransform",
    "calibrate",
    "deduplicate",
    "digits",
    "eval_batches",
    "hold_out",
    "hold_out_classes",
    "open_npz",
    "open_source",
    "perceptual_hash",
    "read_exclusions",
    "read_image",
    "train_batches",
]
