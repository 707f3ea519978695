"""A training step, compiled ahead of time: for this device, or for TPUs that are not there."""

import contextlib
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.losses import SigmoidCrossEntropy
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.models.vit import ViT
from keras_vit_scale.optimizers import Adafactor
from keras_vit_scale.planning.abstract import abstract_variables
from keras_vit_scale.planning.collectives import Collective, collectives
from keras_vit_scale.planning.products import product_flops
from keras_vit_scale.planning.topologies import tpu_devices

#: Parts of the state of training, in the order in which Keras' trainer on JAX takes them.
STATE = ("trainable", "non_trainable", "optimizer", "metrics")


class OutOfMemoryError(RuntimeError):
    """The step does not fit the device for which it was compiled.

    Args:
        needed: Bytes that the compiler found it to need.
        available: Bytes that the device has for it.
    """

    def __init__(self, message: str, needed: int, available: int):
        super().__init__(message)
        self.needed = needed
        self.available = available


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one device's memory in a training step, as the compiler plans it.

    Args:
        arguments: State and batch before the step.
        outputs: State and logs after it.
        aliased: Of the outputs, what takes the place of arguments.
        temporaries: All between: what is kept for the backward pass, gradients, workspace.
        code: The program, where it lies in the device's memory.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """What the device must have."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclass(frozen=True)
class CompiledStep:
    """A training step as the compiler made it, and what it tells of it.

    Args:
        device: The kind of device, as JAX names it.
        devices: How many of them.
        memory: Of one device.
        state: Bytes on one device of each part of the training state: "trainable",
            "non_trainable", "optimizer" and "metrics" variables.
        flops: Of the matrix products of the whole step, on all devices together,
            with those that are computed again for the backward pass.
        collectives: What the devices send each other.
        seconds: Of "build", "lower" and "compile"; the last is short where JAX's
            compilation cache has the step.
        compiled: JAX's compiled function, from state and batch to logs and state, as
            the trainer's `train_step`. The state is consumed.
    """

    device: str
    devices: int
    memory: StepMemory
    state: dict[str, int]
    flops: int
    collectives: list[Collective]
    seconds: dict[str, float]
    compiled: Any

    @property
    def sent(self) -> float:
        """Bytes that each device sends to others in one step."""
        return sum(c.sent for c in self.collectives)


@dataclass(frozen=True)
class StepPlan:
    """What a compiler for TPUs has planned before it generates code.

    Args:
        needed: Bytes of one device's memory, as it counts them then, without the program
            and the gaps between arrays: 0.4 % below `memory.total` of the compiled step for
            G/14 at a batch of 1, 1.9 % for g/14 at 4, but 15 % for S/16 at 8.
        collectives: What the devices send each other.
    """

    needed: int
    collectives: list[Collective]

    @property
    def sent(self) -> float:
        """Bytes that each device sends to others in one step."""
        return sum(c.sent for c in self.collectives)


@dataclass(frozen=True)
class LoweredStep:
    """A training step that is traced and not yet compiled: what is known without the compiler.

    Args:
        device, devices, state, flops: As of a `CompiledStep`.
        seconds: Of "build" and "lower".
        lowered: What JAX compiles.
    """

    device: str
    devices: int
    state: dict[str, int]
    flops: int
    seconds: dict[str, float]
    lowered: Any

    def plan(self) -> StepPlan:
        """What the compiler for TPUs plans before it generates code.

        That takes seconds, where `compile` takes minutes, and there is no size that it
        does not tell.

        Raises:
            NotImplementedError: If the step is lowered for another device.
        """
        if not self.device.startswith("TPU"):
            raise NotImplementedError(
                "Only the compiler for TPUs tells its plan before it generates code; `compile()` "
                f"has that of others. Received: a step for {self.device!r}"
            )
        with tempfile.TemporaryDirectory() as folder:
            options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
            try:
                # It stops and tells its count where the device has next to no memory.
                compiled = _compile(self.lowered, {**options, "xla_tpu_max_hbm_size_mib": "1"})
            except OutOfMemoryError as error:
                needed = error.needed
            else:
                needed = _memory(compiled).total
            (program,) = Path(folder).glob("*.after_optimizations.txt")
            text = program.read_text(encoding="utf-8")
        return StepPlan(needed, collectives(text) if self.devices > 1 else [])

    def compile(self) -> CompiledStep:
        """The step, compiled.

        Raises:
            OutOfMemoryError: If the compiler finds that the device's memory cannot hold it.
        """
        begun = time.perf_counter()
        compiled = _compile(self.lowered)
        seconds = time.perf_counter() - begun
        return CompiledStep(
            device=self.device,
            devices=self.devices,
            memory=_memory(compiled),
            state=self.state,
            flops=self.flops,
            collectives=collectives(compiled.as_text()) if self.devices > 1 else [],
            seconds={**self.seconds, "compile": seconds},
            compiled=compiled,
        )


