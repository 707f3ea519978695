"""A log in a CSV file, one row a step, that survives interruptions."""

import csv
import io
from pathlib import Path
from typing import TextIO

from keras_vit_scale.training.callbacks.step_logger import StepLogger
from keras_vit_scale.weights.files import write_text


class CSVLog(StepLogger):
    """Writes steps to a CSV file: column "step", then one a name, empty where unknown.

    A row is in the file as soon as it is written. When training begins at step k, rows
    of later steps are dropped, and a last row that was cut off: what is left is what
    the resumed run would have written. A new run, from step 0, so begins the file anew.
    A name that comes up later becomes a new column, for which the file is rewritten.

    Args:
        path: The file; its folder is made.
        every: N: a row every N steps, and when `StepLogger` says.

    Raises:
        ValueError: If `every` is no positive integer; when training begins, if the
            file is no such log.

    Example:

    >>> import keras, numpy as np, pathlib, tempfile
    >>> from keras_vit_scale.training import CSVLog
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.csv"
    >>> data = np.zeros((10, 3)), np.zeros((10, 1))
    >>> _ = model.fit(*data, batch_size=2, verbose=0, callbacks=[CSVLog(log, every=2)])
    >>> print(log.read_text())
    step,loss
    2,0.0
    4,0.0
    5,0.0
    """

    def __init__(self, path: str | Path, every: int):
        super().__init__(every)
        self.path = Path(path)
        self._columns = ["step"]
        self._file: TextIO | None = None

    def open(self, step: int) -> None:
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._columns, rows = read_log(self.path)
        self._rewrite([row for row in rows if int(row["step"]) <= step])

    def write(self, step: int, values: dict[str, float]) -> None:
        row = {"step": step, **values}
        new = [name for name in values if name not in self._columns]
        if new or self._file is None:
            self._columns += new
            self._rewrite([*read_log(self.path)[1], row])
        else:
            self._writer(self._file).writerow(row)
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self, rows):
        self.close()
        text = io.StringIO(newline="")
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def _writer(self, file):
        return csv.DictWriter(file, self._columns, lineterminator="\n")


def read_log(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and whole rows of a log; ["step"] and none where there is no file.

    Raises:
        ValueError: If the file is no such log.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ["step"], []
    whole = text[: text.rfind("\n") + 1]  # a row without its end was cut off
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    columns = list(reader.fieldnames or ["step"])
    rows = list(reader)
    if columns[0] != "step" or not all(row["step"].isdecimal() and None not in row for row in rows):
        raise ValueError(
            "A log must have the steps in its first column; choose another path. "
            f"Received: {path} with columns {columns}"
        )
    return columns, rows
