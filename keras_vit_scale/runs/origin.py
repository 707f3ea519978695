"""Where a branch left its trunk: what branch.json says, which is all that a run needs of it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from keras_vit_scale.formats import read_json, write_json

#: The file, in the folder of a run that began at a checkpoint of another.
BRANCH = "branch.json"


@dataclass(frozen=True)
class Origin:
    """The checkpoint of another run that a run began at.

    Args:
        trunk: Folder of the other run.
        step: Step of its checkpoint.
        images_seen: Images that training had seen there.
        checkpoint: The name by which the checkpoint was asked for, if it was.
        blake2b: Digest of the checkpoint's manifest.
        saved_with: Backend and versions of the process that saved it.
        asked: Settings that were given for the branch.
        changed: Settings that are not the trunk's: what it had there, and the branch's. The
            trunk's warm-up and averages are in steps, as they were.
        learning_rate: Of the next step, in the trunk and in the branch.
        trunk_branch: What the trunk's own branch.json said, where it is a branch too.
        time: When the branch began, in UTC.
        versions: Backend and versions of the process that began it.
    """

    trunk: str
    step: int
    images_seen: int
    checkpoint: str | None
    blake2b: str
    saved_with: dict[str, Any]
    asked: dict[str, Any]
    changed: dict[str, tuple[Any, Any]]
    learning_rate: tuple[float, float]
    trunk_branch: dict[str, Any] | None
    time: str
    versions: dict[str, Any]

    def images_at(self, step: int, batch_size: int) -> int:
        """Images seen at a later step of the branch, the trunk's among them."""
        return self.images_seen + (step - self.step) * batch_size

    def write(self, out: Path) -> None:
        """Writes branch.json."""
        write_json("branch", out / BRANCH, dataclasses.asdict(self))


def images_seen(origin: Origin | None, step: int, batch_size: int) -> int:
    """Images that a run has seen at a step: of a branch, those of its trunk among them.

    Example:

    >>> from keras_vit_scale.runs.origin import images_seen
    >>> images_seen(None, step=7, batch_size=100)
    700
    """
    return step * batch_size if origin is None else origin.images_at(step, batch_size)


def read_origin(out: str | Path) -> Origin | None:
    """What branch.json in a run's folder says; `None` if the run is no branch.

    Raises:
        ValueError: If the file is damaged or of a later format.
    """
    path = Path(out) / BRANCH
    try:
        return pydantic.TypeAdapter(Origin).validate_python(read_json("branch", path))
    except FileNotFoundError:
        return None
    except pydantic.ValidationError as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from error
