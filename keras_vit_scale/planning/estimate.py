"""What a training step takes of a device, told in milliseconds before anything is built."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import keras

from keras_vit_scale.checks import check_one_of, check_positive, check_positive_integers
from keras_vit_scale.distribution.cuts import Cuts
from keras_vit_scale.distribution.mesh import MODEL
from keras_vit_scale.models.architecture import architecture
from keras_vit_scale.models.block import is_half
from keras_vit_scale.models.config import ViTConfig, image_grid, image_shape
from keras_vit_scale.models.pooling import POOLINGS
from keras_vit_scale.models.presets import preset
from keras_vit_scale.models.remat import check_remat
from keras_vit_scale.planning.accelerators import (
    DTYPES,
    Accelerator,
    accelerator,
    this_accelerator,
)
from keras_vit_scale.planning.activations import Tokens, resolved
from keras_vit_scale.planning.compute import tpuv3_core_days
from keras_vit_scale.planning.exact import TPUS, needed
from keras_vit_scale.planning.flops import (
    attention_and_mlp_flops,
    forward_flops,
    training_flops,
)
from keras_vit_scale.planning.memory import Memory, step_memory
from keras_vit_scale.planning.parameters import Weight, weights
from keras_vit_scale.planning.state import Slots, named_optimizer

#: Part of an accelerator's nominal memory that a program can have: of a core of TPU v3 15.48 of
#: 16 GiB, of a TPU v5e 15.75 of 16.
USABLE = 0.96


@dataclass(frozen=True)
class Estimate:
    """What a training step takes, and for how long.

    Args:
        config: Shape of the model.
        batch_size: Images of a step, on all devices together.
        devices: How many there are.
        device: What they are, if that is known.
        dtype: Type of the factors of matrix products, "bfloat16" for example.
        parameters: By part: "patch_embedding", "position_embedding", "encoder" and so on.
        flops: Of a step, on all devices together, as the paper counts: three forward passes.
        computed_flops: With those that are computed again for the backward pass.
        memory: Of one device.
        compiled: Bytes that the compiler found one device to need, or that were measured,
            if it was asked to be exact.
    """

    config: ViTConfig
    batch_size: int
    devices: int
    device: Accelerator | None
    dtype: str
    parameters: dict[str, int]
    flops: float
    computed_flops: float
    memory: Memory
    compiled: int | None = None

    @property
    def needed(self) -> int:
        """Bytes of one device's memory: the compiler's, if it was asked, or the estimate."""
        return self.memory.total if self.compiled is None else self.compiled

    @property
    def available(self) -> int | None:
        """Bytes of the device's memory that a program can have, `None` for an unknown device."""
        return None if self.device is None else usable(self.device)

    @property
    def fits(self) -> bool | None:
        """Whether the device can hold it, `None` for an unknown device."""
        return None if self.available is None else self.needed <= self.available

    @property
    def seconds(self) -> float | None:
        """Of a step, at the device's typical part of its peak; `None` where no peak is known."""
        peak = None if self.device is None else _peak(self.device, self.dtype)
        if self.device is None or peak is None:
            return None
        return self.computed_flops / (self.devices * peak * self.device.mfu)

    @property
    def images_per_second(self) -> float | None:
        """On all devices together."""
        return None if self.seconds is None else self.batch_size / self.seconds

    def training(self, steps: int, price: float | None = None) -> dict[str, float | None]:
        """What a number of steps takes.

        Args:
            steps: Steps.
            price: Of one device for an hour, in any currency.

        Returns:
            "images" seen; "flops"; "tpuv3_core_days" at the paper's rate; "hours" and
            "device_hours", `None` for a device of unknown speed; with a price the "cost".

        Raises:
            ValueError: If a number is not positive.
        """
        check_positive_integers(steps=steps)
        hours = None if self.seconds is None else self.seconds * steps / 3600
        device_hours = None if hours is None else hours * self.devices
        told: dict[str, float | None] = {
            "images": self.batch_size * steps,
            "flops": self.flops * steps,
            "tpuv3_core_days": tpuv3_core_days(self.flops * steps),
            "hours": hours,
            "device_hours": device_hours,
        }
        if price is not None:
            check_positive(price=price)
            told["cost"] = None if device_hours is None else device_hours * price
        return told


def usable(device: Accelerator) -> int:
    """Bytes of an accelerator's memory that a program can have."""
    return int(USABLE * device.memory)


