"""`estimate`, `max-batch` and `shapes`: what a training step takes, and what fits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import OmitArgPrefixes, arg

from keras_vit_scale.cli.output import print_json, tell

Size = Annotated[str, arg(metavar="SIZE")]
Device = Annotated[str | None, arg(metavar="NAME")]
Method = Literal["estimate", "compile", "run"]
GIB = 2**30


@dataclass(frozen=True)
class Step:
    """How a model of a named size is trained, as far as it decides what that takes."""

    optimizer: Literal["adafactor", "adamw", "momentum", "adam"] = "adafactor"
    """Ours, or adam: Keras', all of it in float32."""
    dtype: str = "mixed_bfloat16"
    """A Keras dtype policy."""
    remat: Literal["auto", "full", "dots", "none"] = "auto"
    """What the backward pass finds saved."""
    image_size: int = 224
    """Side of the images in pixels."""
    classes: int = 1000
    """Of the head."""
    pooling: Literal["map", "gap", "token"] = "map"
    """What makes one vector of the tokens."""

    def options(self) -> dict[str, Any]:
        """As `planning.estimate` takes them."""
        return {
            "optimizer": self.optimizer,
            "dtype": self.dtype,
            "remat": None if self.remat == "none" else self.remat,
            "image_size": self.image_size,
            "num_classes": self.classes,
            "pooling": self.pooling,
        }


#: What a verb takes of these unless it is told otherwise.
USUAL = Step()


def estimate(
    size: Size,
    /,
    batch_size: int = 4096,
    device: Device = None,
    step: Annotated[Step, OmitArgPrefixes] = USUAL,
    mesh: str | None = None,
    fully_sharded: bool = False,
    shards: int | None = None,
    steps: int | None = None,
    price: float | None = None,
    exact: bool = False,
    json: bool = False,
) -> None:
    """Say what a training step takes: parameters, FLOPs, memory by kind, time.

    For example:

      keras-vit-scale estimate g/14 --batch-size 4 --device "TPU v3 core" --remat full
      keras-vit-scale estimate G/14 --device H200 --mesh data=64 --fully-sharded --steps 100000
      keras-vit-scale estimate B/16 --batch-size 256 --device "RTX 4090" --steps 90000 --price 0.4

    Args:
        size: A named size, such as g/14.
        batch_size: Images of a step, on all devices together.
        device: An accelerator, such as "H100 SXM", or a kind of TPU, v5e. By default the one
            that is here.
        step: How the model is trained.
        mesh: Devices by axis: data=8 cuts the batch, data=4,model=2 heads and MLP width too.
        fully_sharded: Cut weights and the optimizer's state over the data axis too.
        shards: Of the data axis, how many neighbours share a copy of a fully sharded model.
        steps: Also say what so many steps take.
        price: Of one device for an hour, with --steps.
        exact: Ask the compiler, on JAX: of TPUs that need not be there (extra tpu), or of the
            device that is here. On torch a GPU's peak is measured.
        json: Print JSON.
    """
    from keras_vit_scale import planning
    from keras_vit_scale.distribution import Cuts, parse_mesh

    if price is not None and steps is None:
        raise ValueError("--price is that of a number of steps: give --steps")
    cuts = None
    if mesh is not None or fully_sharded or shards is not None:
        sizes = parse_mesh(mesh or "data=1")
        cuts = Cuts(**sizes, fully_sharded=fully_sharded, shards=shards)
    told = planning.estimate(
        size,
        batch_size,
        device=device,
        distribution=cuts,
        exact=exact,
        **step.options(),
    )
    training = None if steps is None else told.training(steps, price)
    if json:
        print_json({**as_numbers(told), "training": training})
        return
    name = "an unknown device" if told.device is None else told.device.name
    of_many = f"one of {told.devices} of {name}" if told.devices > 1 else name
    tell(f"{size}, a step of {batch_size:,} images on {of_many}", "bold")
    console = Console()
    console.print(
        table(("parameters", ""), [(part, f"{n:,}") for part, n in told.parameters.items()])
    )
    rows = [(kind, in_gib(n)) for kind, n in vars(told.memory).items()]
    console.print(table(("memory of a device", ""), [*rows, ("total", in_gib(told.memory.total))]))
    if told.compiled is not None:
        tell(f"By the compiler, or measured: {in_gib(told.compiled)}.")
    if told.available is not None:
        verdict = "It fits" if told.fits else "It does not fit"
        tell(f"{verdict}: a program can have {in_gib(told.available)} of {name}.")
    tell(f"{told.flops:.3g} FLOPs a step, {told.computed_flops:.3g} with those computed again.")
    if told.seconds is not None and told.device is not None:
        tell(
            f"{told.seconds:.3g} s a step, {told.images_per_second:,.0f} images a second, if "
            f"{told.device.mfu:.0%} of the peak are reached."
        )
    if training is not None:
        parts = [f"{steps:,} steps: {training['images']:,} images"]
        parts.append(f"{training['tpuv3_core_days']:,.3g} TPUv3 core-days at the paper's rate")
        if training["hours"] is not None:
            parts.append(f"{training['hours']:,.3g} hours")
            parts.append(f"{training['device_hours']:,.3g} device-hours")
        if training.get("cost") is not None:
            parts.append(f"a cost of {training['cost']:,.2f}")
        tell(", ".join(parts) + ".")


