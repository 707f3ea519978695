"""Where a model's variables lie, as a table."""

import math
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_vit_scale.distribution.mesh import check_backend


def describe(model: keras.Model) -> pd.DataFrame:
    """The variables of a model and of its optimizer, with the layout and size of each.

    Args:
        model: Built; an optimizer that was not yet built is.

    Returns:
        A table: "variable" (its path), "shape", "dtype", "layout" (the mesh's axis for each axis,
        or `None`), "bytes" in all, "bytes_a_device"; the last row is the sum.

    Raises:
        ValueError: If the backend is not JAX, or a rule of the distribution matches nothing.

    Example:

    >>> from keras_vit_scale import ViT, distribution
    >>> model = ViT("mu/8", 5, image_size=32)
    >>> table = distribution.describe(model)
    >>> table.variable.iloc[-1], bool(table.bytes.iloc[-1] == 4 * model.count_params())
    ('total', True)
    """
    check_backend()
    check = getattr(keras.distribution.distribution(), "check", None)
    if check is not None:
        check(model)
    variables = list(model.variables)
    optimizer = getattr(model, "optimizer", None)  # a model has one when it is compiled
    if optimizer is not None:
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        variables += optimizer.variables
    rows = [_row(v) for v in variables]
    total = {
        "variable": "total",
        "shape": "",
        "dtype": "",
        "layout": "",
        "bytes": sum(row["bytes"] for row in rows),
        "bytes_a_device": sum(row["bytes_a_device"] for row in rows),
    }
    return pd.DataFrame([*rows, total])


def _row(variable: keras.Variable) -> dict[str, Any]:
    value = variable.value
    shape, size = tuple(value.shape), np.dtype(value.dtype).itemsize
    return {
        "variable": variable.path,
        "shape": shape,
        "dtype": str(value.dtype),
        "layout": layout_of(value),
        "bytes": math.prod(shape) * size,
        "bytes_a_device": math.prod(value.sharding.shard_shape(shape)) * size,
    }


def layout_of(value: Any) -> tuple[Any, ...]:
    """The mesh's axis for each axis of an array on JAX, `None` where it is not cut."""
    spec = tuple(getattr(value.sharding, "spec", ()))
    return (*spec, *[None] * (value.ndim - len(spec)))