def memory_to_fill(device: Accelerator | None, memory: float | None, method: str) -> int | None:
    """Bytes that a step may take of a device, or `None` for all that the one here has.

    Args:
        device: The device, if it is known.
        memory: Bytes that are given for it; by default what is `usable`.
        method: How it is found whether a step fits; with "run" nothing need be known.

    Raises:
        ValueError: If the memory is not positive, or it is unknown and must be known.
    """
    if memory is not None:
        check_positive(memory=memory)
        return int(memory)
    if device is not None:
        return usable(device)
    if method == "run":
        return None
    raise ValueError(
        "It must be known how much memory there is: give `memory` or `device`. Received: "
        "neither, and no known accelerator is here"
    )


def named_device(device: str | Accelerator | None) -> Accelerator | None:
    """The accelerator of a name, of a TPU's kind such as "v5e", or the one that is here.

    Raises:
        ValueError: If there is none of the name, naming those that come near.
    """
    if device is None:
        return this_accelerator()
    if isinstance(device, Accelerator):
        return device
    return accelerator(TPUS.get(device, device))


def estimate(
    model: str | ViTConfig | keras.Model,
    batch_size: int,
    *,
    num_classes: int | None = 1000,
    image_size: int | tuple[int, int] = 224,
    pooling: str = "map",
    positions: str = "learned",
    optimizer: str | keras.optimizers.Optimizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    remat: str | None = "auto",
    device: str | Accelerator | None = None,
    distribution: Cuts | None = None,
    exact: bool = False,
) -> Estimate:
    """What a training step of a `ViT` takes: parameters, FLOPs, memory by kind, and time.

    It takes milliseconds and allocates nothing. Memory is that of the step of `fit` on
    JAX, without dropout, where the encoder scans its blocks; for TPUs it is within 10 % of
    what their compiler plans (`docs/planning.md`). Other devices are taken to
    need the same, but for the tiles in which TPUs lay arrays.

    Args:
        model: A preset's name, a `ViTConfig`, or a model that `ViT` built: of this its
            classes, image size, pooling, positions, `remat`, dtype and optimizer are
            taken, and the arguments of these names are not.
        batch_size: Images of a step, on all devices together.
        num_classes, image_size, pooling, positions, remat: As in `ViT`.
        optimizer: A name of "adafactor", "adamw", "momentum" (ours) and "adam" (Keras',
            which keeps all in float32), or any Keras optimizer. By default Adafactor.
        dtype: As in `ViT`; by default Keras' global policy.
        device: The name of an accelerator in `ACCELERATORS`, such as "H100 SXM"; a kind of
            TPU, "v5e"; or an `Accelerator` of your own. By default the one that the
            backend sees, if it is known.
        distribution: How the model lies on several devices: a `distribution.Cuts`, or what
            `data_parallel` and its like return.
        exact: Ask the compiler: for the TPU of the name, or for the device that is here.
            On torch a step is run, and its peak measured. Takes seconds.

    Raises:
        ValueError: If a name is unknown, a number no positive integer, the batch no multiple
            of the devices that it is cut over, or a weight cannot be cut as asked.
        NotImplementedError: If `exact` is asked for what cannot be compiled here.

    Example:

    >>> from keras_vit_scale.planning import estimate
    >>> told = estimate("g/14", 4, dtype="mixed_bfloat16", remat="full", device="TPU v3 core")
    >>> round(told.needed / 2**30, 1), told.fits
    (9.8, True)
    >>> round(told.training(1000)["hours"], 2)
    0.06
    """
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "image_size": image_size,
        "pooling": pooling,
        "positions": positions,
        "remat": remat,
        "dtype": dtype,
    }
    if isinstance(model, keras.Model):
        config, options = _of_model(model)
        optimizer = getattr(model, "optimizer", None) if optimizer is None else optimizer
    else:
        config = preset(model) if isinstance(model, str) else model
    estimator = Estimator(optimizer, device=device, distribution=distribution, **options)
    told = estimator(config, batch_size)
    if not exact:
        return told
    step = {**options, "optimizer": estimator.optimizer}
    return replace(told, compiled=needed(config, batch_size, told.device, distribution, **step))


