"""What every schedule has: a peak, a warm-up to it, and a cooldown that can end it anywhere."""

from typing import Self

import keras

from keras_vit_scale.checks import check_positive
from keras_vit_scale.schedules import factors
from keras_vit_scale.types import Tensor


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rate `peak * warmup * decay * cooldown`, of which a subclass gives the decay.

    With w = `warmup_steps`, T = `total_steps` and c = `cooldown_steps`, the rate at step t is

        peak * min(1, t / w) * decay(t) * min(1, (T - t) / c)

    and without an end or a cooldown its last factor is 1. Steps are updates of the
    weights, the first being step 0, whose rate is 0 if there is a warm-up. (Under
    gradient accumulation Keras counts every batch.)

    Args:
        peak: Rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up.
        total_steps: Step at which the cooldown ends, or `None`.
        cooldown_steps: Steps of the cooldown; 0 if `total_steps` is `None`.

    Raises:
        ValueError: If `peak` is not positive, a duration is no whole number of
            steps, the cooldown has no end, or warm-up and cooldown are longer
            than the run.
    """

    def __init__(
        self,
        peak: float,
        *,
        warmup_steps: int = 10_000,
        total_steps: int | None = None,
        cooldown_steps: int = 0,
    ):
        super().__init__()
        check_positive(peak=peak)
        check_durations(warmup_steps, total_steps, cooldown_steps)
        self.peak = float(peak)
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.cooldown_steps = cooldown_steps

    def decay(self, step: Tensor) -> Tensor:
        """The factor, a float32 tensor, between warm-up and cooldown."""
        raise NotImplementedError

    def __call__(self, step):
        rate = self.peak * factors.warmup(step, self.warmup_steps) * self.decay(step)
        if self.total_steps is None:
            return rate
        return rate * factors.cooldown(step, self.total_steps, self.cooldown_steps)

    def __repr__(self) -> str:
        told = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items() if k != "name")
        return f"{type(self).__name__}({told})"

    def with_cooldown(self, total_steps: int, cooldown_steps: int) -> Self:
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
            "total_steps": self.total_steps,
            "cooldown_steps": self.cooldown_steps,
        }


def check_durations(warmup_steps: int, total_steps: int | None, cooldown_steps: int) -> None:
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
