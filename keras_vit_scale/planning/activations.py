"""What the blocks keep for the backward pass, and what the step works with beside it.

What is kept is counted: the arrays that a scan over the blocks hands from the forward to the
backward pass, each of tokens times a width. What is worked with is one block's, in attention or in
the MLP, whichever is more, and no compiler tells it in advance: its six numbers are fitted to what
the compiler for TPUs planned for 120 steps (`benchmarks/estimates.py` has how well they do).

Letters: N tokens, D width, M MLP width, K heads; Q the features of all heads together, which are D
but where heads are cut over devices.
"""

from dataclasses import dataclass

import keras

from keras_vit_scale.models.remat import AUTO, JAX_POLICIES

#: Policies of JAX that say what other names do.
_SAME = {
    "nothing_saveable": "full",
    "dots_saveable": "dots",
    "everything_saveable": None,
}

#: Bytes a token that attention and the MLP work with, of one block, forward and backward.
_ATTENTION = {"D": 16.0, "scores": 4.8, "heads": 11.0}
_MLP = {"D": 28.0, "M": 3.7}

#: Part of the batch of images that is there when most else is.
_IMAGES = 0.8


@dataclass(frozen=True)
class Tokens:
    """The tokens that one device has in its blocks.

    Args:
        images: Of a step, on this device.
        tokens: Of an image.
        width: Features of a token, D.
        mlp_dim: M, of this device.
        heads: K, of this device.
        head_dim: Features of a head.
        half: Whether products are computed in 16 bits.
        tiled: Whether arrays lie in tiles, as on TPUs: the tokens of an image fill up whole ones,
            and factors of products are in 16 bits even where float32 is asked for.
    """

    images: int
    tokens: int
    width: int
    mlp_dim: int
    heads: int
    head_dim: int
    half: bool
    tiled: bool

    def filled(self, size: int) -> float:
        """What an array takes of memory over what it has, whose numbers have a size in bytes."""
        rows = 32 // size
        return rounded_up(self.tokens, rows) / self.tokens if self.tiled else 1.0

    @property
    def scores(self) -> int:
        """Scores of a token's attention in all heads, in whole tiles of 128."""
        return self.heads * (rounded_up(self.tokens, 128) if self.tiled else self.tokens)


def rounded_up(number: int, multiple: int) -> int:
    """The next multiple.

    Example:

    >>> from keras_vit_scale.planning.activations import rounded_up
    >>> rounded_up(196, 8), rounded_up(256, 8)
    (200, 256)
    """
    return -(-number // multiple) * multiple


def kept(t: Tokens, remat: str | None) -> int:
    """Bytes that one block keeps for the backward pass, with a `remat` of `Encoder`.

    Example:

    >>> from keras_vit_scale.planning.activations import Tokens, kept
    >>> kept(Tokens(1, 10, 6, 24, 2, 3, half=True, tiled=False), "full") == 10 * 6 * 2
    True
    """
    float32, bfloat16, computed = _numbers(t, resolved(remat))
    # Bytes of a number in the type that products are computed in.
    size = 2 if t.half else 4
    a_token = (
        float32 * 4 * t.filled(4) + bfloat16 * 2 * t.filled(2) + computed * size * t.filled(size)
    )
    return round(t.images * t.tokens * a_token)


def _numbers(t: Tokens, remat: str | None) -> tuple[int, int, int]:
    """Numbers kept a token: in float32, in bfloat16, and in the type of the products."""
    d, q, m = t.width, t.heads * t.head_dim, t.mlp_dim
    if remat == "full":
        return 0, 0, d
    if remat == "dots_with_no_batch_dims_saveable":
        # The input; query, key and value; what attention projects; what enters the MLP's GELU.
        return 0, 0, 2 * d + 3 * q + m
    if remat == "dots":
        return t.scores, 0, 2 * d + 4 * q + m
    # All: three arrays of each norm and the scores in float32, what products have for factors, and
    # five arrays of the GELU.
    factors = 2 * d + 4 * q + m + t.scores
    if t.tiled and not t.half:
        return 6 * d + 5 * m + t.scores, factors, 0
    return 6 * d + t.scores, 0, factors + 5 * m


def workspace(t: Tokens) -> int:
    """Bytes that a step works with beside what is kept, in the block that needs most.

    Example:

    >>> from keras_vit_scale.planning.activations import Tokens, workspace
    >>> one = Tokens(1, 256, 1664, 8192, 16, 104, half=True, tiled=True)
    >>> 70_000 < workspace(one) / 256 < 80_000
    True
    """
    head_dim = rounded_up(t.head_dim, 128) if t.tiled else t.head_dim
    attention = (
        _ATTENTION["D"] * t.width
        + _ATTENTION["scores"] * t.scores * t.filled(4)
        + _ATTENTION["heads"] * t.heads * head_dim
    )
    mlp = _MLP["D"] * t.width + _MLP["M"] * t.mlp_dim
    return round(t.images * t.tokens * max(attention, mlp))


def images_held(images: int, pixels: int) -> int:
    """Bytes of the images of a step, float32 and of three colours, while the blocks work."""
    return round(_IMAGES * images * pixels * 3 * 4)


def resolved(remat: str | None) -> str | None:
    """What a `remat` does on the running backend: "full", "dots", its policy on JAX, or `None`.

    Example:

    >>> from keras_vit_scale.planning.activations import resolved
    >>> resolved("nothing_saveable"), resolved(None)
    ('full', None)
    """
    if remat == "auto":
        remat = AUTO.get(keras.backend.backend())
    return _SAME.get(remat, remat) if remat in JAX_POLICIES else remat
