"""Batches that know their place, so that a `fit` can go on where it stopped."""

import copy
from collections import deque
from typing import Any

import grain
from keras.src.trainers.data_adapters.grain_dataset_adapter import GrainDatasetAdapter

from keras_vit_scale.checks import check_positive_integers

#: Places kept behind the newest: batches that a backend may have read ahead of training.
READ_AHEAD = 256


class ResumableBatches(GrainDatasetAdapter):
    """A Grain dataset of batches, as `fit` takes it, that begins where training stands.

    Backends read batches ahead of the step that trains on them, so an iterator's own place
    is not training's. This notes the place after each batch, and gives that of a number of
    batches.

    An epoch is `steps_per_epoch` batches. A dataset that ends begins again, so that an
    epoch may run across its end.

    Args:
        dataset: A `grain.MapDataset` or `grain.IterDataset` of batches, such as
            `train_batches` gives.
        steps_per_epoch: Batches an epoch; by default all of a `MapDataset`.

    Raises:
        TypeError: If the dataset is something else, which cannot save its place.
        ValueError: If the epoch's length is not known.

    Example:

    >>> from keras_vit_scale.data import TrainTransform, digits, train_batches
    >>> from keras_vit_scale.data.resumable import ResumableBatches
    >>> stream = train_batches(digits(), TrainTransform(8, crop="shift", flip=False), 64)
    >>> batches = ResumableBatches(stream, steps_per_epoch=28)
    >>> batches.num_batches
    28
    """

    def __init__(
        self, dataset: grain.MapDataset | grain.IterDataset, steps_per_epoch: int | None = None
    ):
        if not isinstance(dataset, grain.MapDataset | grain.IterDataset):
            raise TypeError(
                "Training can only go on within data that save their place: a grain.MapDataset or "
                "a grain.IterDataset, such as `train_batches` gives. Arrays, generators, "
                "tf.data and PyTorch's loaders begin again from the start. "
                f"Received: {type(dataset).__name__}"
            )
        if steps_per_epoch is None:
            if not isinstance(dataset, grain.MapDataset) or len(dataset) > 2**40:
                raise ValueError(
                    "`steps_per_epoch` must be given where the data do not say how many batches "
                    "they are. Received: steps_per_epoch=None"
                )
            steps_per_epoch = len(dataset)
        check_positive_integers(steps_per_epoch=steps_per_epoch)
        if isinstance(dataset, grain.MapDataset):
            dataset = dataset.to_iter_dataset()
        self.steps_per_epoch = steps_per_epoch
        #: Batches trained on when the present epoch's iterator begins.
        self.done = 0
        self.opened = False
        self._state: dict[str, Any] | None = None
        self._places: deque[tuple[int, dict[str, Any]]] = deque(maxlen=READ_AHEAD)
        super().__init__(_FromHere(dataset, self))

    @property
    def num_batches(self) -> int:
        """Batches an epoch. Known from the start, which lets a first epoch be shorter."""
        return self.steps_per_epoch

    def state(self, done: int) -> dict[str, Any]:
        """The place after `done` batches in all, as JSON can say it.

        Raises:
            ValueError: If so many were not read, or so many more that it is forgotten.
        """
        if done == self.done:
            return {"batches": done, "iterator": self._state}
        # A copy, because a backend may be reading on in a thread of its own.
        for number, state in reversed(tuple(self._places)):
            if number == done:
                return {"batches": done, "iterator": state}
        raise ValueError(
            f"The place in the data is known for the last {READ_AHEAD} batches that were read. "
            f"Received: {done} of {self._places[-1][0] if self._places else self.done}"
        )

    def begin_at(self, state: dict[str, Any]) -> None:
        """Lets iterators begin at a place that `state` gave, in this process or another."""
        self.done, self._state = state["batches"], state["iterator"]
        self._places.clear()

    def left_of_epoch(self) -> int:
        """Batches from where iterators begin to the end of the epoch."""
        return self.steps_per_epoch - self.done % self.steps_per_epoch

    def _note(self, done: int, state: dict[str, Any]) -> None:
        self._places.append((done, copy.deepcopy(state)))


class _FromHere(grain.IterDataset):
    """A dataset whose iterators begin at the place of its owner and end with the epoch."""

    def __init__(self, dataset: grain.IterDataset, owner: ResumableBatches):
        super().__init__(dataset)
        self.owner = owner

    def __iter__(self) -> "_Iterator":
        return _Iterator(self._parents[0], self.owner)


class _Iterator(grain.DatasetIterator):
    """Batches of what is left of an epoch, each with its place noted."""

    def __init__(self, dataset: grain.IterDataset, owner: ResumableBatches):
        super().__init__()
        self.dataset, self.owner = dataset, owner
        self.done, self.left = owner.done, owner.left_of_epoch()
        self.batches = dataset.__iter__()
        if owner._state is not None:
            self.batches.set_state(copy.deepcopy(owner._state))

    def __next__(self) -> Any:
        if self.left == 0:
            raise StopIteration
        self.owner.opened = True
        try:
            batch = next(self.batches)
        except StopIteration:
            self.batches = self.dataset.__iter__()
            batch = next(self.batches)
        self.left -= 1
        self.done += 1
        self.owner._note(self.done, self.batches.get_state())
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"done": self.done, "left": self.left, "batches": self.batches.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.done, self.left = state["done"], state["left"]
        self.batches.set_state(state["batches"])
