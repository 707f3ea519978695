"""The paper's schedule: a reciprocal square root that a cooldown can end anywhere."""

import keras

from keras_vit_scale.checks import check_positive
from keras_vit_scale.schedules import factors
from keras_vit_scale.schedules.schedule import Schedule
from keras_vit_scale.types import Tensor


@keras.saving.register_keras_serializable("keras_vit_scale")
class ReciprocalSqrt(Schedule):
    """Linear warm-up, reciprocal-square-root decay, and an optional linear cooldown.

    With w = `warmup_steps`, T = `total_steps` and c = `cooldown_steps`, the rate at step t is

        peak * min(1, t / w) / sqrt(1 + max(0, t - w) / timescale) * min(1, (T - t) / c)

    Without a cooldown it goes on for ever, so that one run (the trunk) serves
    many durations: `with_cooldown` gives the schedule of a branch that leaves the
    trunk at step T - c and ends at T. Steps are updates of the weights, the first
    being step 0, whose rate is 0 if there is a warm-up.

    Args:
        peak: Rate at the end of the warm-up. The published g/14 used 8e-4.
        warmup_steps: Steps of the warm-up; the paper's 10,000 by default.
        timescale: Steps after the warm-up until the decay has reached
            1 / sqrt(2); 10,000 by default, as in the published g/14.
        total_steps: Step at which the cooldown ends, or `None` for a trunk.
        cooldown_steps: Steps of the cooldown; 0 if `total_steps` is `None`.

    Raises:
        ValueError: If a number is negative or of the wrong kind, the cooldown
            has no end, or warm-up and cooldown are longer than the run.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560,
    Appendix B.

    Example:

    >>> from keras_vit_scale import ReciprocalSqrt
    >>> trunk = ReciprocalSqrt(0.5, warmup_steps=10, timescale=5)
    >>> [round(float(trunk(t)), 3) for t in (0, 5, 10, 25)]
    [0.0, 0.25, 0.5, 0.25]
    >>> branch = trunk.with_cooldown(total_steps=30, cooldown_steps=10)
    >>> [round(float(branch(t)), 3) for t in (10, 25, 30)]
    [0.5, 0.125, 0.0]
    """

    def __init__(
        self,
        peak: float,
        *,
        warmup_steps: int = 10_000,
        timescale: float = 10_000,
        total_steps: int | None = None,
        cooldown_steps: int = 0,
    ):
        super().__init__(
            peak,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            cooldown_steps=cooldown_steps,
        )
        check_positive(timescale=timescale)
        self.timescale = float(timescale)

    def decay(self, step: Tensor) -> Tensor:
        return factors.reciprocal_sqrt(step, self.warmup_steps, self.timescale)

    def get_config(self):
        return {**super().get_config(), "timescale": self.timescale}