def compile_step(config: str | ViTConfig, batch_size: int, **options: Any) -> CompiledStep:
    """Compiles the training step of a `ViT` without a weight, an image or, for TPUs, the device.

    Args:
        config, batch_size, **options: As for `lower_step`.

    Raises:
        OutOfMemoryError: If the compiler finds that the device's memory cannot hold it.
        NotImplementedError, ValueError: As `lower_step`.

    Example:

    >>> from keras_vit_scale.planning import compile_step
    >>> step = compile_step("mu/16", batch_size=2, image_size=32)
    >>> step.memory.total > sum(step.state.values())
    True
    """
    return lower_step(config, batch_size, **options).compile()


def lower_step(
    config: str | ViTConfig,
    batch_size: int,
    *,
    num_classes: int = 1000,
    optimizer: keras.optimizers.Optimizer | None = None,
    loss: Any = None,
    metrics: Sequence[Any] | None = None,
    device: Any = None,
    distribution: Any = None,
    **options: Any,
) -> LoweredStep:
    """The training step of a `ViT`, ready for the compiler, of shapes alone.

    It is the step that `fit` runs, the `train_step` of Keras' trainer with this
    optimizer, loss and metrics, its state donated. Nothing is allocated: G/14 takes
    no more memory than s/28. On the JAX backend.

    Args:
        config: A preset's name or a `ViTConfig`.
        batch_size: Images of one step, on all devices together.
        num_classes: Classes of the head; labels are their indices.
        optimizer: Any Keras optimizer; its settings are taken, and it is left as it
            is. By default `Adafactor()`.
        loss: Any Keras loss; by default `SigmoidCrossEntropy()`.
        metrics: Any Keras metrics; by default none.
        device: Where it is to run: a JAX device, or a TPU's kind as in `tpu_devices`,
            "v5e". By default the first device that JAX sees.
        distribution: A Keras distribution, over devices that JAX sees or those of
            `tpu_devices`, in the place of `device`.
        **options: Of `ViT`: `image_size`, `pooling`, `dtype`, `remat`, `unroll` and so on.

    Raises:
        ValueError: If an option is out of its range, or a device and a distribution
            are given.
        NotImplementedError: On another backend than JAX.

    Example:

    >>> from keras_vit_scale.planning import lower_step
    >>> step = lower_step("S/16", batch_size=1)
    >>> round(step.state["optimizer"] / step.state["trainable"], 2)
    0.52
    """
    _check(batch_size, num_classes, device, distribution)
    import jax

    begun = time.perf_counter()
    optimizer = Adafactor() if optimizer is None else optimizer
    # A copy outside all scopes: what has a value at once, such as the rate, is to have it here.
    optimizer = type(optimizer).from_config(optimizer.get_config())
    with contextlib.ExitStack() as scopes:
        if distribution is not None:
            scopes.enter_context(distribution.scope())
        with abstract_variables():
            model = ViT(config, num_classes, **options)
            _lay_out(model.variables)
            model.compile(optimizer, loss or SigmoidCrossEntropy(), metrics=metrics)
            batch = _batch(model, batch_size)
            model._symbolic_build(data_batch=batch)
            variables = (
                model.trainable_variables,
                model.non_trainable_variables,
                optimizer.variables,
                model.metrics_variables,
            )
            for part in variables:
                _lay_out(part)
        held, fed = _places(device, distribution)
        state = tuple([_shape(v, held(v)) for v in part] for part in variables)
        batch = tuple(_shape(v, fed(v)) for v in batch)
        results = (None, jax.tree.map(held, variables)) if distribution is not None else None
        # As `make_train_function` of the trainer has it.
        function = jax.jit(model.train_step, donate_argnums=0, out_shardings=results)
        built = time.perf_counter()
        traced = function.trace(state, batch)
        lowered = traced.lower()
        seconds = {"build": built - begun, "lower": time.perf_counter() - built}
    devices = list(batch[0].sharding.device_set)
    return LoweredStep(
        device=devices[0].device_kind,
        devices=len(devices),
        state={name: sum(map(_share, part)) for name, part in zip(STATE, state, strict=True)},
        flops=product_flops(traced.jaxpr.jaxpr),
        seconds=seconds,
        lowered=lowered,
    )


