"""Sources of images, preprocessing, augmentation and batches."""

from keras_vit_scale.data.array_record import ArrayRecordShards
from keras_vit_scale.data.arrow import HuggingFaceDataset, ParquetShards
from keras_vit_scale.data.augment import Augmentation
from keras_vit_scale.data.decode import BadImageError, read_image
from keras_vit_scale.data.folder import ImageFolder
from keras_vit_scale.data.hierarchy import WithAncestors
from keras_vit_scale.data.labels import label_lists
from keras_vit_scale.data.mixture import Mixture
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
from keras_vit_scale.data.nested import subset
from keras_vit_scale.data.npz import open_npz
from keras_vit_scale.data.pipeline import eval_batches, train_batches
from keras_vit_scale.data.preprocessing import EvalTransform, TrainTransform
from keras_vit_scale.data.replacing import ReplaceBad, TooManyBadImagesError
from keras_vit_scale.data.resizing import resize
from keras_vit_scale.data.shards import BadShardError
from keras_vit_scale.data.sources import ArraySource, Source, Subset, digits
from keras_vit_scale.data.splits import hold_out, hold_out_classes
from keras_vit_scale.data.tar import TarShards
from keras_vit_scale.data.tfds import TFDSSource
from keras_vit_scale.data.tfrecord import TFRecordShards

__all__ = [
    "ArrayRecordShards",
    "ArraySource",
    "Augmentation",
    "BadImageError",
    "BadShardError",
    "Calibration",
    "EvalTransform",
    "Excluding",
    "Exclusions",
    "HuggingFaceDataset",
    "ImageFolder",
    "Mixture",
    "ParquetShards",
    "PartsMissingError",
    "ReplaceBad",
    "Source",
    "Subset",
    "TFDSSource",
    "TFRecordShards",
    "TarShards",
    "TooManyBadImagesError",
    "TrainTransform",
    "WithAncestors",
    "calibrate",
    "deduplicate",
    "digits",
    "eval_batches",
    "hold_out",
    "hold_out_classes",
    "label_lists",
    "open_npz",
    "open_source",
    "perceptual_hash",
    "read_exclusions",
    "read_image",
    "resize",
    "subset",
    "train_batches",
]
