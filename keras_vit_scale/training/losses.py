"""The loss of the paper's pre-training."""

import keras
from keras import ops


def sigmoid_cross_entropy(targets, logits):
    """Binary cross-entropy of every class, (B, C), stable for large logits."""
    return ops.maximum(logits, 0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))


@keras.saving.register_keras_serializable("keras_vit_scale")
class SigmoidCrossEntropy(keras.losses.Loss):
    """Sigmoid cross-entropy of logits, summed over the classes, averaged over the batch.

    `keras.losses.BinaryCrossentropy` averages over the classes instead, which
    divides the gradient by their number.

    Call arguments:
        y_true: Class indices (B,) or (B, 1), or targets in [0, 1], (B, C): one-hot
            or multi-hot. Indices are told from targets by the shape. An index
            outside [0, C) stands for no class at all.
        y_pred: Logits, (B, C).

    Raises:
        ValueError: If the shapes do not belong together.

    Source: Zhai et al., arXiv 2106.04560, section 3 and Appendix B.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale import SigmoidCrossEntropy
    >>> loss = SigmoidCrossEntropy()(np.array([2, 0]), np.zeros((2, 3), "float32"))
    >>> bool(np.isclose(float(loss), 3 * np.log(2)))
    True
    """

    def __init__(self, reduction="sum_over_batch_size", name="sigmoid_cross_entropy", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        classes = y_pred.shape[-1]
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == classes:
            targets = ops.cast(y_true, y_pred.dtype)
        elif len(y_true.shape) == 1 or (len(y_true.shape) == 2 and y_true.shape[-1] == 1):
            indices = ops.cast(ops.reshape(y_true, (-1, 1)), "int32")
            # Not `one_hot`: it raises on some backends for an index outside the classes.
            targets = ops.cast(indices == ops.arange(classes, dtype="int32"), y_pred.dtype)
        else:
            raise ValueError(
                "Labels must be class indices, (B,) or (B, 1), or targets of the logits' shape. "
                f"Received: labels of shape {tuple(y_true.shape)}, "
                f"logits of shape {tuple(y_pred.shape)}"
            )
        return ops.sum(sigmoid_cross_entropy(targets, y_pred), axis=-1)

    def get_config(self):
        # The class has no setting of its own besides Keras' reduction, name and dtype.
        return super().get_config()