def max_batch(
    size: Size,
    /,
    device: Device = None,
    memory: float | None = None,
    method: Method = "estimate",
    multiple: int = 1,
    step: Annotated[Step, OmitArgPrefixes] = USUAL,
    json: bool = False,
) -> None:
    """Find the largest batch with which a training step fits a device.

    For example:

      keras-vit-scale max-batch B/16 --device "RTX 4090" --multiple 8
      keras-vit-scale max-batch G/14 --device v5p --remat full --method compile
      keras-vit-scale max-batch S/16 --method run

    Args:
        size: A named size, such as g/14.
        device: As for estimate. With --method run it is what is here.
        memory: GiB that there are for it, by default 96 % of the device's.
        method: estimate; compile, which asks the compiler for about ten batches (JAX; TPUs need
            not be there); or run, which trains a step of each, in a process of its own.
        multiple: What the batch is to be a multiple of.
        step: How the model is trained.
        json: Print JSON.
    """
    from keras_vit_scale import planning

    found = planning.max_batch(
        size,
        device,
        memory=None if memory is None else memory * GIB,
        method=method,
        multiple=multiple,
        **step.options(),
    )
    if json:
        print_json(vars(found))
        return
    tell(f"{size}: {found.batch_size:,} images", "bold")
    needed = "" if found.needed is None else f" {in_gib(found.needed)} are needed"
    have = "" if found.memory is None else f" of {in_gib(found.memory)}"
    tell(f"By method {method!r}, {len(found.trials)} batches.{needed}{have if needed else ''}")


def shapes(
    device: str = "TPU v3 core",
    memory: float | None = None,
    patch: int = 14,
    widths: tuple[int, ...] = (),
    depths: tuple[int, ...] = (),
    mlp_dims: tuple[int, ...] = (),
    heads: tuple[int, ...] = (),
    batch_size: int = 8,
    classes: int = 29_593,
    image_size: int = 224,
    method: Method = "estimate",
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    json: bool = False,
) -> None:
    """Say which shapes fit one device, with Adam, bfloat16-momentum Adam and Adafactor.

    It is the paper's Figure 8, by default for a core of TPU v3.

    For example:

      keras-vit-scale shapes --out shapes
      keras-vit-scale shapes --device "RTX 4090" --batch-size 32 --out shapes-4090
      keras-vit-scale shapes --method compile --widths 1024 1408 --depths 40 100 --heads 16 \\
          --mlp-dims 4096 6144 --out compiled

    Args:
        device: As for estimate. With --method run it is what is here.
        memory: GiB that there are for it, by default 96 % of the device's.
        patch: Side of the patches.
        widths: Of the grid, by default 512 to 2048.
        depths: By default 8 to 100.
        mlp_dims: By default 2048 to 12288.
        heads: By default 8 and 16; they must divide a width.
        batch_size: Images of a step.
        classes: Of the head.
        image_size: Side of the images in pixels.
        method: estimate; compile, some seconds a trial (JAX); or run, a few steps each in a
            process of its own.
        out: A folder for each trial, where an interrupted search goes on, with
            shapes.csv and shapes.png at its end.
        json: Print JSON, a row a shape and setting.
    """
    from keras_vit_scale import planning

    axes: dict[str, Any] = {
        "widths": widths,
        "depths": depths,
        "mlp_dims": mlp_dims,
        "heads": heads,
    }
    found = planning.search_shapes(
        None if memory is None else memory * GIB,
        patch=patch,
        **{name: values for name, values in axes.items() if values},
        device=device,
        batch_size=batch_size,
        num_classes=classes,
        image_size=image_size,
        method=method,
        folder=out,
    )
    if out is not None:
        found.to_csv(out / "shapes.csv", index=False)
        planning.draw_shapes(found, out / "shapes.png")
    if json:
        print_json(found.astype(object).where(found.notna(), None).to_dict(orient="records"))
        return
    for name, mine in found.groupby("setting", sort=False):
        fitting = mine[mine.fits.astype(bool)]
        tell(f"{name}: {len(fitting):,} of {len(mine):,} shapes fit", "bold")
        if len(fitting):
            tell(f"  the largest: {in_words(fitting.loc[fitting.parameters.idxmax()])}")
    if out is not None:
        tell(f"wrote {out / 'shapes.csv'} and {out / 'shapes.png'}")


def in_words(row: Any) -> str:
    """A shape that fits, and what is known of it."""
    words = [
        f"{row.width} x {row.depth}, MLP {row.mlp_dim}, {row.heads} heads",
        f"{row.parameters / 1e6:,.4g} M parameters",
    ]
    if not pd.isna(row.needed):
        words.append(in_gib(row.needed))
    if not pd.isna(row.images_per_second):
        words.append(f"{row.images_per_second:,.3g} images a second")
    return ", ".join(words)


def in_gib(number: float) -> str:
    """Bytes in words."""
    return f"{number / GIB:,.2f} GiB"


def as_numbers(told: Any) -> dict[str, Any]:
    """An estimate as JSON can hold it."""
    return {
        "devices": told.devices,
        "device": None if told.device is None else told.device.name,
        "parameters": told.parameters,
        "flops": told.flops,
        "computed_flops": told.computed_flops,
        "memory": {**vars(told.memory), "total": told.memory.total},
        "compiled": told.compiled,
        "available": told.available,
        "fits": told.fits,
        "seconds": told.seconds,
        "images_per_second": told.images_per_second,
    }


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """A table whose first column is words and whose others are numbers."""
    made = Table(box=SIMPLE)
    for i, name in enumerate(columns):
        made.add_column(name, justify="right" if i else "left")
    for row in rows:
        made.add_row(*map(escape, row))
    return made
