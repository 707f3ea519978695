"""Adam with a half-precision first moment and decoupled weight decay."""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_vit_scale.checks import check_one_of, check_positive, check_rates
from keras_vit_scale.optimizers.decoupled import STORED_DTYPES, DecoupledDecay
from keras_vit_scale.types import Tensor


def bias_correction(beta, step):
    """What a running mean from 0 holds of its target after `step` steps: `1 - beta^step`."""
    # As it stands, float32 would leave five digits of it for 0.999 and step 1.
    return -ops.expm1(math.log(beta) * step) if beta else 1.0


@keras.saving.register_keras_serializable("keras_vit_scale")
class AdamW(DecoupledDecay):
    """AdamW, one and a half parameters' size of state for a parameter.

    With gradient g (after clipping), t = 1 at the first update and rate lr(t),

        m = beta1 m + (1 - beta1) g                      stored in bfloat16
        v = beta2 v + (1 - beta2) g^2                    stored in float32
        u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
        w = w - lr(t) (u + decay w)

    All of it is computed in float32; the step is taken before m is rounded. This
    is the paper's alternative to `Adafactor`: 6 bytes of state a parameter, of
    which `keras.optimizers.AdamW` has 8. The second moment stays in float32; the
    paper found bfloat16 to hurt clearly there.

    Unlike `keras.optimizers.AdamW` it adds `epsilon` after the bias correction, as
    the Adam paper's Algorithm 1 does, and decays kernels only.

    Args:
        learning_rate: A float or a schedule.
        weight_decay: `None`; a number, for every kernel; or a mapping of regular
            expressions over variable paths to numbers, first match first, such as
            `head_and_body(3.0, 0.03)`, the paper's. A pattern that decides for no
            variable is an error.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        momentum_dtype: Storage of the first moment, "bfloat16" or "float32".
        name: Name of the optimizer.
        **kwargs: `record_norms`, `skip_nonfinite`, the clips, moving averages, loss scale
            and gradient accumulation, see `DecoupledDecay`.

    Raises:
        ValueError: If a value is out of its range.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, section
    3.4; Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import AdamW
    >>> model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, name="head")])
    >>> model.compile(AdamW(1e-2, weight_decay=0.03), loss="mse")
    >>> _ = model.fit(np.ones((2, 5)), np.ones((2, 3)), verbose=0)
    >>> [(tuple(v.shape), v.dtype) for v in model.optimizer.variables[2:4]]
    [((5, 3), 'bfloat16'), ((5, 3), 'float32')]
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 1e-3,
        *,
        weight_decay: float | Mapping[str, float] | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        momentum_dtype: str = "bfloat16",
        name: str = "adamw",
        **kwargs: Any,
    ):
        check_rates(beta_1=beta_1, beta_2=beta_2)
        check_positive(epsilon=epsilon)
        check_one_of(STORED_DTYPES, momentum_dtype=momentum_dtype)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.momentum_dtype = momentum_dtype

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        # Lists in the order of the variables.
        self._momentums, self._seconds = [], []
        for v in variables:
            self._momentums.append(self.slot(v, "momentum", dtype=self.momentum_dtype))
            self._seconds.append(self.slot(v, "second_moment"))

    def direction(self, gradient: Tensor, index: int) -> Tensor:
        step = ops.cast(self.updates + 1, "float32")
        slot, second_slot = self._momentums[index], self._seconds[index]
        momentum = self.beta_1 * ops.cast(slot, "float32") + (1.0 - self.beta_1) * gradient
        second = self.beta_2 * second_slot + (1.0 - self.beta_2) * ops.square(gradient)
        self.assign(slot, ops.cast(momentum, self.momentum_dtype))
        self.assign(second_slot, second)
        momentum = momentum / bias_correction(self.beta_1, step)
        second = second / bias_correction(self.beta_2, step)
        return momentum / (ops.sqrt(second) + self.epsilon)

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "momentum_dtype": self.momentum_dtype,
        }
