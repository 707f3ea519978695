"""Stochastic gradient descent with heavy-ball momentum, as the paper fine-tunes."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_vit_scale.checks import check_one_of, check_rates
from keras_vit_scale.optimizers.decoupled import STORED_DTYPES, DecoupledDecay
from keras_vit_scale.types import Tensor


@keras.saving.register_keras_serializable("keras_vit_scale")
class Momentum(DecoupledDecay):
    """Gradient descent with momentum, half a parameter's size of state for a parameter.

    With gradient g (after clipping) and rate lr(t),

        m = momentum m + g                               stored in bfloat16
        w = w - lr(t) (m + decay w)

    All of it is computed in float32; the step is taken before m is rounded.

    `keras.optimizers.SGD` keeps the rate within its velocity, `v = momentum v - lr(t) g`,
    so that after a change of the rate earlier gradients go on at the rate of their own
    step. Here, as in the authors' code, they take the present rate: the two are the same
    at a constant rate, and differ while it rises and falls. (The authors' code also
    multiplies the rounded m in bfloat16, where 0.9 is 0.8984; this does not.)

    Args:
        learning_rate: A float or a schedule.
        momentum: Part of m that is kept.
        weight_decay: As for any `DecoupledDecay`; the paper fine-tunes with none.
        momentum_dtype: Storage of m, "bfloat16" or "float32".
        name: Name of the optimizer.
        **kwargs: `record_norms`, `skip_nonfinite`, the clips, moving averages, loss scale
            and gradient accumulation, see `DecoupledDecay`. The paper fine-tunes with
            `global_clipnorm=1.0`.

    Raises:
        ValueError: If a value is out of its range.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Appendix D;
    the authors' published code.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import Momentum
    >>> model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    >>> model.compile(Momentum(0.01, global_clipnorm=1.0), loss="mse")
    >>> _ = model.fit(np.ones((2, 5)), np.ones((2, 3)), verbose=0)
    >>> [(tuple(v.shape), v.dtype) for v in model.optimizer.variables[2:]]
    [((5, 3), 'bfloat16'), ((3,), 'bfloat16')]
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.01,
        *,
        momentum: float = 0.9,
        weight_decay: float | Mapping[str, float] | None = None,
        momentum_dtype: str = "bfloat16",
        name: str = "momentum",
        **kwargs: Any,
    ):
        check_rates(momentum=momentum)
        check_one_of(STORED_DTYPES, momentum_dtype=momentum_dtype)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.momentum = momentum
        self.momentum_dtype = momentum_dtype

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        # In the order of the variables.
        self._momentums = [self.slot(v, "momentum", dtype=self.momentum_dtype) for v in variables]

    def direction(self, gradient: Tensor, index: int) -> Tensor:
        slot = self._momentums[index]
        momentum = self.momentum * ops.cast(slot, "float32") + gradient
        self.assign(slot, ops.cast(momentum, self.momentum_dtype))
        return momentum

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "momentum_dtype": self.momentum_dtype,
        }
