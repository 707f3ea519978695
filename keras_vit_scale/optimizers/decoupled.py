"""What the optimizers share: float32 arithmetic, decay by path, rules a block, recorded norms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_vit_scale.checks import check_numbers
from keras_vit_scale.optimizers.decay import check_decay, decays_by_path
from keras_vit_scale.types import Tensor

#: What moments are stored in.
STORED_DTYPES = ("bfloat16", "float32")


class DecoupledDecay(keras.optimizers.Optimizer):
    """An optimizer of steps `w - lr(t) (direction + decay w)`; a subclass gives the direction.

    Gradients are made float32, clipped, and handed to `direction`; weights are
    rounded to their own dtype when stored. A variable with a `stack_axis` holds
    one weight for every block (see `Encoder`), and the blocks are treated apart.

    A subclass adds its slots with `slot` in `build`, after `super().build`.

    Args:
        learning_rate: A float or a schedule.
        weight_decay: `None`; a number, for every kernel; or a mapping of regular
            expressions over variable paths to numbers, first match first, such as
            `head_and_body(3.0, 0.03)`. A pattern that decides for no variable is
            an error when the optimizer is built.
        record_norms: Whether the variable `gradient_norm`, a float32 scalar, holds
            the norm of all gradients of the last update together: before clipping,
            after `gradient_accumulation_steps` averaged them and after loss scaling
            was undone. A step that `LossScaleOptimizer` skips leaves it as it is.
            Without it `gradient_norm` is `None`. The variable is saved with the
            others, so that a checkpoint wants the option as it was.
        skip_nonfinite: Whether a batch whose gradient is not finite is skipped: weights,
            slots, averages and accumulated gradients keep all their bits, and only the
            step goes on, by which schedules and the place in the data are counted. Not
            finite is a gradient with a NaN or an infinity before clipping, or with a norm
            whose square overflows float32 (beyond 1.8e19), as slots would. With
            accumulation the update is the mean of the batches that were left; one of
            which none was left is skipped. Of a loss alone that is not finite it knows
            nothing; see `training.FiniteLoss`. Scalars in int32 count, and are saved
            with the others: `skipped`, batches in all; `skipped_in_a_row`, up to now;
            `most_skipped_in_a_row`, ever. What depends on the number of updates, such as
            corrections of a bias, counts those that were made.
        clipnorm: Largest norm of the gradient of one weight: of one block's, where
            blocks are stacked. (The optimizers of Keras clip a stack as a whole.)
        clipvalue, global_clipnorm: As in any Keras optimizer; at most one of the
            three clips may be given.
        use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
            gradient_accumulation_steps, name: As in any Keras optimizer. With
            accumulation, schedules count every batch.
        ema_at_end: Whether, with `use_ema`, every `fit` ends by putting the averages in
            the place of the weights, as Keras does. Without it training may go on in
            another `fit`; `training.averaged` then puts them there for a while.

    Raises:
        ValueError: If a value is out of its range, or `skip_nonfinite` is to go with
            `ema_overwrite_frequency`, which would change the weights in a skipped step.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        *,
        weight_decay: float | Mapping[str, float] | None = None,
        record_norms: bool = False,
        skip_nonfinite: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        ema_at_end: bool = True,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ):
        check_decay(weight_decay)
        switches = {
            "record_norms": record_norms,
            "skip_nonfinite": skip_nonfinite,
            "ema_at_end": ema_at_end,
        }
        for option, value in switches.items():
            if type(value) is not bool:
                raise ValueError(f"`{option}` must be True or False. Received: {option}={value!r}")
        if skip_nonfinite and ema_overwrite_frequency:
            raise ValueError(
                "A skipped step leaves the weights as they are, so `skip_nonfinite` cannot go "
                "with `ema_overwrite_frequency`. "
                f"Received: ema_overwrite_frequency={ema_overwrite_frequency}"
            )
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {name: value for name, value in clips.items() if value is not None}
        check_numbers("None or positive", lambda v: 0 < v < math.inf, **given)
        super().__init__(
            learning_rate=learning_rate,
            **clips,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self.weight_decay = weight_decay
        self.record_norms = record_norms
        self.skip_nonfinite = skip_nonfinite
        self.ema_at_end = ema_at_end
        self.gradient_norm = None
        self.skipped: Tensor = None
        self.skipped_in_a_row: Tensor = None
        self.most_skipped_in_a_row: Tensor = None
        # While a batch is applied: whether it counts, and what to scale a mean of some by.
        self._counts: Tensor = None
        self._rescale: Tensor = None
        # What a schedule keeps in variables must reach the compiled step, as the slots do.
        for variable in getattr(learning_rate, "variables", ()):
            self._track_variable(variable)

    def build(self, variables):
        # First, so that a misspelt pattern leaves no half-built optimizer behind.
        decays = decays_by_path(self.weight_decay, [v.path for v in variables])
        super().build(variables)
        self._decays = [
            decay if self._use_weight_decay(v) else 0.0
            for v, decay in zip(variables, decays, strict=True)
        ]
        self._weight_axes = [weight_axes(v) for v in variables]
        if self.record_norms:
            self.gradient_norm = self.add_variable((), dtype="float32", name="gradient_norm")
        if self.skip_nonfinite:
            self.skipped = self._counter("skipped")
            self.skipped_in_a_row = self._counter("skipped_in_a_row")
            self.most_skipped_in_a_row = self._counter("most_skipped_in_a_row")
            self._updates = self._counter("updates")
            if self.gradient_accumulation_steps:
                self._accumulated = self._counter("accumulated")

    def _counter(self, name):
        return self.add_variable((), dtype="int32", name=name)

    @property
    def updates(self) -> Tensor:
        """Updates made so far: `iterations`, without those that were skipped."""
        return self._updates if self.skip_nonfinite else self.iterations

    def slot(
        self,
        variable: keras.Variable,
        name: str,
        *,
        dtype: str = "float32",
        without_axis: int | None = None,
    ) -> keras.Variable:
        """A new zero variable of a parameter's shape and layout, perhaps without one axis."""
        shape, layout = tuple(variable.shape), getattr(variable, "_layout", None)
        if without_axis is not None:
            shape = without(shape, without_axis)
            if layout is not None:
                layout = layout_without(layout, without_axis, len(variable.shape))
        return self.add_variable(
            shape=shape,
            dtype=dtype,
            layout=layout,
            name=f"{variable.path.replace('/', '_')}_{name}",
        )

    def direction(self, gradient: Tensor, index: int) -> Tensor:
        """The step's direction for one variable, whose slots it moves on.

        Args:
            gradient: Its gradient in float32, clipped.
            index: Its place among the variables that the optimizer was built with.

        Returns:
            An array of the gradient's shape in float32.
        """
        raise NotImplementedError

    def apply(self, grads, trainable_variables=None):
        grads = [g if g is None else whole(g) for g in grads]
        super().apply(grads, trainable_variables)

    def _backend_apply_gradients(self, grads, trainable_variables):
        if not self.skip_nonfinite:
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        finite = ops.isfinite(global_norm(grads))
        # Zeros add nothing to what is accumulated; and no NaN comes up that nobody uses.
        grads = [ops.where(finite, g, ops.zeros_like(g)) for g in grads]
        steps = self.gradient_accumulation_steps
        updates = True
        self._counts = finite
        if steps:
            updates = ops.equal((self._iterations + 1) % steps, 0)
            accumulated = self._accumulated + ops.cast(finite, "int32")
            self._counts = ops.where(updates, accumulated > 0, finite)
            # Exactly 1 where none was left out.
            self._rescale = steps / ops.cast(ops.maximum(accumulated, 1), "float32")
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
            made = ops.cast(ops.logical_and(self._counts, updates), "int32")
        finally:
            self._counts = self._rescale = None
        in_a_row = ops.where(finite, 0, self.skipped_in_a_row + 1)
        self.assign(self.skipped, self.skipped + ops.where(finite, 0, 1))
        self.assign(self.skipped_in_a_row, in_a_row)
        self.assign(self.most_skipped_in_a_row, ops.maximum(self.most_skipped_in_a_row, in_a_row))
        self.assign(self._updates, self._updates + made)
        if steps:
            self.assign(self._accumulated, ops.where(updates, 0, accumulated))

    def assign(self, variable, value):
        if self._counts is not None:
            value = ops.where(self._counts, value, ops.convert_to_tensor(variable))
        super().assign(variable, value)

    def _update_model_variables_moving_average(self, trainable_variables):
        if self._counts is None:
            super()._update_model_variables_moving_average(trainable_variables)
            return
        # As Keras does it, but that the first average is that of the first update made.
        for w, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            momentum = self.ema_momentum * ops.cast(ops.not_equal(self.updates, 0), w.dtype)
            self.assign(average, momentum * average + (1 - momentum) * w)

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        gradient = ops.cast(gradient, "float32")
        if self.clipnorm is not None:
            gradient = clip_norm(gradient, self.clipnorm, self._weight_axes[i])
        update = self.direction(gradient, i)
        w = ops.cast(variable, "float32")
        if self._decays[i]:
            update = update + self._decays[i] * w
        w = w - ops.cast(learning_rate, "float32") * update
        self.assign(variable, ops.cast(w, variable.dtype))

    def _clip_gradients(self, grads):
        if self._rescale is not None:
            grads = [g * ops.cast(self._rescale, g.dtype) for g in grads]
        if self.record_norms:
            self.assign(self.gradient_norm, global_norm(grads))
        # Here nothing tells which variable is a stack: `update_step` clips the norm of one.
        return grads if self.clipnorm is not None else super()._clip_gradients(grads)

    def _apply_weight_decay(self, variables):
        # Keras would apply one decay to all variables; `update_step` has each one's own.
        pass

    def finalize_variable_values(self, var_list):
        if not self.ema_at_end:
            return
        super().finalize_variable_values(var_list)
        if self.use_ema:
            # Keras leaves weights and averages in one buffer, which JAX will not donate
            # twice: a second `fit` would fail.
            for average in self._model_variables_moving_average:
                average.assign(ops.copy(average))

    def get_config(self):
        return {
            **super().get_config(),
            "record_norms": self.record_norms,
            "skip_nonfinite": self.skip_nonfinite,
            "ema_at_end": self.ema_at_end,
        }


def whole(gradient: Tensor) -> Tensor:
    """A gradient as one array, on TensorFlow too, which has slices of rows for an embedding's.

    A row that was looked up twice is there twice: the slices have neither its square nor the
    norm of the gradient.
    """
    if keras.backend.backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def without(sequence: Sequence[Any], index: int) -> tuple[Any, ...]:
    """A shape, or the axes of a layout, with one place dropped."""
    return (*sequence[:index], *sequence[index + 1 :])


def layout_without(layout: Any, axis: int, rank: int) -> Any:
    """The layout of an array of so many axes with one of them dropped."""
    if isinstance(layout, keras.distribution.TensorLayout):
        return type(layout)(without(layout.axes, axis), layout.device_mesh)
    # Keras 3.12 keeps JAX's own, which may leave the last axes out.
    spec = (*layout.spec, *[None] * (rank - len(layout.spec)))
    return type(layout)(layout.mesh, type(layout.spec)(*without(spec, axis)))


def weight_axes(variable: keras.Variable) -> tuple[int, ...]:
    """The axes of one weight: all but the stack axis, if the variable has one."""
    stack_axis = getattr(variable, "stack_axis", None)
    return tuple(axis for axis in range(len(variable.shape)) if axis != stack_axis)


def clip_norm(gradient, limit, axes):
    """A gradient whose norm over `axes` is at most `limit`."""
    norm = ops.sqrt(ops.sum(ops.square(gradient), axis=axes, keepdims=True))
    return gradient * (limit / ops.maximum(norm, limit))


def global_norm(gradients):
    """The norm of all gradients together, in float32."""
    squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients]
    return ops.sqrt(ops.sum(ops.stack(squares)))
