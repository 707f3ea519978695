"""Weights in: a model made of another project's file, or one filled from it."""

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any

import keras
import numpy as np

from keras_vit_scale.checks import check_one_of, check_positive_integers
from keras_vit_scale.models.architecture import architecture, preset_name, weights_of
from keras_vit_scale.models.config import image_grid, image_shape
from keras_vit_scale.models.vit import ViT
from keras_vit_scale.sharding import assign_shares
from keras_vit_scale.weights.checkpoint import PATCHES, check_options, open_checkpoint
from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.reading import read_weights
from keras_vit_scale.weights.resampling import METHODS
from keras_vit_scale.weights.sources import locate

#: How many problems an error lists; a file may have millions.
LISTED = 200


def from_pretrained(
    source: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | EllipsisType | None = ...,
    patch_size: int | None = None,
    pooling: str | None = None,
    gelu: str | None = None,
    epsilon: float | None = None,
    heads: int | None = None,
    grid: tuple[int, int] | None = None,
    resample: str = "bilinear",
    ignore: str | Sequence[str] = (),
    sha256: str | None = None,
    revision: str | None = None,
    file: str | None = None,
    allow_torch_pickle: bool = False,
    **options: Any,
) -> keras.Model:
    """A Vision Transformer with the weights of another project's file.

    Files of big_vision and vision_transformer (`.npz`, old and new), timm and
    transformers (ViT, SigLIP's vision tower; `.safetensors`) and KerasHub (`.h5`)
    are told apart by the names in them. What the model is follows from names,
    shapes and a config.json beside the weights; where these do not say it, from the
    project's custom, and every inferred value can be overridden.

    Args:
        source: A file or folder, `hf://owner/name`, `https://...` or `gs://...`.
        image_size: Side of the model's images in pixels, or (height, width);
            positions are resampled. `None` for the file's own.
        num_classes: By default the file's head, if there is one. Another number
            than the file's for a new head of zeros; `None` for the representation.
        patch_size: Another patch size than the file's, to which the patch kernel
            is resampled (`resample_patches`); `image_size=None` keeps the grid then.
        pooling: "map", "gap" or "token".
        gelu: "tanh" or "exact". timm's and KerasHub's models have the exact form,
            SigLIP in transformers and big_vision the tanh form, unless a config
            says otherwise.
        epsilon: LayerNorm's; 1e-6, but 1e-12 for transformers' ViT.
        heads: Attention heads, which timm and transformers write into no weight;
            needed only without a config, for widths that no preset has.
        grid: Rows and columns of the file's patches, where they are not square and
            no config says it.
        resample: How positions go to another grid: "bilinear", the authors' way, or
            "bicubic", timm's.
        ignore: Beginnings of names in the file to leave out, for parts known to
            change nothing.
        sha256: What the file's digest must be.
        revision: Of a repository: branch, tag or commit.
        file: Which file of a repository or folder.
        allow_torch_pickle: Whether to read `.pt` and `.bin` files, by torch and
            tensors only.
        **options: Of `ViT`: `dropout`, `stochastic_depth`, `remat`,
            `frozen_blocks`, `unroll`, `seed`, `head_bias`, `dtype`, `name`.

    Returns:
        A model as `ViT` builds it.

    Raises:
        WeightsError: If the file is damaged, has parts that our architecture
            lacks, or arrays that are missing, unknown or of the wrong shape, all of
            which are listed.
        ValueError: If an option is out of its range.

    Warns:
        UserWarning: If weights are not finite, naming them.

    Example:

    >>> import tempfile
    >>> import keras_vit_scale as kvs
    >>> model = kvs.ViT("mu/8", 5, image_size=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kvs.save_weights_as(model, f"{folder}/vit.npz", format="big_vision")
    ...     larger = kvs.from_pretrained(f"{folder}/vit.npz", image_size=(32, 48), num_classes=3)
    >>> larger.input_shape, larger.output_shape
    ((None, 32, 48, 3), (None, 3))
    """
    check_options(pooling, gelu, epsilon, heads, grid)
    check_one_of(METHODS, resample=resample)
    if patch_size is not None:
        check_positive_integers(patch_size=patch_size)
    if num_classes is not ... and num_classes is not None:
        check_positive_integers(num_classes=num_classes)
    path = locate(source, sha256=sha256, revision=revision, file=file)
    with _open(path, ignore, allow_torch_pickle) as checkpoint:
        found = checkpoint.describe(
            pooling=pooling, gelu=gelu, epsilon=epsilon, heads=heads, grid=grid and tuple(grid)
        )
        classes = found.num_classes if num_classes is ... else num_classes
        wanted = replace(
            found,
            config=replace(found.config, patch_size=patch_size or found.config.patch_size),
            num_classes=classes if classes == found.num_classes else None,
        )
        size = wanted.image_size if image_size is None else image_shape(image_size)
        wanted = replace(wanted, grid=image_grid(size, wanted.config.patch_size))
        shapes = wanted.shapes()
        # Patches may be resampled: the kernel there has the size of the file's.
        there = shapes | {PATCHES: found.shapes()[PATCHES]}
        _refuse(checkpoint.check(found, there), found, None)
        # Drawing values that are replaced at once takes longer than reading the file. On several
        # devices they are drawn all the same: each device its share, which then is replaced.
        drawn = keras.distribution.distribution() is not None
        with (
            contextlib.nullcontext() if drawn else keras.StatelessScope(initialize_variables=False)
        ):
            model = ViT(
                preset_name(wanted.config) or wanted.config,
                classes,
                image_size=size,
                pooling=wanted.pooling,
                positions=wanted.positions,
                gelu=wanted.gelu,
                epsilon=wanted.epsilon,
                **options,
            )
        for values in read_weights(checkpoint, found, shapes, wanted.grid, resample):
            _assign(model, values)
    with keras.StatelessScope():
        pass  # at whose end Keras initialises the variables that it finds without values
    return model


