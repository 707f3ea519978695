"""Norms of weights and gradients, for the logs."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_vit_scale.optimizers.decoupled import weight_axes
from keras_vit_scale.training.callbacks.steps import StepCallback, own_optimizer
from keras_vit_scale.types import Logs


def weight_norms(variables: Sequence[keras.Variable], per_layer: bool = False) -> dict[str, float]:
    """Euclidean norms of variables taken together: of all, and if asked of every layer.

    Args:
        variables: The variables. One with a `stack_axis` holds the weights of many
            blocks, and each block counts as a layer.
        per_layer: Whether to add the layers' norms.

    Returns:
        "weight_norm" and, by path of the layer, "weight_norm/head" or, block 3 of a
        stack, "weight_norm/encoder/3".
    """
    layers, squares = [], []
    for v in variables:
        layer = v.path.rpartition("/")[0] or v.path
        stack = getattr(v, "stack_axis", None)
        square = ops.sum(ops.square(ops.cast(v, "float32")), axis=weight_axes(v))
        squares.append(ops.reshape(square, (-1,)))
        blocks = 1 if stack is None else v.shape[stack]
        layers += [layer if stack is None else f"{layer}/{i}" for i in range(blocks)]
    # One transfer from the device for all of them.
    squares = ops.convert_to_numpy(ops.concatenate(squares)).astype("float64")
    norms = {"weight_norm": float(np.sqrt(squares.sum()))}
    if per_layer:
        sums = dict.fromkeys(layers, 0.0)
        for layer, square in zip(layers, squares, strict=True):
            sums[layer] += square
        norms |= {f"weight_norm/{layer}": float(np.sqrt(s)) for layer, s in sums.items()}
    return norms


class Norms(StepCallback):
    """Adds the norms of the weights, and that of the gradient, to `logs` every N steps.

    "weight_norm" is that of all trainable weights; "gradient_norm" that of the last
    gradient as the optimizer recorded it, before clipping.

    Args:
        every: N, in steps; that of the logger after it.
        gradients: Whether to add the gradient's. The optimizer must record it, as
            `Adafactor(record_norms=True)` does.
        per_layer: Whether to add "weight_norm/<layer>" for each layer, and each
            block of a stack.

    Raises:
        ValueError: If `every` is no positive integer; when training begins, if the
            gradient's norm is wanted of an optimizer that does not record it.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale.training import Norms
    >>> ones = keras.layers.Dense(2, kernel_initializer="ones", name="head")
    >>> model = keras.Sequential([keras.Input((8,)), ones])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> norms = Norms(every=1, gradients=False)
    >>> run = model.fit(np.zeros((2, 8)), np.zeros((2, 2)), verbose=0, callbacks=[norms])
    >>> run.history["weight_norm"]
    [4.0]
    """

    def __init__(self, every: int, *, gradients: bool = True, per_layer: bool = False):
        super().__init__(every)
        self.gradients, self.per_layer = gradients, per_layer

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if not self.gradients:
            return
        model = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        if getattr(own_optimizer(model), "gradient_norm", None) is None:
            raise ValueError(
                "The optimizer must record the gradient's norm, as Adafactor(record_norms=True) "
                "does; or set `gradients=False`. "
                f"Received: an optimizer {type(own_optimizer(model)).__name__} without it"
            )

    def on_step(self, step: int, logs: Logs) -> None:
        model = self.model
        logs.update(weight_norms(model.trainable_variables, self.per_layer))
        if self.gradients:
            logs["gradient_norm"] = float(ops.convert_to_numpy(own_optimizer(model).gradient_norm))