class Estimator:
    """`estimate` for many shapes and batches with the same settings, in half a millisecond each.

    Args:
        optimizer, device, distribution, num_classes, image_size, pooling, positions, dtype,
            remat: As in `estimate`.

    Raises:
        ValueError: If a name is unknown or a number no positive integer.
    """

    def __init__(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        *,
        num_classes: int | None = 1000,
        image_size: int | tuple[int, int] = 224,
        pooling: str = "map",
        positions: str = "learned",
        dtype: str | keras.DTypePolicy | None = None,
        remat: str | None = "auto",
        device: str | Accelerator | None = None,
        distribution: Cuts | None = None,
    ):
        check_one_of(POOLINGS, pooling=pooling)
        check_remat(remat)
        if num_classes is not None:
            check_positive_integers(num_classes=num_classes)
        self.optimizer = named_optimizer(optimizer)
        self.device = named_device(device)
        self.remat = remat
        self._shape: dict[str, Any] = {"pooling": pooling, "num_classes": num_classes}
        self._positions, self._image_size = positions, image_size
        self._cuts = Cuts() if distribution is None else _cuts(distribution)
        self._policy = keras.dtype_policies.get(dtype)
        self._slots = Slots(self.optimizer)

    def __call__(self, config: ViTConfig, batch_size: int) -> Estimate:
        """What a step of this shape takes.

        Raises:
            ValueError: If the images are no multiple of the patches, the batch is none of the
                devices that it is cut over, or a weight cannot be cut.
        """
        check_positive_integers(batch_size=batch_size)
        image_grid(self._image_size, config.patch_size)
        data, shared = self._cuts.data, self._cuts.sizes[MODEL]
        if batch_size % data:
            raise ValueError(
                "A batch must be a multiple of the devices that it is cut over. "
                f"Received: batch_size={batch_size}, data={data}"
            )
        listed = weights(config, self._image_size, positions=self._positions, **self._shape)
        forward = forward_flops(config, self._image_size, **self._shape)
        again = recomputed_flops(config, self._image_size, self._shape["pooling"], self.remat)
        return Estimate(
            config=config,
            batch_size=batch_size,
            devices=data * shared,
            device=self.device,
            dtype=self._policy.compute_dtype,
            parameters=by_part(listed),
            flops=training_flops(forward, batch_size),
            computed_flops=training_flops(forward, batch_size) + float(again) * batch_size,
            memory=step_memory(
                self._tokens(config, batch_size // data, shared),
                config.depth,
                listed,
                pixels=prod(image_shape(self._image_size)),
                remat=self.remat,
                policy=self._policy,
                cuts=self._cuts,
                slots=self._slots,
            ),
        )

    def _tokens(self, config: ViTConfig, images: int, shared: int) -> Tokens:
        rows, columns = image_grid(self._image_size, config.patch_size)
        return Tokens(
            images=images,
            tokens=rows * columns + (self._shape["pooling"] == "token"),
            width=config.width,
            mlp_dim=config.mlp_dim // shared,
            heads=config.heads // shared,
            head_dim=config.head_dim,
            half=is_half(self._policy.compute_dtype),
            tiled=self.device is not None and self.device.name.startswith("TPU"),
        )


def recomputed_flops(
    config: ViTConfig, image_size: int | tuple[int, int], pooling: str, remat: str | None
) -> int:
    """FLOPs of an image that the backward pass computes again.

    Example:

    >>> from keras_vit_scale.models import preset
    >>> from keras_vit_scale.planning.estimate import recomputed_flops
    >>> recomputed_flops(preset("S/16"), 224, "map", None)
    0
    """
    rows, columns = image_grid(image_size, config.patch_size)
    tokens = rows * columns + (pooling == "token")
    projections, products, mlp = attention_and_mlp_flops(config, tokens, tokens)
    again = {
        # What the MLP's last product gives nobody asks for.
        "full": projections + products + mlp // 2,
        "dots_with_no_batch_dims_saveable": products,
    }
    return config.depth * again.get(str(resolved(remat)), 0)


def by_part(listed: list[Weight]) -> dict[str, int]:
    """Parameters by the layer that has them."""
    parts: dict[str, int] = {}
    for weight in listed:
        parts[weight.part] = parts.get(weight.part, 0) + weight.size
    return parts


def _cuts(distribution: Any) -> Cuts:
    if not isinstance(distribution, Cuts):
        raise ValueError(
            "`distribution` must be a `distribution.Cuts`, or what `data_parallel`, "
            f"`fully_sharded` and `tensor_parallel` return. Received: {distribution!r}"
        )
    return distribution


def _of_model(model: keras.Model) -> tuple[ViTConfig, dict[str, Any]]:
    """Shape and options of a model that `ViT` built."""
    built, encoder = architecture(model), model.get_layer("encoder")
    rows, columns = (side * built.config.patch_size for side in built.grid)
    return built.config, {
        "num_classes": built.num_classes,
        "image_size": (rows, columns),
        "pooling": built.pooling,
        "positions": built.positions,
        "remat": encoder.remat,
        "dtype": encoder.dtype_policy,
    }


def _peak(device: Accelerator, dtype: str) -> float | None:
    """FLOP/s of products in a type; of float32 on TPUs, whose products have bfloat16 factors."""
    if dtype == "float32" and device.name.startswith("TPU"):
        return device.peak("bfloat16")
    return device.peak(dtype) if dtype in DTYPES else None