def load_weights_from(
    model: keras.Model,
    source: str | Path,
    *,
    head: str = "file",
    grid: tuple[int, int] | None = None,
    resample: str = "bilinear",
    ignore: str | Sequence[str] = (),
    sha256: str | None = None,
    revision: str | None = None,
    file: str | None = None,
    allow_torch_pickle: bool = False,
) -> None:
    """Gives a model that `ViT` built the weights of another project's file, in place.

    Positions are resampled to the model's grid. If anything does not fit, nothing
    is changed.

    Args:
        model: The model, whatever trained it: optimizer and compilation stay.
        source: As for `from_pretrained`.
        head: "file": a model with a head takes the file's, which must fit.
            "keep": it keeps its own.
        grid: Rows and columns of the file's patches, where they are not square and
            no config says it.
        resample: "bilinear", the authors' way, or "bicubic", timm's.
        ignore: Beginnings of names in the file to leave out.
        sha256: What the file's digest must be.
        revision: Of a repository: branch, tag or commit.
        file: Which file of a repository or folder.
        allow_torch_pickle: Whether to read `.pt` and `.bin` files.

    Raises:
        WeightsError: If the file is damaged or does not fit: all arrays that are
            missing, unknown or of the wrong shape are listed, and what the file
            looks like.
        ValueError: If an option is out of its range or the model is no `ViT`.

    Warns:
        UserWarning: If weights are not finite, or the file's model has another
            form of GELU or another epsilon.

    Example:

    >>> import tempfile
    >>> import keras_vit_scale as kvs
    >>> model, other = (kvs.ViT("mu/8", n, image_size=32) for n in (5, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kvs.save_weights_as(model, f"{folder}/vit.npz", format="big_vision")
    ...     kvs.load_weights_from(other, f"{folder}/vit.npz", head="keep")
    """
    check_one_of(("file", "keep"), head=head)
    check_options(None, None, None, None, grid)
    check_one_of(METHODS, resample=resample)
    ours = architecture(model)
    wanted = ours if head == "file" else replace(ours, num_classes=None)
    path = locate(source, sha256=sha256, revision=revision, file=file)
    with _open(path, ignore, allow_torch_pickle) as checkpoint:
        found = checkpoint.describe(grid=grid, model_heads=ours.config.heads)
        shapes = wanted.shapes()
        problems = checkpoint.check(found, shapes)
        if found.config.heads != ours.config.heads:
            problems.append(f"its heads are {found.config.heads}, not {ours.config.heads}")
        _refuse(problems, found, wanted)
        # All is read before any is used: an error leaves the model as it was.
        values: dict[str, np.ndarray] = {}
        for group in read_weights(checkpoint, found, shapes, wanted.grid, resample):
            values |= group
    for option in ("gelu", "epsilon"):
        theirs, mine = getattr(found, option), getattr(ours, option)
        if theirs != mine:
            warnings.warn(
                f"The weights were made for {option}={theirs!r}; the model has {mine!r}.",
                stacklevel=2,
            )
    _assign(model, values)


def _open(path, ignore, allow_torch_pickle):
    """The checkpoint, to be closed."""
    ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    checkpoint = open_checkpoint(path, ignore=ignore, allow_torch_pickle=allow_torch_pickle)
    return contextlib.closing(checkpoint)


def _refuse(problems, found, wanted):
    """Refuses a file that does not fit, with everything that does not."""
    if not problems:
        return
    more = len(problems) - LISTED
    listed = "; ".join(problems[:LISTED]) + (f"; and {more} more" if more > 0 else "")
    model = f", and the model is {wanted}" if wanted else ""
    raise WeightsError(
        "The file must hold every weight of the model, in its shape, and no other; `ignore=` "
        f"leaves names out. Received one that looks like {found}{model}: {listed}"
    )


def _assign(model, values):
    """Gives a model its weights, the smallest first, letting go of each array when it is used."""
    encoder = model.get_layer("encoder")
    variables = weights_of(model)
    for name in sorted(values, key=lambda name: values[name].size):
        value = values.pop(name)
        if name in variables:
            _give(variables[name], value)
            continue
        weight, k = name.removeprefix("encoder/"), encoder.frozen_blocks
        for stack, part in ((encoder.frozen, value[:k]), (encoder.blocks, value[k:])):
            if stack:
                _give(stack[weight], part)


def _give(variable, value):
    """Makes an array a variable's value, or what it will be initialised with."""
    if keras.backend.backend() == "torch":
        # Keras would copy the array first, which takes as long as all the rest of loading.
        import torch

        value = torch.from_numpy(value)
    if variable._value is None:
        variable._initializer = lambda shape, dtype: keras.ops.convert_to_tensor(value, dtype)
    else:
        assign_shares(variable, value.__getitem__)
