"""The law that saturates at both ends: a ceiling before training tells, a floor after."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from keras_vit_scale.scaling.law import Law


@dataclass(frozen=True, repr=False)
class SigmoidalLaw(Law):
    """`(E - c) / (e0 - E)^alpha = beta C^-b`: floor c, ceiling e0, on a log axis a sigmoid.

    With alpha = 1 it is symmetric; far below the ceiling it is a power law with a floor.

    Args:
        c: Error that infinite compute would leave.
        e0: Error of a model that has learnt nothing.
        alpha: How abruptly the error leaves the ceiling.
        beta, b: Amplitude and exponent of the power law far below the ceiling.

    Source: "M4" of Alabdulmohsin, Neyshabur, Zhai, "Revisiting Neural Scaling Laws in
    Language and Vision", arXiv 2209.06640; their exponent is our -b.

    Example:

    >>> from keras_vit_scale.scaling import SigmoidalLaw
    >>> law = SigmoidalLaw(c=0.1, e0=0.9, alpha=1.0, beta=10.0, b=0.5)
    >>> round(float(law.predict(100.0)), 6)  # (0.5 - 0.1) / (0.9 - 0.5) = 10 * 100^-0.5
    0.5
    """

    c: float
    e0: float
    alpha: float
    beta: float
    b: float

    name: ClassVar[str] = "sigmoidal"
    parameters: ClassVar[tuple[str, ...]] = ("c", "e0", "alpha", "beta", "b")
    formula: ClassVar[str] = "(E - c) / (e0 - E)^alpha = beta C^-b"

    def predict(self, compute: ArrayLike) -> np.ndarray:
        span = self.e0 - self.c
        with np.errstate(divide="ignore"):
            log_x = np.log(np.asarray(compute, dtype=np.float64))
        push = np.log(self.beta) + (self.alpha - 1) * np.log(span) - self.b * log_x
        return self.c + span * np.exp(log_part(push, self.alpha)[0])

    def _compute_for(self, error: float) -> float:
        if error >= self.e0:
            return 0.0
        ratio = (error - self.c) / (self.e0 - error) ** self.alpha
        return (ratio / self.beta) ** (-1 / self.b)

    def _rescaled(self, factor: float) -> dict[str, float]:
        return {"beta": self.beta * factor**self.b}

    def __str__(self) -> str:
        return (
            f"(E - {self.c:.3g}) / ({self.e0:.3g} - E)^{self.alpha:.3g} = "
            f"{self.beta:.3g} C^-{self.b:.3g}"
        )

    # Fitted are floor, span (e0 - c), alpha, b and the push k at x = 1; all but k as logarithms.

    @staticmethod
    def log_error(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the error and their derivatives by what is fitted."""
        log_c, log_span, log_alpha, log_b, push = (theta[..., i : i + 1] for i in range(5))
        alpha, fall = np.exp(log_alpha), -np.exp(log_b) * log_x
        log_z, by_push, by_alpha = log_part(push + fall, alpha)
        value = np.logaddexp(log_c, log_span + log_z)
        part = np.exp(log_span + log_z - value)
        columns = [
            np.exp(log_c - value), part, part * by_alpha * alpha, part * by_push * fall,
            part * by_push,
        ]  # fmt: skip
        return value, np.stack(columns, axis=-1)

    @staticmethod
    def box(log_x: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of what is fitted: a ceiling of at most 1, or for losses 3 times the highest."""
        lowest, highest = np.exp(log_error.min()), np.exp(log_error.max())
        lower = np.log([lowest * 1e-6, highest * 1e-2, 0.2, 1e-2])
        upper = np.log([highest, 3 * highest if highest > 1 else 1.0, 5.0, 20.0])
        return np.append(lower, -60.0), np.append(upper, 60.0)

    @staticmethod
    def starts(log_x: np.ndarray, log_error: np.ndarray) -> np.ndarray:
        """Where fits start: combinations of exponent, floor, ceiling and abruptness."""
        error, starts = np.exp(log_error), []
        for c in error.min() * np.array([1e-3, 0.5, 0.9]):
            for e0 in (error.max() * 1.02, error.max() * 1.2, max(1.0, error.max() * 1.5)):
                z = ((error - c) / (e0 - c)).clip(1e-4, 1 - 1e-4)
                for alpha in (0.6, 1.0, 2.0):
                    # For these three the law is a straight line in log x.
                    line = np.log(z) - alpha * np.log1p(-z)
                    b = np.clip(-np.polyfit(log_x, line, 1)[0], 0.05, 10.0)
                    push = np.median(line + b * log_x)
                    starts.append([np.log(c), np.log(e0 - c), np.log(alpha), np.log(b), push])
        return np.array(starts)

    @classmethod
    def from_vector(cls, theta: np.ndarray) -> dict[str, float]:
        """The fields of a fitted vector."""
        c, span, alpha, b = np.exp(theta[:4])
        return {
            "c": c, "e0": c + span, "alpha": alpha,
            "beta": np.exp(theta[4] - (alpha - 1) * np.log(span)), "b": b,
        }  # fmt: skip


def log_part(
    push: ArrayLike, alpha: ArrayLike, iterations: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log z of the z in (0, 1) with `log z - alpha log(1 - z) = push`, and its derivatives.

    Newton's method for t = logit z: the left side's slope in t is (1 - z) + alpha z, which is
    monotone, so it converges from any start, and from a linear one in a few steps.

    Returns:
        log z, its derivative by `push`, and by `alpha`.

    Example:

    >>> from keras_vit_scale.scaling.sigmoidal import log_part
    >>> round(float(log_part(0.0, 1.0)[0]), 6)  # z = 1/2
    -0.693147
    """
    push, alpha = np.broadcast_arrays(np.asarray(push, float), np.asarray(alpha, float))
    t = np.clip(np.where(push < 0, push, push / alpha), -700, 700)
    for _ in range(iterations):
        z = 0.5 + 0.5 * np.tanh(t / 2)
        miss = alpha * np.logaddexp(0, t) - np.logaddexp(0, -t) - push
        step = np.nan_to_num(miss / (1 - z + alpha * z))
        t = t - step
        if np.abs(step).max(initial=0) < 1e-13:
            break
    z = 0.5 + 0.5 * np.tanh(t / 2)
    log_z, log_rest = -np.logaddexp(0, -t), -np.logaddexp(0, t)
    slope = 1 - z + alpha * z
    by_push = (1 - z) / slope
    return log_z, by_push, by_push * log_rest
