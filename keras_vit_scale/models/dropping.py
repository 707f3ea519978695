"""Dropout and stochastic depth: what training removes at random.

A block is scanned, and a generator's state would leak out of the scan's body: the seeds of
dropout and the images that skip a branch are drawn before, for all blocks at once.
"""

import keras
import numpy as np
from keras import ops

#: Where a block drops features: after attention's output, after GELU, after the MLP's output.
SITES = ("attention", "hidden", "mlp")

#: The sites that end a residual branch, which stochastic depth removes whole.
BRANCHES = ("attention", "mlp")


def check_seed(seed):
    """Refuses a seed that is neither `None` nor an integer that is not negative.

    Raises:
        ValueError: If it is not.
    """
    if seed is not None and (type(seed) is not int or seed < 0):
        raise ValueError(
            f"`seed` must be None or an integer that is not negative. Received: seed={seed!r}"
        )


def keep_all(y, site):
    """Drops nothing: inference, or no dropout."""
    return y


def dropping(dropout=0.0, seeds=None, scales=None):
    """The function `drop(y, site)` of one block, from what was drawn for it.

    Args:
        dropout: Rate of dropout.
        seeds: (3, 2), a seed for each of `SITES`; `None` for no dropout.
        scales: (2, B), the factor of each of `BRANCHES` for an image: 0, or
            1 / (1 - rate); `None` for no stochastic depth.
    """
    if seeds is None and scales is None:
        return keep_all

    def drop(y, site):
        if seeds is not None:
            y = drop_features(y, dropout, DrawnSeed(seeds[SITES.index(site)]))
        if scales is not None and site in BRANCHES:
            scale = scales[BRANCHES.index(site)]
            y = y * ops.cast(scale[:, None, None], y.dtype)
        return y

    return drop


def drop_features(y, rate, generator):
    """Sets features to 0 with probability `rate`, and divides the others by 1 - `rate`."""
    kept = keras.random.uniform(ops.shape(y), dtype="float32", seed=generator) >= rate
    return ops.where(kept, y / (1 - rate), ops.zeros_like(y))


def draw_seeds(depth, generator):
    """Seeds for the sites of `depth` blocks, (L, 3, 2); on torch as lists of integers."""
    shape = (depth, len(SITES), 2)
    seeds = keras.random.randint(shape, 0, 2**31 - 1, dtype="int32", seed=generator)
    if keras.backend.backend() == "torch":
        # Torch's generators take integers: fetched once here, not block by block.
        return ops.convert_to_numpy(seeds).tolist()
    return ops.cast(seeds, generator.state.dtype)


def draw_scales(rates, images, generator):
    """Factors of the branches of blocks that skip with `rates` (L,): (L, 2, B)."""
    keep = 1 - ops.convert_to_tensor(np.reshape(rates, (-1, 1, 1)), "float32")
    shape = (len(rates), len(BRANCHES), images)
    draws = keras.random.uniform(shape, dtype="float32", seed=generator)
    return ops.cast(draws < keep, "float32") / keep


def linear_rates(rate, depth):
    """Rates of stochastic depth, rising evenly from 0 at the first block to `rate` at the last."""
    return np.linspace(0, rate, depth)


class DrawnSeed(keras.random.SeedGenerator):
    """A seed drawn before, where `keras.random` takes only an integer or a generator.

    It has no state: it gives the same seed each time, so that a block computed
    again in the backward pass drops the same.
    """

    def __init__(self, seed):
        self.seed = seed

    def next(self, ordered=True):
        return self.seed
