"""A file of weights seen through a layout: what its model is, and whether it fits."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.checks import check_fractions, check_one_of, check_positive_integers
from keras_vit_scale.models.architecture import Architecture, usual_heads
from keras_vit_scale.models.block import GELUS
from keras_vit_scale.models.config import ViTConfig, image_shape
from keras_vit_scale.models.pooling import POOLINGS
from keras_vit_scale.weights.archive import Archive, open_archive
from keras_vit_scale.weights.big_vision import BIG_VISION
from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.keras_hub import KERAS_HUB, Preset, open_preset
from keras_vit_scale.weights.layout import Row, Shape
from keras_vit_scale.weights.refusals import refuse_unknown_parts
from keras_vit_scale.weights.timm import TIMM
from keras_vit_scale.weights.transformers import SIGLIP, VIT

#: All layouts that are known, in no order: their names have nothing in common.
LAYOUTS = (BIG_VISION, TIMM, VIT, SIGLIP, KERAS_HUB)

#: Where the positions are, which have their own way in.
POSITION = "position_embedding/embedding"
TOKEN = "class_token/token"
PATCHES = "patch_embedding/kernel"


class Checkpoint:
    """An open file of weights whose layout is known.

    Nothing but its headers is read; `reading.read_weights` reads the rest.

    Args:
        archive: The open file.
        ignore: Beginnings of names that are left out.

    Raises:
        WeightsError: If the file follows no known layout, or has parts that our
            architecture lacks.
    """

    def __init__(self, archive: Archive | Preset, ignore: Sequence[str] = ()):
        self.archive = archive
        names = [name for name in archive.infos if not name.startswith(tuple(ignore))]
        layout = next((layout for layout in LAYOUTS if layout.recognises(names)), None)
        if layout is None:
            first = ", ".join(sorted(names)[:5])
            raise WeightsError(
                "The file must hold a Vision Transformer as big_vision, vision_transformer, timm, "
                "transformers (ViT, SigLIP) or KerasHub write it. "
                f"Received: {archive.path} with {len(names)} arrays: {first} ..."
            )
        self.layout = layout
        #: Names in the file by those of the layout's table.
        self.names: dict[str, str] = {}
        for name in names:
            known = layout.rename(name)
            if known is not None and self.names.setdefault(known, name) != name:
                raise WeightsError(
                    "Each weight must be in the file once. "
                    f"Received: {self.names[known]!r} and {name!r}, both {known!r}"
                )
        refuse_unknown_parts(self.names)
        self._stack_names()

    def close(self) -> None:
        """Closes the file."""
        self.archive.close()

    def _stack_names(self):
        """Finds how many blocks there are, and whether the file has them stacked."""
        patches = self.layout.known("encoder/mlp_in_kernel").theirs
        before, _, after = patches.partition("_{i}" if "_{i}" in patches else "{i}")
        self.stacked = before + after in self.names
        if self.stacked:
            self.depth = self._shape(before + after, 3)[0]
            return
        pattern = re.escape(patches).replace(r"\{i\}", "([0-9]{1,6})")
        numbers = {int(m[1]) for name in self.names if (m := re.fullmatch(pattern, name))}
        self.depth = len(numbers)
        if not numbers or numbers != set(range(self.depth)):
            raise WeightsError(
                f"Blocks must be numbered from 0 on, without a gap, by names such as {patches!r}. "
                f"Received: {sorted(numbers)[:100]}"
            )

    def describe(
        self,
        *,
        pooling: str | None = None,
        gelu: str | None = None,
        epsilon: float | None = None,
        heads: int | None = None,
        grid: tuple[int, int] | None = None,
        model_heads: int | None = None,
    ) -> Architecture:
        """What the file's model is: from arguments, config.json, shapes, customs, in this order.

        Args:
            pooling: Instead of what the file has.
            gelu: The same.
            epsilon: The same.
            heads: The same.
            grid: The same.
            model_heads: Those of the model to fill, for files that do not say theirs.

        Raises:
            WeightsError: If that cannot be told, or is no ViT that we can build.
        """
        said = self._settings()
        patch_rows, patch_columns, channels, width = self._ours(PATCHES, 4)
        if patch_rows != patch_columns or channels != 3:
            raise WeightsError(
                "Patches must be square and of 3 channels. "
                f"Received: {patch_rows} x {patch_columns} x {channels}"
            )
        mlp_dim = self._ours("encoder/mlp_in_kernel", 2)[-1]
        heads = heads or self._heads_by_shape() or said.get("heads") or model_heads
        heads = heads or usual_heads(width, mlp_dim)
        if heads is None:
            raise WeightsError(
                "The number of heads is in no weight's shape here, and no known size has these "
                f"widths: say it by `heads=`. Received: width={width}, mlp_dim={mlp_dim}"
            )
        pooling = pooling or said.get("pooling") or self._pooling()
        if pooling == "gap" and self._has(TOKEN):
            raise WeightsError(
                "Mean pooling beside a [class] token is not what `ViT` has; pooling='token' and "
                f"num_classes=None read the rest. Received: {self.names[self._their(TOKEN)]!r}"
            )
        gelu = gelu or said.get("gelu") or self.layout.gelu
        epsilon = epsilon or said.get("epsilon") or self.layout.epsilon
        try:
            config = ViTConfig(width, self.depth, mlp_dim, heads, patch_rows)
            size = image_shape(said["image_size"]) if "image_size" in said else None
            check_fractions(epsilon=epsilon)
        except (ValueError, TypeError) as error:
            raise WeightsError(f"The file must describe a Vision Transformer. {error}") from error
        return Architecture(
            config=config,
            grid=self._grid(patch_rows, size, grid),
            pooling=pooling,
            positions="learned" if self._has(POSITION) else self._fixed(),
            gelu=gelu,
            epsilon=epsilon,
            num_classes=self._ours("head/kernel", 2)[1] if self._has("head/kernel") else None,
        )

    def _settings(self):
        if self.archive.config is None:
            return {}
        try:
            return self.layout.settings(self.archive.config)
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            raise WeightsError(
                f"The config.json beside the weights must be one of {self.layout.name}. "
                f"Received one at which reading fails: {error}"
            ) from error

    def _heads_by_shape(self):
        """Heads, where query kernels have three axes."""
        row = self.layout.known("encoder/query_kernel")
        if row.form.shape((1, 1, 1)) != (1, 1, 1):
            return None
        return self._ours("encoder/query_kernel", 3)[1]

    def _pooling(self):
        if self._has(TOKEN):
            return "token"
        spare = self.layout.head_reads_mean and self._has("head/kernel")
        return "map" if self._has("pooling/probe") and not spare else "gap"

    def _fixed(self):
        if not self.layout.fixed_positions:
            raise WeightsError(f"The file must hold positions: {self._their(POSITION)!r}.")
        return "sincos"

    def _grid(self, patch, image_size, grid):
        """Rows and columns of patches, of which there are as many as positions."""
        if not self._has(POSITION):
            if grid is None and image_size is None:
                return (224 // patch, 224 // patch)
            return grid or (image_size[0] // patch, image_size[1] // patch)
        tokens = self._ours(POSITION, 3)[1]
        fits = (tokens, tokens - 1)
        if grid is not None:
            if grid[0] * grid[1] not in fits:
                raise WeightsError(f"`grid` must have {tokens} patches. Received: grid={grid}")
            return grid
        if image_size is not None:
            rows, columns = image_size[0] // patch, image_size[1] // patch
            if rows * columns in fits:
                return rows, columns
        for n in fits:
            side = math.isqrt(n)
            if side and side * side == n:
                return side, side
        raise WeightsError(
            "Positions that fill no square must be given a grid: say grid=(rows, columns). "
            f"Received: {tokens} positions"
        )

    def check(self, architecture: Architecture, wanted: Mapping[str, Shape]) -> list[str]:
        """Everything that keeps the file from filling weights of our names and shapes.

        Args:
            architecture: What the file's model is.
            wanted: Shapes by our names, the encoder's stacked.
        """
        problems = []
        claimed = set()
        if architecture.num_classes is not None and "head/kernel" not in wanted:
            claimed |= {self._their("head/kernel"), self._their("head/bias")}
        if architecture.pooling == "gap" and self.layout.head_reads_mean:
            claimed |= {row.theirs for row in self.layout.rows if row.ours.startswith("pooling/")}
        for ours, shape in wanted.items():
            row = self.layout.row(ours)
            if row is None:
                problems.append(f"{ours} has no name in {self.layout.name}")
                continue
            blocks = ours.startswith("encoder/")
            one = row.their_shape(shape[1:] if blocks else shape)
            if ours == POSITION:
                one = row.their_shape((1, self._ours(POSITION, 3)[1], shape[2]))
            names = self.block_names(row, shape[0]) if blocks else [row.theirs]
            claimed.update(names)
            missing = [name for name in names if name not in self.names]
            if missing == names and row.optional:
                continue
            problems += [f"{name} is missing" for name in dict.fromkeys(missing)]
            for name in names:
                if name in self.names:
                    expected = (shape[0], *one) if blocks and self.stacked else one
                    problems += self._wrong(name, expected)
        problems += [f"{name} is unknown" for name in self.names if name not in claimed]
        return list(dict.fromkeys(problems))

    def _wrong(self, name, expected):
        info = self.archive.infos[self.names[name]]
        if tuple(info.shape) != tuple(expected):
            return [f"{name} is {tuple(info.shape)}, not {tuple(expected)}"]
        if not is_floating(info.dtype):
            return [f"{name} holds {info.dtype}, not floating-point numbers"]
        return []

    def block_names(self, row: Row, depth: int) -> list[str]:
        """Names of one weight in the file: one stacked, or one a block."""
        if self.stacked:
            return [row.theirs.replace("_{i}", "")]
        return [row.theirs.replace("{i}", str(i)) for i in range(depth)]

    def _their(self, ours):
        """The name there of a weight of ours, of block 0 in the encoder."""
        row = self.layout.row(ours)
        if row is None:
            return None
        return self.block_names(row, 1)[0] if ours.startswith("encoder/") else row.theirs

    def _has(self, ours):
        return self._their(ours) in self.names

    def _ours(self, ours, axes):
        """Our shape of an array in the file, of one block in the encoder."""
        row = self.layout.known(ours)
        stacked = self.stacked and ours.startswith("encoder/")
        shape = self._shape(self._their(ours), len(row.form.shape((1,) * axes)) + stacked)
        return row.form.ours(shape[1:] if stacked else shape)

    def _shape(self, name, axes):
        if name not in self.names:
            raise WeightsError(f"The file must hold {name!r}, by which its model is known.")
        shape = tuple(self.archive.infos[self.names[name]].shape)
        if len(shape) != axes or 0 in shape:
            raise WeightsError(
                f"{name!r} must have {axes} axes, none of them empty. Received: shape={shape}"
            )
        return shape


def open_checkpoint(path: Path, *, ignore: Sequence[str] = (), **options: Any) -> Checkpoint:
    """Opens a file, or a folder of files, of another project.

    Raises:
        WeightsError: If it is refused.
    """
    path = Path(path)
    if (path / "task.weights.h5").is_file() and (path / "model.weights.h5").is_file():
        archive: Archive | Preset = open_preset(path, **options)
    else:
        archive = open_archive(path, **options)
    try:
        return Checkpoint(archive, ignore)
    except BaseException:
        archive.close()
        raise


def is_floating(dtype: np.dtype) -> bool:
    """Whether an array of it holds floating-point numbers, bfloat16 among them."""
    return "float" in np.dtype(dtype).name


def check_options(pooling, gelu, epsilon, heads, grid):
    """Refuses options of reading that are out of their range.

    Raises:
        ValueError: Naming the first that is.
    """
    check_one_of((None, *POOLINGS), pooling=pooling)
    check_one_of((None, *GELUS), gelu=gelu)
    if epsilon is not None:
        check_fractions(epsilon=epsilon)
    if heads is not None:
        check_positive_integers(heads=heads)
    if grid is not None:
        grid_sides = tuple(grid)
        if len(grid_sides) != 2 or any(type(n) is not int or n < 1 for n in grid_sides):
            raise ValueError(f"`grid` must be (rows, columns). Received: grid={grid!r}")
