"""Going back to before a leap of the loss, and on without the images that led to it.

    out/
      rewinds.json                   every rewind: from which step to which

What is done is decided by the run alone, by the windows of its losses and its checkpoints at
the planned steps, so that a run that is interrupted anywhere decides the same.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from keras_vit_scale.formats import read_json, write_json
from keras_vit_scale.processes import from_first, is_first, meet
from keras_vit_scale.training.callbacks.loss_spikes import LossSpikes, warn_of_spike
from keras_vit_scale.training.checkpoints.store import CheckpointStore
from keras_vit_scale.training.spikes import Spike
from keras_vit_scale.types import Logs

#: Name of the checkpoint that a spike in the present window goes back to.
BEFORE = "before-a-spike"

#: Of the one that a spike in the window after it will go back to, perhaps yet to be saved. It
#: must outlast what is saved until that window begins, as when the run is stopped.
BEFORE_NEXT = "before-a-spike-in-the-next-window"


class SpikeError(Exception):
    """A leap of the loss from which training is to go back to the checkpoint of step `to`."""

    def __init__(self, spike: Spike, to: int):
        super().__init__(
            f"The loss leapt between steps {spike.after} and {spike.step}: to {spike.loss:.4g}, "
            f"from {spike.usual:.4g} before"
        )
        self.spike, self.to = spike, to


@dataclass(frozen=True)
class Rewind:
    """A return from a spike."""

    step: int
    """Where the spike was found."""
    to: int
    """The checkpoint that training went on from."""
    images: int
    """Images that were trained on between them, which are left out."""
    loss: float
    usual: float


class Rewinds:
    """The rewinds of a run, in its folder.

    Args:
        path: Where they are written down.

    Raises:
        FormatError: If they are of a later format.
    """

    def __init__(self, path: Path):
        self.path = path
        self.done: list[Rewind] = []
        if path.is_file():
            self.done = [Rewind(**each) for each in read_json("rewinds", path)["rewinds"]]

    def offset(self, step: int) -> int:
        """Images that training at a step has left out, for `train_batches`."""
        back = [i for i, rewind in enumerate(self.done) if rewind.to <= step]
        return sum(rewind.images for rewind in self.done[: back[-1] + 1]) if back else 0

    def next_change(self, step: int) -> int | None:
        """The next step after this one from which another offset holds.

        There is one only where a run goes on from before its last rewind, because the
        checkpoints since then are damaged.
        """
        return min((rewind.to for rewind in self.done if rewind.to > step), default=None)

    def go_back(self, back: SpikeError, store: CheckpointStore, batch_size: int) -> Rewind:
        """Deletes what was saved since the last good checkpoint, and writes the rewind down.

        In this order: a process killed in between comes to the spike again.
        """
        store.wait()
        store.delete_after(back.to)
        spike = back.spike
        images = (spike.step - back.to) * batch_size
        self.done.append(Rewind(spike.step, back.to, images, spike.loss, spike.usual))
        if is_first():
            write_json("rewinds", self.path, {"rewinds": [asdict(rewind) for rewind in self.done]})
        meet("rewind")
        return self.done[-1]


class RewindAtSpikes(LossSpikes):
    """Ends training at a leap of the loss with a checkpoint before it, which is kept for that.

    Args:
        window: Steps of a window.
        store: The run's checkpoints. Those at multiples of `every`, no others that a signal
            may have led to, are gone back to.
        every: Steps between the planned checkpoints.

    Raises:
        SpikeError: In training, at such a leap; one without a checkpoint before it is told
            by a warning.
    """

    def __init__(self, window: int, store: CheckpointStore, every: int):
        super().__init__(window, found=self._go_back)
        self.store, self.spacing = store, every
        self._named: dict[str, int] = {}

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._name(BEFORE_NEXT, (self.step // self.every + 1) * self.every)

    def on_step(self, step: int, logs: Logs) -> None:
        super().on_step(step, logs)
        self._name(BEFORE, step)
        self._name(BEFORE_NEXT, step + self.every)

    def _name(self, name, begins):
        """Names what a spike in a window that begins at a step goes back to."""
        good = good_step(begins, self.spacing)
        if good > self._named.get(name, 0):
            self.store.name(good, name)
            self._named[name] = good

    def _go_back(self, spike):
        self.store.wait()
        to = good_step(spike.after, self.spacing)
        # Where the run went back into the middle of this window, the named one is later: what came
        # before it was no leap, and whether an earlier one is there depends on interruptions.
        named = self.store.names().get(BEFORE, to)
        to = max(to, named) if named < spike.step else to
        to, there = from_first([to, to in self.store.steps()])
        if not there:
            warn_of_spike(spike)
            return
        raise SpikeError(spike, to)


def good_step(step: int, every: int) -> int:
    """The last planned checkpoint up to a step: not one that a signal led to.

    Example:

    >>> from keras_vit_scale.runs.rewinds import good_step
    >>> good_step(1650, 500)
    1500
    """
    return step // every * every
