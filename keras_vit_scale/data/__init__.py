"""Sources of images, preprocessing and batches."""

from keras_vit_scale.data.decode import read_image
from keras_vit_scale.data.pipeline import eval_batches, train_batches
from keras_vit_scale.data.preprocessing import EvalTransform, TrainTransform
from keras_vit_scale.data.sources import (
    ArraySource,
    ImageFolder,
    Source,
    Subset,
    digits,
    open_source,
)
from keras_vit_scale.data.splits import hold_out, hold_out_classes

__all__ = [
    "ArraySource",
    "EvalTransform",
    "ImageFolder",
    "Source",
    "Subset",
    "TrainTransform",
    "digits",
    "eval_batches",
    "hold_out",
    "hold_out_classes",
    "open_source",
    "read_image",
    "train_batches",
]
