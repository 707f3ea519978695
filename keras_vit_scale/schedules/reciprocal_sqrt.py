"""The paper's schedule: a reciprocal square root that a cooldown can end anywhere."""

import keras

from keras_vit_scale.schedules import factors


@keras.saving.register_keras_serializable("keras_vit_scale")
class ReciprocalSqrt(keras.optimizers.schedules.LearningRateSchedule):
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
        self, peak, *, warmup_steps=10_000, timescale=10_000, total_steps=None, cooldown_steps=0
    ):
        super().__init__()
        if not peak > 0:
            raise ValueError(f"`peak` must be positive. Received: peak={peak}")
        if not timescale > 0:
            raise ValueError(f"`timescale` must be positive. Received: timescale={timescale}")
        check_durations(warmup_steps, total_steps, cooldown_steps)
        self.peak = float(peak)
        self.warmup_steps = warmup_steps
        self.timescale = float(timescale)
        self.total_steps = total_steps
        self.cooldown_steps = cooldown_steps

    def __call__(self, step):
        rate = (
            self.peak
            * factors.warmup(step, self.warmup_steps)
            * factors.reciprocal_sqrt(step, self.warmup_steps, self.timescale)
        )
        if self.total_steps is None:
            return rate
        return rate * factors.cooldown(step, self.total_steps, self.cooldown_steps)

    def with_cooldown(self, total_steps, cooldown_steps):
        """This schedule, brought to 0 at `total_steps` over its last `cooldown_steps`."""
        return type(self)(
            **{
                **self.get_config(),
                "total_steps": total_steps,
                "cooldown_steps": cooldown_steps,
            }
        )

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "timescale": self.timescale,
            "total_steps": self.total_steps,
            "cooldown_steps": self.cooldown_steps,
        }


def check_durations(warmup_steps, total_steps, cooldown_steps):
    """Refuses durations that contradict each other.

    Raises:
        ValueError: If a duration is no whole number of steps, the cooldown has
            no end, or warm-up and cooldown are longer than the run.
    """
    durations = {"warmup_steps": warmup_steps, "cooldown_steps": cooldown_steps}
    if total_steps is not None:
        durations["total_steps"] = total_steps
    for name, value in durations.items():
        if type(value) is not int or value < 0:
            raise ValueError(
                f"`{name}` must be a whole number of steps. Received: {name}={value!r}"
            )
    if total_steps is None and cooldown_steps:
        raise ValueError(
            "A cooldown needs an end: give `total_steps` too. "
            f"Received: cooldown_steps={cooldown_steps}, total_steps=None"
        )
    if total_steps is not None and warmup_steps + cooldown_steps > total_steps:
        raise ValueError(
            "Warm-up and cooldown must not be longer than the run. "
            f"Received: warmup_steps={warmup_steps}, cooldown_steps={cooldown_steps}, "
            f"total_steps={total_steps}"
        )
