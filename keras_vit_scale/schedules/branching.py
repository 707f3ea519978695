"""The rate of a trunk and of all its branches, as one function for one compiled program."""

import keras

from keras_vit_scale.schedules import factors
from keras_vit_scale.schedules.schedule import Schedule, check_durations

#: An end that no run reaches, and that 32 bits hold.
_NEVER = 2**31 - 1


class Branching(keras.optimizers.schedules.LearningRateSchedule):
    """A trunk's schedule that can be given a cooldown, or another, between two calls of `fit`.

    A compiled training step has a schedule's numbers as constants in it, so that another cooldown
    is another program. Here the two numbers of the cooldown are variables, which the optimizers of
    this package hand to the program with their own (see `DecoupledDecay`).

    They are settings: no checkpoint holds them, and what is saved of a model should tell the
    schedule that `trunk.with_cooldown` gives.

    Args:
        trunk: A schedule without a cooldown.

    Example:

    >>> from keras_vit_scale import ReciprocalSqrt
    >>> from keras_vit_scale.schedules.branching import Branching
    >>> rate = Branching(ReciprocalSqrt(0.5, warmup_steps=10, timescale=5))
    >>> [round(float(rate(t)), 3) for t in (10, 25)]
    [0.5, 0.25]
    >>> rate.cool_down(total_steps=30, cooldown_steps=10)
    >>> [round(float(rate(t)), 3) for t in (10, 25, 30)]
    [0.5, 0.125, 0.0]
    """

    def __init__(self, trunk: Schedule):
        self.trunk = trunk
        self._total_steps = _setting(_NEVER, "total_steps")
        self._cooldown_steps = _setting(1, "cooldown_steps")

    @property
    def variables(self) -> list[keras.Variable]:
        """What changes from branch to branch."""
        return [self._total_steps, self._cooldown_steps]

    def cool_down(self, total_steps: int, cooldown_steps: int) -> None:
        """Brings the rate to 0 at `total_steps` over the `cooldown_steps` before it.

        Raises:
            ValueError: If warm-up and cooldown are longer than the run.
        """
        check_durations(self.trunk.warmup_steps, total_steps, cooldown_steps)
        self._total_steps.assign(total_steps)
        # Without a cooldown the rate stops at the end.
        self._cooldown_steps.assign(max(cooldown_steps, 1))

    def __call__(self, step):
        return self.trunk(step) * factors.left(step, self._total_steps, self._cooldown_steps)


def _setting(value, name):
    """A whole number that a program reads, and that is no part of a run's state."""
    variable = keras.Variable(value, dtype="int", trainable=False, name=name)
    variable.is_setting = True
    return variable
