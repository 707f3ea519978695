"""Vision Transformers at scale in Keras 3.

Models, the training recipe and the scaling laws of "Scaling Vision Transformers"
(Zhai, Kolesnikov, Houlsby, Beyer, arXiv 2106.04560).

What Keras must know to load a saved model is imported at once; `data`, `distribution`,
`evaluation`, `planning`, `runs`, `scaling`, `tuning`, `weights` and the callbacks of `training`
when they are first used.
"""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    backends = ("jax", "tensorflow", "torch")
    backend = (error.name or "").partition(".")[0]
    if backend not in backends:
        raise
    installed = [name for name in backends if importlib.util.find_spec(name)]
    cure = f"KERAS_BACKEND={installed[0]}" if installed else "KERAS_BACKEND=jax, and install jax"
    raise ModuleNotFoundError(
        f"Keras is set to the backend {backend!r}, which is not installed. Before Python "
        f"starts, or before keras is imported, set the environment variable {cure}. "
        f"Received: installed backends {installed}",
        name=error.name,
    ) from None

from keras_vit_scale.models import (
    SIZES,
    TABLE_2,
    ViT,
    ViT_B16,
    ViT_B28,
    ViT_B32,
    ViT_G14,
    ViT_g14,
    ViT_L16,
    ViT_S16,
    ViT_s16,
    ViT_s28,
    ViT_S32,
    ViT_Ti16,
    ViTConfig,
    preset,
)
from keras_vit_scale.optimizers import Adafactor, AdamW, Momentum, head_and_body
from keras_vit_scale.schedules import Constant, Cosine, Linear, ReciprocalSqrt
from keras_vit_scale.training import SigmoidCrossEntropy

if TYPE_CHECKING:
    from keras_vit_scale import (
        data,
        distribution,
        evaluation,
        planning,
        runs,
        scaling,
        tuning,
        weights,
    )
    from keras_vit_scale.evaluation import FewShot, load_classifier
    from keras_vit_scale.runs import FineTune
    from keras_vit_scale.training import Cooldown
    from keras_vit_scale.weights import from_pretrained, load_weights_from, save_weights_as

__version__ = "0.2.0"

__all__ = [
    "SIZES",
    "TABLE_2",
    "Adafactor",
    "AdamW",
    "Constant",
    "Cooldown",
    "Cosine",
    "FewShot",
    "FineTune",
    "Linear",
    "Momentum",
    "ReciprocalSqrt",
    "SigmoidCrossEntropy",
    "ViT",
    "ViTConfig",
    "ViT_B16",
    "ViT_B28",
    "ViT_B32",
    "ViT_G14",
    "ViT_L16",
    "ViT_S16",
    "ViT_S32",
    "ViT_Ti16",
    "ViT_g14",
    "ViT_s16",
    "ViT_s28",
    "data",
    "distribution",
    "evaluation",
    "from_pretrained",
    "head_and_body",
    "load_classifier",
    "load_weights_from",
    "planning",
    "preset",
    "runs",
    "save_weights_as",
    "scaling",
    "training",
    "tuning",
    "weights",
]

_PARTS = (
    "data",
    "distribution",
    "evaluation",
    "planning",
    "runs",
    "scaling",
    "tuning",
    "weights",
)

_LATER = {
    "Cooldown": "training",
    "FewShot": "evaluation",
    "FineTune": "runs",
    "from_pretrained": "weights",
    "load_classifier": "evaluation",
    "load_weights_from": "weights",
    "save_weights_as": "weights",
}


def __getattr__(name):
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    # With name and module, from which Python suggests a name that is meant.
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


def __dir__():
    return __all__
