"""Schedules whose decay has a length known beforehand: linear and cosine."""

import keras

from keras_vit_scale.checks import check_numbers
from keras_vit_scale.schedules import factors
from keras_vit_scale.schedules.schedule import Schedule
from keras_vit_scale.types import Tensor


class FixedLength(Schedule):
    """A decay from the end of the warm-up over `decay_steps` to `final` of the peak.

    Raises:
        ValueError: If `decay_steps` is not a positive whole number or `final` not
            a fraction, or for the reasons of any `Schedule`.
    """

    def __init__(
        self,
        peak: float,
        *,
        decay_steps: int,
        final: float = 0.0,
        warmup_steps: int = 10_000,
        total_steps: int | None = None,
        cooldown_steps: int = 0,
    ):
        super().__init__(
            peak,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            cooldown_steps=cooldown_steps,
        )
        if type(decay_steps) is not int or decay_steps < 1:
            raise ValueError(
                "`decay_steps` must be a positive whole number of steps. "
                f"Received: decay_steps={decay_steps!r}"
            )
        check_numbers("a fraction of the peak, in [0, 1]", lambda f: 0 <= f <= 1, final=final)
        self.decay_steps = decay_steps
        self.final = float(final)

    def get_config(self):
        return {**super().get_config(), "decay_steps": self.decay_steps, "final": self.final}


@keras.saving.register_keras_serializable("keras_vit_scale")
class Linear(FixedLength):
    """Linear warm-up, linear decay, and an optional linear cooldown.

    With w = `warmup_steps`, d = `decay_steps`, f = `final`, T = `total_steps` and
    c = `cooldown_steps`, the rate at step t is

        peak * min(1, t / w) * (f + (1 - f) x) * min(1, (T - t) / c)

    where x = max(0, min(1, (w + d - t) / d)) is what is left of the decay.

    Args:
        peak: Rate at the end of the warm-up.
        decay_steps: Steps of the decay, counted from the end of the warm-up. In a
            run of 20,000 steps with a warm-up of 500 it is 19,500.
        final: What the decay leaves of the peak, from 0 to 1; 0 by default.
        warmup_steps: Steps of the warm-up; the paper's 10,000 by default.
        total_steps: Step at which a cooldown ends, or `None`: the decay needs none.
        cooldown_steps: Steps of the cooldown; 0 if `total_steps` is `None`.

    Raises:
        ValueError: If a number is out of its range or of the wrong kind, the cooldown
            has no end, or warm-up and cooldown are longer than the run.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Figure 7,
    whose references are linear.

    Example:

    >>> from keras_vit_scale import Linear
    >>> rate = Linear(0.5, warmup_steps=10, decay_steps=40)
    >>> [round(float(rate(t)), 3) for t in (0, 5, 10, 30, 50, 60)]
    [0.0, 0.25, 0.5, 0.25, 0.0, 0.0]
    """

    def decay(self, step: Tensor) -> Tensor:
        return factors.linear(step, self.warmup_steps, self.decay_steps, self.final)


@keras.saving.register_keras_serializable("keras_vit_scale")
class Cosine(FixedLength):
    """Linear warm-up, half a cosine as decay, and an optional linear cooldown.

    With w = `warmup_steps`, d = `decay_steps`, f = `final`, T = `total_steps` and
    c = `cooldown_steps`, the rate at step t is

        peak * min(1, t / w) * (f + (1 - f) (1 + cos(pi p)) / 2) * min(1, (T - t) / c)

    where p = max(0, min(1, (t - w) / d)) is the part of the decay that is done.

    Args:
        peak: Rate at the end of the warm-up. The paper fine-tunes with 0.03 or 0.01.
        decay_steps: Steps of the decay, counted from the end of the warm-up. The
            paper's fine-tuning, 20,000 steps of which 500 are warm-up, has 19,500.
        final: What the decay leaves of the peak, from 0 to 1; 0 by default.
        warmup_steps: Steps of the warm-up; by default the 10,000 of pre-training.
            The paper's fine-tuning has 500.
        total_steps: Step at which a cooldown ends, or `None`: the decay needs none.
        cooldown_steps: Steps of the cooldown; 0 if `total_steps` is `None`.

    Raises:
        ValueError: If a number is out of its range or of the wrong kind, the cooldown
            has no end, or warm-up and cooldown are longer than the run.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Appendix D.

    Example:

    >>> from keras_vit_scale import Cosine
    >>> rate = Cosine(0.5, warmup_steps=10, decay_steps=60, final=0.2)
    >>> [round(float(rate(t)), 3) for t in (0, 5, 10, 40, 70, 80)]
    [0.0, 0.25, 0.5, 0.3, 0.1, 0.1]
    """

    def decay(self, step: Tensor) -> Tensor:
        return factors.cosine(step, self.warmup_steps, self.decay_steps, self.final)
