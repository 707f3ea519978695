"""A function applied to stacked weights slice by slice, compiled once for all of them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_vit_scale.types import Tensor


def scan(f: Callable[[Tensor, Any], Tensor], x: Tensor, stacks: Any) -> Tensor:
    """What `x = f(x, w)` ends with, for every slice `w` of `stacks` along their first axis.

    Args:
        f: A function of a tensor and a nest of tensors to a tensor like the first.
        x: The tensor that it begins with.
        stacks: A nest of tensors whose first axes have one length.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.scan(lambda x, w: (f(x, w), None), x, stacks)[0]
    import tensorflow as tf

    # XLA, which Keras takes on a GPU, differentiates only a loop whose length it knows; that of
    # `ops.scan` (Keras 3.15) does not tell it.
    flat = keras.tree.flatten(stacks)
    length = flat[0].shape[0]
    arrays = [tf.TensorArray(v.dtype, length, element_shape=v.shape[1:]).unstack(v) for v in flat]

    def step(i, x):
        w = keras.tree.pack_sequence_as(stacks, [array.read(i) for array in arrays])
        return i + 1, f(x, w)

    return tf.while_loop(lambda i, x: i < length, step, (0, x), maximum_iterations=length)[1]
