"""A flat rate, as the paper fine-tunes G/14 and one of its schedules that can go on for ever."""

import keras

from keras_vit_scale.schedules import factors
from keras_vit_scale.schedules.schedule import Schedule
from keras_vit_scale.types import Tensor


@keras.saving.register_keras_serializable("keras_vit_scale")
class Constant(Schedule):
    """Linear warm-up, a constant rate, and an optional linear cooldown.

    With w = `warmup_steps`, T = `total_steps` and c = `cooldown_steps`, the rate at step t is

        peak * min(1, t / w) * min(1, (T - t) / c)

    Like `ReciprocalSqrt` it serves many durations from one trunk: `with_cooldown`
    gives the schedule of a branch.

    Args:
        peak: Rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up; the paper's 10,000 by default.
        total_steps: Step at which the cooldown ends, or `None` for a trunk.
        cooldown_steps: Steps of the cooldown; 0 if `total_steps` is `None`.

    Raises:
        ValueError: If a number is negative or of the wrong kind, the cooldown
            has no end, or warm-up and cooldown are longer than the run.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Figure 7.

    Example:

    >>> from keras_vit_scale import Constant
    >>> rate = Constant(0.5, warmup_steps=10).with_cooldown(total_steps=40, cooldown_steps=20)
    >>> [round(float(rate(t)), 3) for t in (0, 5, 10, 20, 30, 40)]
    [0.0, 0.25, 0.5, 0.5, 0.25, 0.0]
    """

    def decay(self, step: Tensor) -> Tensor:
        return factors.constant(step)
