"""What a model's training depends on, as named variables, and their values on the host."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from keras_vit_scale.processes import is_first
from keras_vit_scale.sharding import is_here, is_sharded
from keras_vit_scale.types import Tensor

#: What Keras calls the state of a SeedGenerator.
SEED = "seed_generator_state"
#: How the names of random seeds begin.
SEEDS = "model/seed/"


def training_state(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable that training depends on, by a name that other processes share.

    Variables of the model are named by their path, but its random seeds, which Keras
    numbers over all models of a process, by their place among them; those of its
    optimizer, averages and accumulated gradients among them, by their path without the
    optimizer's own name, which Keras may number. What is marked `is_setting` is none of it.
    An optimizer that was not yet built is.

    Raises:
        ValueError: If two variables have one name.
    """
    seeds = [v for v in model.variables if v.name == SEED]
    named = [(f"model/{v.path}", v) for v in model.variables if v.name != SEED]
    named += [(f"{SEEDS}{i}", v) for i, v in enumerate(seeds)]
    if model.optimizer is not None:
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        named += [
            (f"optimizer/{v.path.removeprefix(model.optimizer.name + '/')}", v)
            for v in model.optimizer.variables
            if not getattr(v, "is_setting", False)
        ]
    state = dict(named)
    if len(state) < len(named):
        names = [name for name, _ in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            "Variables need different names to be told apart in a checkpoint; "
            f"name your layers. Received twice: {twice}"
        )
    return state


def metrics_state(model: keras.Model) -> dict[str, np.ndarray]:
    """The sums and counts of a model's metrics since the beginning of the epoch."""
    return {f"metrics/{i}": host_copy(v) for i, v in enumerate(model.metrics_variables)}


def set_metrics(model: keras.Model, values: Mapping[str, np.ndarray]) -> None:
    """Gives a model's metrics the sums and counts of `metrics_state`.

    Keras resets them when an epoch begins; what is set before is lost.

    Raises:
        ValueError: If the model has other metrics.
    """
    variables = {f"metrics/{i}": v for i, v in enumerate(model.metrics_variables)}
    if {n: tuple(v.shape) for n, v in variables.items()} != {n: a.shape for n, a in values.items()}:
        raise ValueError(
            "A model must go on with the metrics that it was compiled with. Received: "
            f"{len(variables)} variables of metrics; {len(values)} were saved, or of other shapes"
        )
    for name, variable in variables.items():
        variable.assign(values[name])


@dataclass(frozen=True)
class Piece:
    """A part of an array, or the whole of it, on the host."""

    start: tuple[int, ...]
    values: np.ndarray


def host_copy(variable: keras.Variable) -> np.ndarray:
    """A variable's whole value, in memory of its own."""
    # Always a copy: training overwrites the variable's memory, or gives it away.
    return np.array(keras.ops.convert_to_numpy(variable.value), order="C")


def kept_copy(variable: keras.Variable) -> Tensor:
    """A copy of a variable's value to give back to it: on the host, where that sees all of it."""
    return host_copy(variable) if is_here(variable.value) else keras.ops.copy(variable.value)


def pieces(variable: keras.Variable) -> list[Piece]:
    """What this process has to save of a variable: its shards, or all of it.

    Of a shard that several devices hold, one process saves one copy.
    """
    value = variable.value
    if not is_sharded(value):
        copy = host_copy(variable)
        return [Piece((0,) * copy.ndim, copy)]
    if value.is_fully_replicated:
        # Of some values that every device has whole, JAX 0.10 cannot list the shards.
        if not is_first():
            return []
        return [Piece((0,) * value.ndim, np.array(value.addressable_data(0), order="C"))]
    return [
        Piece(
            tuple(0 if s.start is None else s.start for s in shard.index),
            np.array(shard.data, order="C"),
        )
        for shard in value.addressable_shards
        if shard.replica_id == 0
    ]
