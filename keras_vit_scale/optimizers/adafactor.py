"""The paper's Adafactor: a factored second moment and a half-precision first moment."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_vit_scale.checks import check_fractions, check_numbers, check_one_of, check_positive
from keras_vit_scale.optimizers.decoupled import STORED_DTYPES, DecoupledDecay
from keras_vit_scale.types import Tensor


def beta_2(step, decay_exponent, cap):
    """Decay of the second moment at update `step`, counted from 1: `min(cap, 1 - step^-e)`."""
    return ops.minimum(cap, 1.0 - ops.power(ops.cast(step, "float32"), -decay_exponent))


def factored_axes(
    shape: Sequence[int], min_dim_size: int, stack_axis: int | None = None
) -> tuple[int, int] | None:
    """The second-largest and the largest axis, or `None` where one is below `min_dim_size`.

    The stack axis of an array that holds many weights is none of them.
    """
    axes = sorted((a for a in range(len(shape)) if a != stack_axis), key=lambda a: shape[a])
    if len(axes) < 2 or shape[axes[-2]] < min_dim_size:
        return None
    return axes[-2], axes[-1]


def factored_moments(squared, row, column, decay, axes):
    """New row and column factors: running means of the squared gradient over one axis each."""
    minor, major = axes
    row = decay * row + (1.0 - decay) * ops.mean(squared, axis=major)
    column = decay * column + (1.0 - decay) * ops.mean(squared, axis=minor)
    return row, column


def factored_scale(gradient, row, column, axes):
    """The gradient over the root of the second moment `row x column / mean(row)`."""
    minor, major = axes
    # In `row` the major axis is gone, so the minor one may have moved.
    minor_in_row = minor - (major < minor)
    row = row / ops.mean(row, axis=minor_in_row, keepdims=True)
    row = ops.expand_dims(ops.rsqrt(row), major)
    column = ops.expand_dims(ops.rsqrt(column), minor)
    return gradient * row * column


@keras.saving.register_keras_serializable("keras_vit_scale")
class Adafactor(DecoupledDecay):
    """Adafactor as the paper uses it, half a parameter's size of state for a parameter.

    With gradient g (after clipping), t = 1 at the first update and rate lr(t),

        beta2(t) = min(0.999, 1 - t^-0.8)
        v = beta2 v + (1 - beta2) (g^2 + 1e-30)          factored: row and column means
        u = g / sqrt(v)
        m = 0.9 m + 0.1 u                                stored in bfloat16
        w = w - lr(t) (m + decay w)

    All of it is computed in float32; the step is taken before m is rounded. An
    array is factored over its two largest axes if both reach 32, else it keeps a
    full v. An array that holds one weight for every block (see `Encoder`) has
    statistics per block: its stack axis is never factored.

    Unlike Shazeer and Stern's, and unlike `keras.optimizers.Adafactor`, it does
    not scale the step by the parameter's size, clips no update, keeps a first
    moment, and stores factors only: 2.02 bytes a parameter for ViT-G/14 against
    the 4 of a full second moment.

    Args:
        learning_rate: A float or a schedule.
        weight_decay: `None`; a number, for every kernel; or a mapping of regular
            expressions over variable paths to numbers, first match first, such as
            `head_and_body(3.0, 0.03)`, the paper's. A pattern that decides for no
            variable is an error.
        momentum: Decay of the first moment; `None` for none, which saves its state.
        momentum_dtype: Storage of the first moment, "bfloat16" or "float32".
        beta_2_exponent: Exponent e of `beta2(t) = 1 - t^-e`.
        beta_2_cap: Largest beta2.
        epsilon: Added to the squared gradient.
        min_dim_size_to_factor: Smallest axis that is factored.
        name: Name of the optimizer.
        **kwargs: `record_norms`, `skip_nonfinite`, the clips, moving averages, loss scale
            and gradient accumulation, see `DecoupledDecay`. The published g/14 had
            `global_clipnorm=1.0`.

    Raises:
        ValueError: If a value is out of its range.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, section
    3.4; Shazeer and Stern, "Adafactor", arXiv 1804.04235.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import Adafactor
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, name="head")])
    >>> model.compile(Adafactor(1e-2, weight_decay=0.03), loss="mse")
    >>> _ = model.fit(np.ones((2, 64)), np.ones((2, 32)), verbose=0)
    >>> sorted(tuple(v.shape) for v in model.optimizer.variables if len(v.shape))
    [(32,), (32,), (32,), (64,), (64, 32)]
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 8e-4,
        *,
        weight_decay: float | Mapping[str, float] | None = None,
        momentum: float | None = 0.9,
        momentum_dtype: str = "bfloat16",
        beta_2_exponent: float = 0.8,
        beta_2_cap: float = 0.999,
        epsilon: float = 1e-30,
        min_dim_size_to_factor: int = 32,
        name: str = "adafactor",
        **kwargs: Any,
    ):
        if momentum is not None:
            check_numbers("None or in [0, 1)", lambda m: 0 <= m < 1, momentum=momentum)
        check_positive(
            beta_2_exponent=beta_2_exponent,
            epsilon=epsilon,
            min_dim_size_to_factor=min_dim_size_to_factor,
        )
        check_fractions(beta_2_cap=beta_2_cap)
        check_one_of(STORED_DTYPES, momentum_dtype=momentum_dtype)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.momentum = momentum
        self.momentum_dtype = momentum_dtype
        self.beta_2_exponent = beta_2_exponent
        self.beta_2_cap = beta_2_cap
        self.epsilon = epsilon
        self.min_dim_size_to_factor = min_dim_size_to_factor

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._axes = [
            factored_axes(v.shape, self.min_dim_size_to_factor, getattr(v, "stack_axis", None))
            for v in variables
        ]
        # One list a kind of slot, None where a variable has none of it.
        self._momentums, self._rows, self._columns, self._seconds = [], [], [], []
        for v, axes in zip(variables, self._axes, strict=True):
            momentum = row = column = second = None
            if self.momentum is not None:
                momentum = self.slot(v, "momentum", dtype=self.momentum_dtype)
            if axes is None:
                second = self.slot(v, "second_moment")
            else:
                minor, major = axes
                row = self.slot(v, "row", without_axis=major)
                column = self.slot(v, "column", without_axis=minor)
            self._momentums.append(momentum)
            self._rows.append(row)
            self._columns.append(column)
            self._seconds.append(second)

    def direction(self, gradient: Tensor, index: int) -> Tensor:
        decay = beta_2(self.updates + 1, self.beta_2_exponent, self.beta_2_cap)
        squared = ops.square(gradient) + self.epsilon
        axes = self._axes[index]
        if axes is None:
            slot = self._seconds[index]
            second = decay * slot + (1.0 - decay) * squared
            self.assign(slot, second)
            update = gradient * ops.rsqrt(second)
        else:
            row_slot, column_slot = self._rows[index], self._columns[index]
            row, column = factored_moments(squared, row_slot, column_slot, decay, axes)
            self.assign(row_slot, row)
            self.assign(column_slot, column)
            update = factored_scale(gradient, row, column, axes)
        if self.momentum is not None:
            slot = self._momentums[index]
            update = self.momentum * ops.cast(slot, "float32") + (1 - self.momentum) * update
            self.assign(slot, ops.cast(update, self.momentum_dtype))
        return update

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "momentum_dtype": self.momentum_dtype,
            "beta_2_exponent": self.beta_2_exponent,
            "beta_2_cap": self.beta_2_cap,
            "epsilon": self.epsilon,
            "min_dim_size_to_factor": self.min_dim_size_to_factor,
        }
