"""Other projects' weights, in and out.

`from_pretrained` makes a model of a file, `load_weights_from` fills a model from one,
`save_weights_as` writes one. Each project is a table: our names, theirs, and how an array lies.
"""

from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.loading import from_pretrained, load_weights_from
from keras_vit_scale.weights.resampling import resample_patches, resample_positions
from keras_vit_scale.weights.saving import save_weights_as

__all__ = [
    "WeightsError",
    "from_pretrained",
    "load_weights_from",
    "resample_patches",
    "resample_positions",
    "save_weights_as",
]
