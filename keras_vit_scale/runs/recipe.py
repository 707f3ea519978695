"""The optimizer and the loss that a config names."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_vit_scale.losses import SigmoidCrossEntropy
from keras_vit_scale.optimizers import Adafactor, AdamW, Momentum, head_and_body
from keras_vit_scale.runs.plan import Plan
from keras_vit_scale.schedules.schedule import Schedule
from keras_vit_scale.types import Tensor

if TYPE_CHECKING:
    from keras_vit_scale.runs.config import TrainConfig

OPTIMIZERS = {"adafactor": Adafactor, "adamw": AdamW, "momentum": Momentum}


def make_optimizer(
    config: "TrainConfig", plan: Plan, schedule: Schedule, ema_at_end: bool = True
) -> keras.optimizers.Optimizer:
    """The optimizer of a `TrainConfig`, with the averages of the weights that its plan asks for.

    A mean over about the last n steps is one with `ema_momentum` 1 - 1 / n.
    """
    averages: dict[str, Any] = {}
    if plan.average:
        averages = {
            "use_ema": True,
            "ema_momentum": 1.0 - 1.0 / plan.average,
            "ema_at_end": ema_at_end,
        }
    decays = config.head_decay or config.body_decay
    return OPTIMIZERS[config.optimizer](
        schedule,
        weight_decay=head_and_body(config.head_decay, config.body_decay) if decays else None,
        global_clipnorm=config.clip_norm,
        skip_nonfinite=config.on_nonfinite == "skip",
        **averages,
    )


def head_bias(loss: str, classes: int) -> float:
    """The head's bias at first: for the sigmoid loss the log-odds of one class among all.

    The paper's -10 is about that of its 29,593 classes.

    Example:

    >>> from keras_vit_scale.runs.recipe import head_bias
    >>> round(head_bias("sigmoid", 29_593), 2), head_bias("softmax", 10)
    (-10.3, 0.0)
    """
    return -float(np.log(classes - 1)) if loss == "sigmoid" and classes > 1 else 0.0


def loss_function(loss: str, label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that a config names, of class indices (B,) or shares (B, C), and logits (B, C)."""
    if loss == "sigmoid":
        return SigmoidCrossEntropy(label_smoothing=label_smoothing)

    def softmax_cross_entropy(labels, logits):
        classes = logits.shape[-1]
        # Mixed images come with the share of each class.
        mixed = len(labels.shape) == 2 and labels.shape[-1] == classes
        targets = labels if mixed else keras.ops.one_hot(keras.ops.reshape(labels, (-1,)), classes)
        return keras.losses.categorical_crossentropy(
            targets, logits, from_logits=True, label_smoothing=label_smoothing
        )

    return softmax_cross_entropy
