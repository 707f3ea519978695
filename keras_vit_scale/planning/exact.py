"""What a training step needs of a device, asked of its compiler or measured."""

from typing import Any

import keras

from keras_vit_scale.distribution.cuts import Cuts
from keras_vit_scale.models.config import ViTConfig
from keras_vit_scale.planning.accelerators import Accelerator, this_accelerator
from keras_vit_scale.planning.step import OutOfMemoryError, lower_step
from keras_vit_scale.planning.topologies import TPU_KINDS
from keras_vit_scale.planning.trial import training_step

#: Accelerators by the kind that the compiler for TPUs knows: of v3 a core is a device.
TPUS = {kind: f"TPU {kind} core" if kind == "v3" else f"TPU {kind}" for kind in TPU_KINDS}


def needed(
    config: ViTConfig,
    batch_size: int,
    device: Accelerator | None,
    distribution: Cuts | None,
    **options: Any,
) -> int:
    """Bytes of one device's memory that a step needs.

    Args:
        config, batch_size, **options: As of `lower_step`.
        device: A TPU, which need not be there; or what is here, `None` for this machine's
            processor.
        distribution: A layout on devices, such as those of `tpu_devices`.

    Raises:
        ValueError: If there are cuts without devices.
        NotImplementedError: If the device is neither a TPU nor here, or the backend cannot tell.
    """
    backend = keras.backend.backend()
    if backend == "torch" and device == this_accelerator() and distribution is None:
        return _measured(config, batch_size, **options)
    if backend != "jax":
        raise NotImplementedError(
            "A step can be compiled ahead of time on the JAX backend alone, and measured on a GPU "
            f"on torch's: set KERAS_BACKEND. Received: backend={backend!r}, device={device}"
        )
    if distribution is not None:
        if not hasattr(distribution, "device_mesh"):
            raise ValueError(
                "To compile for several devices they must be named: "
                "`fully_sharded(devices=tpu_devices('v5e:4x4'))`. Received: cuts over "
                f"{distribution.sizes}"
            )
        step = lower_step(config, batch_size, distribution=distribution, **options)
    else:
        step = lower_step(config, batch_size, device=_compiled_for(device), **options)
    if step.device.startswith("TPU"):
        return step.plan().needed
    try:
        return step.compile().memory.total
    except OutOfMemoryError as error:
        return error.needed


def _compiled_for(device: Accelerator | None) -> str | None:
    """What `lower_step` is told of a device: a TPU's kind, or nothing for the one that is here."""
    kinds = {name: kind for kind, name in TPUS.items()}
    if device is not None and device.name in kinds:
        return kinds[device.name]
    if device == this_accelerator():
        return None
    raise NotImplementedError(
        "A step can be compiled for a TPU of "
        f"{list(kinds)} and for the device that is here. Received: device={device}"
    )


def _measured(config, batch_size, optimizer, **options):
    """The peak of torch's memory on the GPU in two steps; the first makes the optimizer's state."""
    import torch

    if not torch.cuda.is_available():
        raise NotImplementedError(
            "torch tells what a step needs on a GPU, and there is none here. Without `exact` it is "
            "estimated"
        )
    unused = type(optimizer).from_config(optimizer.get_config())
    step = training_step(config, batch_size, unused, **options)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated()
