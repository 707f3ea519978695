"""A folder of checkpoints: saved while training goes on, kept by rule, restored by step.

checkpoints/
  step-00000600/  step-00000700/
    arrays-0000-000.safetensors, ...   chunks of every array
    manifest.json                      written last: the checkpoint is there
  names.json                           steps that have names, which are kept
"""

import json
import logging
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import keras
import numpy as np

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.formats import with_format, without_format
from keras_vit_scale.processes import is_first, meet, place
from keras_vit_scale.training.checkpoints.chunks import write_chunks
from keras_vit_scale.training.checkpoints.manifest import (
    MANIFEST,
    CheckpointError,
    DamagedError,
    Entry,
    Manifest,
    about_here,
    is_complete,
)
from keras_vit_scale.training.checkpoints.parts import gather_parts
from keras_vit_scale.training.checkpoints.restoring import Restored, restore_folder
from keras_vit_scale.training.checkpoints.state import (
    Piece,
    metrics_state,
    pieces,
    training_state,
)
from keras_vit_scale.training.checkpoints.storage import (
    Folder,
    open_folder,
    read_bytes,
    write_bytes,
)
from keras_vit_scale.training.diverged import CURE, DivergedError

NAMES = "names.json"
_log = logging.getLogger(__name__)


class NotFiniteError(DivergedError, CheckpointError):
    """A state that is not saved, because not all of it is finite numbers."""


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay when a newer one is there; those with a name always do.

    Args:
        last: So many of the newest. With one, a damaged newest has none behind it.
        every: Those at multiples of so many steps too; by default none.

    Raises:
        ValueError: If a number is not positive.

    Example:

    >>> from keras_vit_scale.training import Keep
    >>> Keep(last=2, every=500).of([300, 400, 500, 600, 700])
    [500, 600, 700]
    """

    last: int = 2
    every: int | None = None

    def __post_init__(self):
        check_positive_integers(last=self.last)
        if self.every is not None:
            check_positive_integers(every=self.every)

    def of(self, steps: list[int]) -> list[int]:
        """Those of the steps, ascending, that stay."""
        newest = sorted(steps)[-self.last :]
        return [
            step
            for step in sorted(steps)
            if step in newest or (self.every is not None and step % self.every == 0)
        ]


class CheckpointStore:
    """The checkpoints of one run.

    A checkpoint is a folder, in which arrays lie as chunks in files of safetensors that
    anything reads, with a digest a chunk. It is there when its manifest is, which is
    written last and has a digest too; so what is found is whole, whenever the process
    that wrote it was killed. The arrays are the same on every backend.

    Args:
        place: A local folder, or a URL that fsspec opens, such as gs://bucket/run.
        keep: Which ones stay. One is deleted when a newer one is there.

    Example:

    >>> import tempfile, keras
    >>> from keras_vit_scale.training import CheckpointStore
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = CheckpointStore(folder)
    ...     store.save(model, step=0, extra={"note": "untrained"})
    ...     store.wait()
    ...     store.steps(), store.restore(model).extra
    ([0], {'note': 'untrained'})
    """

    def __init__(self, place: str | Path | Folder, keep: Keep | None = None):
        self.folder = open_folder(place)
        self.keep = Keep() if keep is None else keep
        self._writer: Thread | None = None
        self._failure: BaseException | None = None
        #: Seconds that a save may take, for those who must leave in time: twice the longest.
        self.seconds_to_save = 5.0

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        return [step for step, name in self._folders() if is_complete(self.folder.folder(name))]

    def folder_of(self, step: int) -> Folder:
        """The folder of a step's checkpoint, whether that is there or not."""
        return self.folder.folder(folder_name(step))

    def names(self) -> dict[str, int]:
        """Steps by their names."""
        if not self.folder.has(NAMES):
            return {}
        try:
            content = json.loads(read_bytes(self.folder, NAMES))
        except ValueError as error:
            raise CheckpointError(f"{self.folder}/{NAMES} is damaged: {error}") from error
        return dict(without_format("names", content, f"{self.folder}/{NAMES}")["names"])

    def name(self, step: int, name: str) -> None:
        """Names a checkpoint, also one that is yet to be: it is kept, an earlier one let go."""
        if not is_first():
            return
        names = self.names()
        if names.get(name) != step:
            self.folder.make()
            names[name] = step
            content = with_format("names", {"names": names})
            write_bytes(self.folder, NAMES, json.dumps(content, indent=1).encode())

    def delete_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps."""
        for later, _ in self._folders():
            if later > step and is_first():
                self._delete(later)

    def save(
        self,
        model: keras.Model,
        step: int,
        *,
        extra: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """Saves a compiled model's training state, of which a copy is made at once.

        The rest is done while training goes on; `wait` waits for it. One save at a time:
        the next first waits for this one.

        Args:
            model: The model.
            step: The checkpoint's step. One that is there already is replaced.
            extra: What else the run needs to go on, as JSON can say it.
            name: Keep the checkpoint, by this name; an earlier one of the name is let go.

        Raises:
            Exception: Whatever kept the save before this one from its end.
            NotFiniteError: If a value to save is not finite: such a state is never kept. It
                is a `DivergedError` and a `CheckpointError`.
        """
        self.wait()
        state = training_state(model)
        arrays = {path: pieces(variable) for path, variable in state.items()}
        shapes = {path: tuple(variable.shape) for path, variable in state.items()}
        dtypes = {path: np.dtype(variable.dtype) for path, variable in state.items()}
        for path, values in metrics_state(model).items():
            # They are the same in all processes, of which one is enough.
            arrays[path] = [Piece((0,) * values.ndim, values)] if is_first() else []
            shapes[path], dtypes[path] = values.shape, values.dtype
        # Made text at once: what it is made of may change while the save goes on.
        said = json.loads(json.dumps(dict(extra or {}), allow_nan=False))
        if is_first():
            # What a killed process left, whose space may be needed, and a checkpoint that is
            # to be replaced.
            for unfinished in {each for each, _ in self._folders()} - set(self.steps()):
                self._delete(unfinished)
            self._delete(step)
            self.folder_of(step).make()
        # None writes into a folder that the first is about to delete.
        meet(f"checkpoint {step}")
        # Not a daemon: a process that ends waits for it.
        self._writer = Thread(
            target=self._write, args=(step, arrays, shapes, dtypes, said, name), name="checkpoint"
        )
        self._writer.start()

    def wait(self) -> None:
        """Waits until the last save is on the disk.

        Raises:
            Exception: Whatever kept it from that.
        """
        self.join()
        self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def join(self) -> BaseException | None:
        """Waits for the last save, however it ends; what kept it from its end, if anything."""
        if self._writer is not None:
            self._writer.join()
        return self._failure

    def _write(self, step, arrays, shapes, dtypes, extra, name):
        try:
            self._write_checkpoint(step, arrays, shapes, dtypes, extra)
            if not is_first():
                return
            if name is not None:
                self.name(step, name)
            self._clean(step)
        except BaseException as error:
            # Raised where the run looks next.
            self._failure = error

    def _write_checkpoint(self, step, arrays, shapes, dtypes, extra):
        bad = [path for path, parts in arrays.items() if not all(map(_is_finite, parts))]
        if bad:
            raise NotFiniteError(
                f"Values that are saved must be finite; {CURE}. "
                f"Received: {bad[0]} at step {step}"
                + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
            )
        started = time.perf_counter()
        folder = self.folder_of(step)
        process, processes = place()
        chunks = write_chunks(folder, arrays, f"arrays-{process:04d}")
        entries = {
            path: Entry(shapes[path], dtypes[path], tuple(chunks.get(path, ()))) for path in shapes
        }
        manifest = Manifest(step, entries, extra, about_here())
        if processes > 1:
            manifest = gather_parts(folder, manifest, process, processes)
        if process == 0:
            manifest.write(folder)
        taken = time.perf_counter() - started
        self.seconds_to_save = max(self.seconds_to_save, 2 * taken)
        _log.info("Checkpoint of step %d: %.1f s", step, taken)

    def _clean(self, saved):
        """Deletes what is not kept now that a step is saved.

        Of the steps before it, those that would stay if it were the last do: later ones may be
        damaged, or belong to a part of the run that is not being trained.
        """
        steps = self.steps()
        kept = {*self.keep.of(steps), *self.keep.of([step for step in steps if step <= saved])}
        for step in steps:
            if step not in kept and step not in self.names().values():
                self._delete(step)

    def _delete(self, step):
        # The manifest first: whoever looks meanwhile must not find a damaged checkpoint.
        self.folder_of(step).delete(MANIFEST)
        self.folder.delete_folder(folder_name(step))

    def _folders(self) -> list[tuple[int, str]]:
        names = [n for n in self.folder.names() if n.startswith("step-") and n[5:].isdecimal()]
        return sorted((int(name[5:]), name) for name in names)

    def find(self, step: int | str) -> int:
        """The step of a checkpoint that is there, by that or by its name.

        Raises:
            CheckpointError: If there is none.
        """
        steps, names = self.steps(), self.names()
        wanted = names.get(step, step) if isinstance(step, str) else step
        if wanted not in steps:
            raise CheckpointError(
                f"There must be a checkpoint of that step in {self.folder}. "
                f"Received: {step!r}; there are {steps}, and the names {sorted(names)}"
            )
        return int(wanted)

    def restore(
        self, model: keras.Model, step: int | str | None = None, *, other_seeds: bool = False
    ) -> Restored:
        """Gives a compiled model the state of a checkpoint.

        Nothing of the model is changed unless every array is there, fits, and has its
        digest; while another process saves here, the newest that stays is taken. Processes that
        train together must all call it: each reads a part of the digests' bytes, and its own share.

        Args:
            model: The model, with the optimizer that the checkpoint was saved with.
            step: Which one, by its step or its name; by default the newest. If the newest
                is damaged, that is told by a warning and the one before it is taken.
            other_seeds: Whether the model may have random seeds that the checkpoint lacks,
                or lack some: as one that drops what it did not drop before.

        Raises:
            CheckpointError: If there is none, or the one asked for is damaged or another
                model's; by default, if all are.
        """
        self.wait()
        if step is not None:
            return restore_folder(self.folder_of(self.find(step)), model, other_seeds)
        problems: dict[int, CheckpointError] = {}
        # Listed anew each time: who writes here may save another and delete this one meanwhile.
        while left := [each for each in self.steps() if each not in problems]:
            folder = self.folder_of(left[-1])
            try:
                restored = restore_folder(folder, model, other_seeds)
            except CheckpointError as error:
                if is_complete(folder):
                    problems[left[-1]] = error
                continue
            for problem in problems.values():
                warnings.warn(
                    f"{problem}. The checkpoint of step {left[-1]} is taken.", stacklevel=2
                )
            return restored
        if not problems:
            raise CheckpointError(f"There is no checkpoint in {self.folder}")
        damaged = all(isinstance(error, DamagedError) for error in problems.values())
        raise (DamagedError if damaged else CheckpointError)("; ".join(map(str, problems.values())))


def _is_finite(piece: Piece) -> bool:
    values = piece.values
    if "float" not in values.dtype.name:
        return True
    # Half the memory's traffic of isfinite().all(): a sum is finite if its terms are, and
    # only where it overflowed the terms must be looked at.
    with np.errstate(all="ignore"):
        total = values.sum(dtype="float64")
    return bool(np.isfinite(total)) or bool(np.isfinite(values).all())


def folder_name(step: int) -> str:
    """The folder of a checkpoint.

    Example:

    >>> from keras_vit_scale.training.checkpoints.store import folder_name
    >>> folder_name(700)
    'step-00000700'
    """
    return f"step-{step:08d}"
