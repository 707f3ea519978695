"""The loss of the paper's pre-training."""

import keras
import numpy as np
from keras import ops

from keras_vit_scale.checks import check_numbers


def sigmoid_cross_entropy(targets, logits):
    """Binary cross-entropy of every class, (B, C), stable for large logits."""
    return ops.maximum(logits, 0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))


def listed_cross_entropy(lists, logits, smoothing=0.0):
    """The cross-entropies of label lists (B, k), summed over the classes: (B,).

    No target is made of all C classes: with each class first taken for a negative, of target
    s / 2, a listed one adds what being a positive changes, -(1 - s) logit, and an ignored one,
    -2 - c, takes its own term off. What is a second time in a list, or no class, adds nothing.
    """
    classes = logits.shape[-1]
    on, ignored = lists >= 0, lists < -1
    index = ops.where(ignored, -2 - lists, lists)
    # (B, k, k): whether an entry is that of an earlier place of the list.
    same = ops.expand_dims(index, 2) == ops.expand_dims(index, 1)
    again = ops.any(ops.logical_and(same, np.tri(lists.shape[-1], k=-1, dtype=bool)), axis=2)
    counted = ops.logical_and(index >= 0, index < classes)
    counted = ops.logical_and(counted, ops.logical_not(again))
    listed = ops.take_along_axis(logits, ops.clip(index, 0, classes - 1), axis=-1)
    negative = sigmoid_cross_entropy(0.5 * smoothing, listed)
    change = ops.where(on, -(1.0 - smoothing) * listed, -negative)
    all_negative = ops.sum(sigmoid_cross_entropy(0.5 * smoothing, logits), axis=-1)
    return all_negative + ops.sum(ops.where(counted, change, 0.0), axis=-1)


def smoothed(targets, smoothing):
    """Targets in [0, 1] drawn towards 1/2: `t (1 - s) + s / 2`.

    Each class is a question of its own, yes or no, so its smoothing does not depend
    on the number of classes, unlike that of a softmax.
    """
    return targets * (1.0 - smoothing) + 0.5 * smoothing


@keras.saving.register_keras_serializable("keras_vit_scale")
class SigmoidCrossEntropy(keras.losses.Loss):
    """Sigmoid cross-entropy of logits, summed over the classes, averaged over the batch.

    `keras.losses.BinaryCrossentropy` averages over the classes instead, which
    divides the gradient by their number.

    It is computed in float32 also where the logits are float16 or bfloat16, which
    could hold neither a sum over 29,593 classes nor their indices.

    Args:
        label_smoothing: s in [0, 1]: every target t becomes `t (1 - s) + s / 2`, as
            in `keras.losses.BinaryCrossentropy`. The paper uses none.
        reduction, name: As in any Keras loss.
        dtype: "float32" or "float64"; `None` for Keras' `floatx`, but never less
            than float32.

    Call arguments:
        y_true: Class indices (B,) or (B, 1); lists of them, (B, k, 1), filled up with -1; or
            targets in [0, 1], (B, C): one-hot, multi-hot or soft. They are told apart
            by the shape. An index outside [0, C) stands for no class at all, but for
            -2 - c in a list: class c has no loss. Lists are never spread over the
            classes, of which there may be many thousands.
        y_pred: Logits, (B, C).

    Raises:
        ValueError: If the smoothing is out of its range, the dtype is a half one, or
            the shapes of a call do not belong together.

    Source: Zhai et al., arXiv 2106.04560, section 3 and Appendix B.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale import SigmoidCrossEntropy
    >>> loss = SigmoidCrossEntropy()(np.array([2, 0]), np.zeros((2, 3), "float32"))
    >>> bool(np.isclose(float(loss), 3 * np.log(2)))
    True
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str = "sigmoid_cross_entropy",
        dtype: str | None = None,
    ):
        check_numbers("in [0, 1]", lambda s: 0 <= s <= 1, label_smoothing=label_smoothing)
        if dtype is None:
            dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if self.dtype not in ("float32", "float64"):
            # Keras would cast labels to it too: bfloat16 makes class 29,592 class 29,568.
            raise ValueError(
                "The loss is computed in 'float32' or 'float64'; half logits are taken as they "
                f"are and need no dtype here. Received: dtype={dtype!r}"
            )
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, self.dtype)
        classes = y_pred.shape[-1]
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == classes:
            targets = ops.cast(y_true, y_pred.dtype)
        elif len(y_true.shape) == 1 or (len(y_true.shape) == 2 and y_true.shape[-1] == 1):
            indices = ops.cast(ops.reshape(y_true, (-1, 1)), "int32")
            # Not `one_hot`: it raises on some backends for an index outside the classes.
            targets = ops.cast(indices == ops.arange(classes, dtype="int32"), y_pred.dtype)
        elif len(y_true.shape) == 3 and y_true.shape[-1] == 1:
            lists = ops.cast(ops.squeeze(y_true, -1), "int32")
            return listed_cross_entropy(lists, y_pred, self.label_smoothing)
        else:
            raise ValueError(
                "Labels must be class indices, (B,) or (B, 1), lists of them, (B, k, 1), or "
                "targets of the logits' shape. "
                f"Received: labels of shape {tuple(y_true.shape)}, "
                f"logits of shape {tuple(y_pred.shape)}"
            )
        if self.label_smoothing:
            targets = smoothed(targets, self.label_smoothing)
        return ops.sum(sigmoid_cross_entropy(targets, y_pred), axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "dtype": self.dtype,
        }
