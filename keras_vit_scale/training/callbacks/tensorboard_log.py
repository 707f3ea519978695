"""A log for TensorBoard."""

from pathlib import Path

from keras_vit_scale.training.callbacks.event_file import EventFile
from keras_vit_scale.training.callbacks.step_logger import StepLogger


class TensorBoardLog(StepLogger):
    """Writes steps as TensorBoard's scalars; needs neither TensorFlow nor TensorBoard.

    Each `fit` writes a file of its own. When training begins at step k, TensorBoard
    forgets later steps of the files before it. (`tensorboard --logdir` shows them.)

    Args:
        directory: Folder of the event files; it is made.
        every: N: a point every N steps, and when `StepLogger` says.

    Raises:
        ValueError: If `every` is no positive integer.

    Example:

    >>> import keras, numpy as np, pathlib, tempfile
    >>> from keras_vit_scale.training import TensorBoardLog
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> data = np.zeros((10, 3)), np.zeros((10, 1))
    >>> _ = model.fit(*data, verbose=0, callbacks=[TensorBoardLog(folder, every=2)])
    >>> [file.name.split(".")[2] for file in folder.iterdir()]
    ['tfevents']
    """

    def __init__(self, directory: str | Path, every: int):
        super().__init__(every)
        self.directory = Path(directory)

    def open(self, step: int) -> None:
        self._events = EventFile(self.directory, step)

    def write(self, step: int, values: dict[str, float]) -> None:
        self._events.write(step, values)

    def close(self) -> None:
        self._events.close()
