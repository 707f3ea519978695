"""The Vision Transformer as a functional Keras model, and a builder for each row of Table 2."""

from typing import Any, Protocol

import keras

from keras_vit_scale.checks import check_fractions, check_one_of
from keras_vit_scale.models.block import EPSILON, is_half
from keras_vit_scale.models.config import ViTConfig, image_grid, image_shape
from keras_vit_scale.models.embedding import ClassToken, PatchEmbedding, PositionEmbedding
from keras_vit_scale.models.encoder import Encoder
from keras_vit_scale.models.pooling import POOLINGS, pooling_layer
from keras_vit_scale.models.positions import POSITIONS, SinCosPositionEmbedding
from keras_vit_scale.models.presets import preset


def ViT(
    config: str | ViTConfig,
    num_classes: int | None = 1000,
    *,
    image_size: int | tuple[int, int] = 224,
    pooling: str = "map",
    head_bias: float = 0.0,
    positions: str = "learned",
    gelu: str = "tanh",
    epsilon: float = EPSILON,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    remat: str | None = "auto",
    frozen_blocks: int = 0,
    unroll: bool = False,
    seed: int | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
) -> keras.Model:
    """A Vision Transformer with random weights, as a plain functional Keras model.

    Its layers are named: `patch_embedding`, `position_embedding`, (`class_token`,)
    `encoder`, `norm`, `pooling`, `head`.

    Args:
        config: A preset's name such as `"B/16"` (see `SIZES`), or a `ViTConfig`.
        num_classes: Classes of the head, whose outputs are logits; `None` for
            a model that ends with the representation, (B, D).
        image_size: Side of the images in pixels, or `(height, width)`.
        pooling: `"map"` (the paper's choice), `"gap"` or `"token"`.
        head_bias: Initial bias of the head, whose kernel starts at zero. The
            paper sets -10 for sigmoid pre-training on 29,593 classes.
        positions: `"learned"` (the paper's), or `"sincos"`, fixed and without
            weights, for a width that is a multiple of 4.
        gelu: `"tanh"` (the authors' code) or `"exact"`, in the blocks and in MAP.
        epsilon: What every LayerNorm adds to the variance; 1e-6 is the authors'.
        dropout: Rate of dropout in training: after the position embedding, and in
            each block after attention, GELU and MLP. The paper uses none.
        stochastic_depth: Rate at which training skips the last block's branches,
            rising evenly from 0 at the first. The paper uses none.
        remat: What the backward pass finds saved: `"auto"`, what is fastest; `None`,
            all; `"full"`, the input of each block; `"dots"`, matrix products too. See
            `Encoder`.
        frozen_blocks: How many of the first blocks are not trained. Of a built
            model, `model.get_layer("encoder").freeze(k)` changes it.
        unroll: Trace every block instead of scanning one, on the same weights.
        seed: An integer, from which what dropout and stochastic depth drop follows; initial
            weights follow from `keras.utils.set_random_seed`, as those of any Keras model.
        dtype: A Keras dtype or dtype policy for every layer. Under a half-precision
            one the final norm and the head keep float32, so that logits are float32; in
            the blocks, norms and attention's softmax compute in it.
        name: Name of the model; by default made of the preset's.

    Returns:
        A `keras.Model` from images (B, H, W, 3), with values in [-1, 1], to
        logits (B, C) or the representation (B, D).

    Raises:
        ValueError: If the preset or an option is unknown or out of its range, the
            image size is no multiple of the patch, or the backend does not have
            the `remat`.

    Source: Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560, Table 2
    and section 3.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale import ViT, ViTConfig
    >>> model = ViT("mu/8", num_classes=10, image_size=32)
    >>> model.predict(np.zeros((2, 32, 32, 3)), verbose=0).shape
    (2, 10)
    >>> shape = ViTConfig(width=12, depth=2, mlp_dim=48, heads=3, patch_size=8)
    >>> ViT(shape, num_classes=None, image_size=(16, 32), pooling="gap").output_shape
    (None, 12)
    """
    if name is None and isinstance(config, str):
        name = f"ViT_{config.replace('/', '_').replace('-', '_')}"
    config = preset(config) if isinstance(config, str) else config
    if not isinstance(config, ViTConfig):
        raise ValueError(
            f"`config` must be a preset's name or a ViTConfig. Received: config={config!r}"
        )
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise ValueError(
            "`num_classes` must be a positive integer, or None for the representation. "
            f"Received: num_classes={num_classes!r}"
        )
    check_one_of(POOLINGS, pooling=pooling)
    check_one_of(POSITIONS, positions=positions)
    check_fractions(epsilon=epsilon)
    height, width = image_shape(image_size)
    rows, columns = image_grid(image_size, config.patch_size)

    policy = keras.dtype_policies.get(dtype)
    wide = "float32" if is_half(policy.compute_dtype) else dtype
    images = keras.Input((height, width, 3), name="image")
    x = PatchEmbedding(config.width, config.patch_size, dtype=dtype, name="patch_embedding")(images)
    if positions == "learned":
        embed = PositionEmbedding(dtype=dtype, name="position_embedding")
    else:
        embed = SinCosPositionEmbedding(rows, columns, dtype=dtype, name="position_embedding")
    x = embed(x)
    if pooling == "token":
        x = ClassToken(dtype=dtype, name="class_token")(x)
    x = Encoder(
        config.depth,
        config.heads,
        config.mlp_dim,
        gelu=gelu,
        epsilon=epsilon,
        dropout=dropout,
        stochastic_depth=stochastic_depth,
        remat=remat,
        frozen_blocks=frozen_blocks,
        unroll=unroll,
        seed=seed,
        dtype=dtype,
        name="encoder",
    )(x)
    x = keras.layers.LayerNormalization(epsilon=epsilon, dtype=wide, name="norm")(x)
    x = pooling_layer(pooling, config.heads, config.mlp_dim, gelu, epsilon, dtype=dtype)(x)
    if num_classes is not None:
        x = keras.layers.Dense(
            num_classes,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(head_bias),
            dtype=wide,
            name="head",
        )(x)
    return keras.Model(images, x, name=name)


class Builder(Protocol):
    """A function that builds one preset; its options are those of `ViT`."""

    def __call__(self, num_classes: int | None = 1000, **kwargs: Any) -> keras.Model: ...


def _builder(preset_name: str) -> Builder:
    def build(num_classes: int | None = 1000, **kwargs: Any) -> keras.Model:
        return ViT(preset_name, num_classes, **kwargs)

    function_name = f"ViT_{preset_name.replace('/', '')}"
    c = preset(preset_name)
    build.__name__ = build.__qualname__ = function_name
    build.__doc__ = f"""ViT-{preset_name}: `ViT({preset_name!r}, num_classes, **kwargs)`.

    Width {c.width}, depth {c.depth}, MLP width {c.mlp_dim}, {c.heads} heads, patches of
    {c.patch_size} x {c.patch_size} pixels. Arguments, returns and errors are those of `ViT`.
    """
    return build


ViT_s28 = _builder("s/28")
ViT_s16 = _builder("s/16")
ViT_S32 = _builder("S/32")
ViT_Ti16 = _builder("Ti/16")
ViT_B32 = _builder("B/32")
ViT_S16 = _builder("S/16")
ViT_B28 = _builder("B/28")
ViT_B16 = _builder("B/16")
ViT_L16 = _builder("L/16")
ViT_g14 = _builder("g/14")
ViT_G14 = _builder("G/14")
