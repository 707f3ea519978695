"""Training that cannot go on, because its numbers are no longer finite."""

import math

import keras

#: What helps against a loss that is not finite.
CURE = "lower the peak rate or lengthen the warm-up"


class DivergedError(Exception):
    """Training whose loss is no longer a finite number."""


def check_loss(optimizer: keras.optimizers.Optimizer, loss: float, after: int, step: int) -> None:
    """Refuses a loss that is not finite, unless the optimizer has skipped what came of it.

    Args:
        optimizer: The one that counts the steps.
        loss: The mean loss of batches up to `step`.
        after: The step up to which all was well.
        step: The present step.

    Raises:
        DivergedError: If it is not finite.
    """
    skips = getattr(optimizer, "skip_nonfinite", False)
    if math.isfinite(loss) or (skips and int(optimizer.skipped_in_a_row)):
        return
    raise DivergedError(
        f"The loss became {loss} between steps {after} and {step}; {CURE}. "
        + (
            "(Where updates are skipped Keras' mean is NaN for the rest of an epoch, unless "
            "`FiniteLoss` is among the callbacks.)"
            if skips
            else "Or skip such updates: `skip_nonfinite` of an optimizer, `on_nonfinite` of a run."
        )
    )
