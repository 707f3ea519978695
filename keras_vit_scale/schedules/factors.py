"""Learning-rate factors: pure functions of the step, to be multiplied.

A rate is `peak * warmup * decay * cooldown`. Each function takes a step, a number
or a tensor, and returns a float32 tensor between 0 and 1. Steps are subtracted in
their own integers and made floats afterwards: float32 has no odd number above
2^24, 16.8 million.
"""

import math

from keras import ops


def elapsed(step, start):
    """Steps since `start` in float32, 0 before it."""
    return ops.cast(ops.maximum(ops.convert_to_tensor(step) - start, 0), "float32")


def left(step, end, steps):
    """What is left, from 1 to 0, of the `steps` before `end`; 1 before them, 0 after `end`."""
    remaining = ops.maximum(end - ops.convert_to_tensor(step), 0)
    return ops.minimum(1.0, ops.cast(remaining, "float32") / steps)


def constant(step):
    """1 at every step."""
    return ops.ones_like(ops.convert_to_tensor(step), dtype="float32")


def warmup(step, steps):
    """Rises linearly from 0 at step 0 to 1 at step `steps`, and stays there."""
    return ops.minimum(1.0, elapsed(step, 0) / steps) if steps else constant(step)


def reciprocal_sqrt(step, start, timescale):
    """1 until step `start`, then `1 / sqrt(1 + (step - start) / timescale)`."""
    return ops.rsqrt(1.0 + elapsed(step, start) / timescale)


def linear(step, start, steps, final=0.0):
    """1 until step `start`, then falls linearly over `steps` to `final`, and stays there."""
    return final + (1.0 - final) * left(step, start + steps, steps)


def cosine(step, start, steps, final=0.0):
    """1 until step `start`, then falls as half a cosine over `steps` to `final`, and stays."""
    # (1 + cos(pi p)) / 2 with p = 1 - left; its sum would lose all digits near the end.
    half = ops.sin(0.5 * math.pi * left(step, start + steps, steps))
    return final + (1.0 - final) * ops.square(half)


def cooldown(step, end, steps):
    """1 until `steps` before `end`, then falls linearly to 0 at step `end`."""
    return left(step, end, steps) if steps else constant(step)
