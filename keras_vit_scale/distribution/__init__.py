"""Training on more than one device: layouts upon `keras.distribution`, on the JAX backend."""

from keras_vit_scale.distribution.cuts import Cuts
from keras_vit_scale.distribution.joining import initialize
from keras_vit_scale.distribution.layouts import (
    MeshParallel,
    data_parallel,
    fully_sharded,
    layout_map,
    tensor_parallel,
)
from keras_vit_scale.distribution.mesh import make_mesh, parse_mesh
from keras_vit_scale.distribution.table import describe

__all__ = [
    "Cuts",
    "MeshParallel",
    "data_parallel",
    "describe",
    "fully_sharded",
    "initialize",
    "layout_map",
    "make_mesh",
    "parse_mesh",
    "tensor_parallel",
]
