"""A model with the moving averages of its weights, for as long as it is judged or saved."""

import contextlib
from collections.abc import Iterator, Sequence

import keras

from keras_vit_scale.training.callbacks.steps import own_optimizer
from keras_vit_scale.training.checkpoints.state import kept_copy
from keras_vit_scale.types import Tensor


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Gives a compiled model the averages of its weights; afterwards it has the weights again.

    The averages are those that its optimizer keeps with `use_ema`: with weights w after
    each step and b = `ema_momentum`,

        a = w after the first step, then a = b a + (1 - b) w

    so that a is the mean over about the last 1 / (1 - b) steps, exponentially weighted:
    Polyak averaging as it can be kept up in one array a weight. A model whose optimizer
    keeps none is left as it is. Not for use within `fit`.

    Raises:
        ValueError: If the model is not compiled.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging",
    SIAM J. Control and Optimization 30 (1992).

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import Momentum
    >>> from keras_vit_scale.training import averaged
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.compile(Momentum(0.1, use_ema=True, ema_momentum=0.5, ema_at_end=False), loss="mse")
    >>> _ = model.fit(np.ones((6, 1)), np.ones((6, 1)), batch_size=1, verbose=0)
    >>> weight = float(model.get_weights()[0][0, 0])
    >>> with averaged(model):
    ...     average = float(model.get_weights()[0][0, 0])
    >>> average != weight, weight == float(model.get_weights()[0][0, 0])
    (True, True)
    """
    optimizer = own_optimizer(model)
    if not (optimizer.use_ema and optimizer.built):
        yield
        return
    weights, averages = optimizer._trainable_variables, optimizer._model_variables_moving_average
    with having([(w, kept_copy(a)) for w, a in zip(weights, averages, strict=True)]):
        yield


@contextlib.contextmanager
def having(values: Sequence[tuple[keras.Variable, Tensor]]) -> Iterator[None]:
    """Gives variables other values; afterwards they have their own again."""
    # Copies: JAX gives the memory of an array away that two variables might share.
    kept = [(variable, kept_copy(variable)) for variable, _ in values]
    try:
        for variable, value in values:
            variable.assign(value)
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def ends_with_averages(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether Keras puts averages in place of the weights when a `fit` ends."""
    return bool(optimizer.use_ema) and getattr(optimizer, "ema_at_end", True)