def _check(batch_size, num_classes, device, distribution):
    """Refuses what cannot be compiled, before anything is built."""
    if keras.backend.backend() != "jax":
        raise NotImplementedError(
            "A step can be compiled ahead of time on the JAX backend alone: set KERAS_BACKEND=jax. "
            f"Received: backend={keras.backend.backend()!r}"
        )
    check_positive_integers(batch_size=batch_size, num_classes=num_classes)
    if device is not None and distribution is not None:
        raise ValueError(
            "A distribution has devices of its own, so `device` must be None with it. "
            f"Received: device={device!r}, distribution={distribution!r}"
        )


def _places(device, distribution):
    """Where variables and batches lie: two functions of one to JAX's sharding."""
    import jax

    if distribution is not None:
        return (
            lambda variable: _sharding(variable._layout),
            lambda array: _sharding(distribution.get_data_layout(array.shape)),
        )
    if device is None:
        device = jax.devices()[0]
    elif isinstance(device, str):
        device = tpu_devices(device)[0]
    place = jax.sharding.SingleDeviceSharding(device)
    return lambda _: place, lambda _: place


def _batch(model, batch_size):
    """Shapes of a batch of images and of class indices, as `train_batches` makes them."""
    import jax

    images = jax.ShapeDtypeStruct((batch_size, *model.input_shape[1:]), "float32")
    return images, jax.ShapeDtypeStruct((batch_size,), "int32")


def _lay_out(variables):
    """Gives variables the layouts that they would have got with their values."""
    distribution = keras.distribution.distribution()
    for variable in variables:
        if variable._layout is None and distribution is not None:
            variable._layout = distribution.get_variable_layout(variable)


def _shape(like, sharding):
    import jax

    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)


def _sharding(layout):
    """JAX's own sharding of a Keras layout."""
    return getattr(layout, "backend_layout", layout)


def _share(shape: Any) -> int:
    """Bytes of one device's part of an array."""
    return prod(shape.sharding.shard_shape(shape.shape)) * shape.dtype.itemsize


def _compile(lowered, options=None):
    import jax

    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        # Two forms: of all memory, and where it sees early that what is computed will not fit.
        found = re.search(r"Used (\S+) of (\S+) hbm", str(error)) or re.search(
            r"HLO temporaries \((\S+)\) exceeds available HBM \((\S+)\)", str(error)
        )
        if found is None:
            raise
        needed, available = map(_written, found.groups())
        raise OutOfMemoryError(
            f"The step needs {needed / 2**30:.2f} GiB of a device that has "
            f"{available / 2**30:.2f} GiB for it. A smaller batch, `remat`, or more devices with "
            "a distribution that shards need less.",
            needed,
            available,
        ) from error


def _written(size: str) -> int:
    """Bytes of a number such as "17.75G"."""
    return int(float(size[:-1]) * 1024 ** ("KMGT".index(size[-1]) + 1))


def _memory(compiled: Any) -> StepMemory:
    analysis = compiled.memory_analysis()
    return StepMemory(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        code=analysis.generated_code_size_in_bytes,
    )
