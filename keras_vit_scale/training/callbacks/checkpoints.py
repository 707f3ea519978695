"""A `fit` that goes on where it was stopped."""

import math
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grain
import keras
import numpy as np

from keras_vit_scale.data.resumable import ResumableBatches
from keras_vit_scale.ownership import owning
from keras_vit_scale.processes import is_first
from keras_vit_scale.training.averaging import ends_with_averages, having
from keras_vit_scale.training.callbacks.saving import Saving
from keras_vit_scale.training.callbacks.steps import own_optimizer
from keras_vit_scale.training.checkpoints.state import host_copy
from keras_vit_scale.training.checkpoints.storage import Folder, LocalFolder
from keras_vit_scale.training.checkpoints.store import CheckpointStore, Keep
from keras_vit_scale.training.stopping import Stopping

# Folders that this process trains in. One whose `fit` raised, which no callback is told, stays
# its own until it trains there again.
_owned: dict[Path, ExitStack] = {}


class Checkpoints(Saving):
    """Saves all that training depends on, and restores it when the same `fit` is run again.

        checkpoints = Checkpoints("run", batches, steps_per_epoch=1000, every=500)
        model.fit(checkpoints.data, epochs=90, callbacks=[checkpoints])

    That is: weights, optimizer (its slots, averages, accumulated gradients and step), random
    seeds, metrics of the epoch under way, the place in the data, the epoch, and the
    attributes of other callbacks that count or compare. A run that was killed and run again
    ends with the same bits, on the same backend and hardware, as one that was not.

    It stands last among the callbacks. Of `fit`'s data it needs those that can save their
    place: `train_batches`, or another Grain dataset; `fit` is given them as its attribute
    `data`. Keras' History begins again with the process.

    A `fit` that another callback ended early, as `EarlyStopping` does, has ended: run again, it
    trains nothing, also with more epochs. Without that checkpoint
    (`checkpoints.store.delete_after(step)`) it goes on from the one before.

    A local folder is the process' own while it trains there.

    Args:
        place: Folder of the checkpoints, or a URL that fsspec opens.
        data: A `grain.MapDataset` or `grain.IterDataset` of batches.
        every: Steps of the optimizer between checkpoints.
        steps_per_epoch: Batches an epoch; by default all of a `MapDataset`.
        keep: Which checkpoints stay; by default the last two.
        stopping: A `Stopping` in whose context `fit` is called; when it says so, the present
            step is saved, and `fit` raises `Stopped`.
        callbacks: Other callbacks of the `fit` whose numbers go on, such as `EarlyStopping`
            and `ReduceLROnPlateau`: their attributes that are numbers, texts or `None` are
            saved; weights that they keep are not.

    Raises:
        TypeError: If the data cannot save their place.
        ValueError: If the epoch's length is not known or a number is not positive. When
            training begins, if `fit` was given other data or another length of the epoch.
        CheckpointError: When training begins, if all checkpoints are damaged or the model's
            variables are others.
        OwnedError: When training begins, if another process trains in the folder.
        Stopped: In training, when it was stopped.
        DivergedError: In training, if the loss is not finite when it is to be saved. (With an
            optimizer that skips such updates, `FiniteLoss` has to stand before.)

    Example:

    >>> import keras, tempfile
    >>> from keras_vit_scale.data import TrainTransform, digits, train_batches
    >>> from keras_vit_scale.training import Checkpoints
    >>> folder = tempfile.mkdtemp()
    >>> def train(epochs):
    ...     head = keras.layers.Dense(10, name="head")
    ...     layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), head]
    ...     model = keras.Sequential(layers, name="linear")
    ...     loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ...     model.compile("adam", loss)
    ...     batches = train_batches(digits(), TrainTransform(8, crop="shift", flip=False), 64)
    ...     checkpoints = Checkpoints(folder, batches, every=5, steps_per_epoch=3)
    ...     model.fit(checkpoints.data, epochs=epochs, verbose=0, callbacks=[checkpoints])
    ...     return int(model.optimizer.iterations), len(model.history.epoch)
    >>> train(2), train(3)
    ((6, 2), (9, 1))
    """

    def __init__(
        self,
        place: str | Path | Folder,
        data: grain.MapDataset | grain.IterDataset,
        every: int,
        *,
        steps_per_epoch: int | None = None,
        keep: Keep | None = None,
        stopping: Stopping | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        super().__init__(
            CheckpointStore(place, keep), every, stopping=stopping, extra=lambda step: self._extra()
        )
        #: What `fit` is to be given.
        self.data = ResumableBatches(data, steps_per_epoch)
        self.others = list(callbacks)
        # Weights of an epoch's end that averages may take the place of.
        self._weights: list[tuple[keras.Variable, np.ndarray]] = []
        self._quiet: warnings.catch_warnings | None = None

    def set_model(self, model):
        """Restores the newest checkpoint, before any callback is told that training begins."""
        super().set_model(model)
        self._own()
        self._batches, self._states, self._ended, self.restored = 0, [], False, None
        self._weights = []
        self.data.begin_at({"batches": 0, "iterator": None})
        if self.store.steps():
            if not all(metric.built for metric in model.metrics if hasattr(metric, "built")):
                # TensorFlow's trainer would do it at the first step.
                model._symbolic_build(data_batch=next(iter(self.data.get_numpy_iterator())))
            self.restored = self.store.restore(model)
            extra = self.restored.extra
            self.data.begin_at(extra["data"])
            self._batches = extra["data"]["batches"]
            self._states = extra["callbacks"]
            self._ended = extra.get("ended", False)
        # Where Keras' own callback for backups says it.
        model._initial_epoch = self._batches // self.data.steps_per_epoch
        if self._ended and self.restored is not None:
            model._initial_epoch = sys.maxsize
            warnings.warn(
                f"A callback ended this `fit` at step {self.restored.step}, so nothing is trained. "
                "To go on from the checkpoint before, delete that one: "
                f"CheckpointStore({str(self.store.folder)!r}).delete_after("
                f"{self.restored.step - 1})",
                stacklevel=2,
            )

    def on_train_begin(self, logs=None):
        length = self.params.get("steps")
        if length != self.data.steps_per_epoch:
            raise ValueError(
                "`fit` must be given the `data` of its `Checkpoints`, and no other "
                f"`steps_per_epoch`. Received: {length} steps an epoch instead of "
                f"{self.data.steps_per_epoch}"
            )
        super().on_train_begin(logs)
        self.data.opened = False
        if self._batches % self.data.steps_per_epoch:
            # Keras takes the rest of an epoch for data that ran out, and warns.
            self._quiet = warnings.catch_warnings()
            self._quiet.__enter__()
            warnings.filterwarnings("ignore", message="Your input ran out of data")
        self.stopping.all_saved(self.store.join)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        # Only now, because they begin anew when training does.
        for callback, state in zip(self.others, self._states, strict=False):
            set_attributes(callback, state)
        self._states = []
        self.data.begin_at(self.data.state(self._batches))
        self._epoch_batches = self._batches
        self._ended, self._weights = False, []

    def on_train_batch_begin(self, batch, logs=None):
        if batch and not self.data.opened:
            raise ValueError(
                "`fit` must be given the `data` of its `Checkpoints`. Received: other data"
            )
        if batch >= self.data.left_of_epoch():
            # The rest of an epoch that was begun before is over. Keras' own way to notice, by
            # asking for a batch, can move random seeds on.
            raise StopIteration
        self._batches = self._epoch_batches + batch
        super().on_train_batch_begin(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        # The last call of the compiled function may do fewer steps than the others.
        end = self.data.done + self.data.left_of_epoch()
        self._batches = min(self._batches + self._model.steps_per_execution, end)
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None
        self._ended = bool(self._model.stop_training)
        super().on_epoch_end(epoch, logs)
        optimizer = own_optimizer(self.model)
        if not self._ended and ends_with_averages(optimizer):
            # For a callback behind this one that ends the `fit`, which is known only later.
            self._weights = [(w, host_copy(w)) for w in optimizer._trainable_variables]
        if (self._ended or epoch + 1 == self.params["epochs"]) and self.step > self._saved:
            # Now, because Keras then puts the averages in place of the weights.
            self.save(within_epoch=False)

    def on_train_end(self, logs=None):
        if self.model.stop_training and not self._ended:
            # By a callback that stands after this one.
            self._ended = True
            with having(self._weights):
                self.save(within_epoch=False)
        self.save_last()
        self.store.wait()
        self.model._initial_epoch = None
        self._let_go()

    def _own(self):
        """Owns the folder, so that no other process deletes what this one saves."""
        self._let_go()
        folder = self.store.folder
        if isinstance(folder, LocalFolder) and is_first():
            with ExitStack() as stack:
                stack.enter_context(owning(folder.path))
                # What is still being saved when another `fit` takes over comes first.
                stack.callback(self.store.join)
                _owned[folder.path.resolve()] = stack.pop_all()

    def _let_go(self):
        if isinstance(self.store.folder, LocalFolder):
            _owned.pop(self.store.folder.path.resolve(), ExitStack()).close()

    def _extra(self) -> dict[str, Any]:
        return {
            "data": self.data.state(self._batches),
            "ended": self._ended,
            "callbacks": [attributes(callback) for callback in self.others],
        }


def attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """A callback's attributes that are numbers, texts or `None`, those of Keras apart."""
    kinds = bool | int | float | str | None | np.generic
    found = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in vars(callback).items()
        if not name.startswith("_") and isinstance(value, kinds)
    }
    return {name: _said(value) for name, value in found.items()}


def set_attributes(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    """Sets a callback's attributes to what `attributes` gave."""
    if getattr(callback, "monitor_op", callback) is None and hasattr(callback, "_set_monitor_op"):
        # At the first epoch's end Keras would do it, and with it change the sign of `min_delta`.
        callback._set_monitor_op()
    for name, value in state.items():
        setattr(callback, name, float(value["float"]) if isinstance(value, dict) else value)


def _said(value):
    """A value as JSON has it, which knows no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value
