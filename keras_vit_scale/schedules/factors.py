"""Learning-rate factors: pure functions of the step, to be multiplied.

A rate is `peak * warmup * decay * cooldown`. Each function takes a step, a number
or a tensor, and returns a float32 tensor between 0 and 1.
"""

from keras import ops


def warmup(step, steps):
    """Rises linearly from 0 at step 0 to 1 at step `steps`, and stays there."""
    step = ops.cast(step, "float32")
    return ops.minimum(1.0, step / steps) if steps else ops.ones_like(step)


def reciprocal_sqrt(step, start, timescale):
    """1 until step `start`, then `1 / sqrt(1 + (step - start) / timescale)`."""
    elapsed = ops.maximum(0.0, ops.cast(step, "float32") - start)
    return ops.rsqrt(1.0 + elapsed / timescale)


def cooldown(step, end, steps):
    """1 until `steps` before `end`, then falls linearly to 0 at step `end`."""
    left = ops.maximum(0.0, end - ops.cast(step, "float32"))
    return ops.minimum(1.0, left / steps) if steps else ops.ones_like(left)
