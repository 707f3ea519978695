"""Versions of the files that this package writes and reads again.

Every such file says its format, a whole number of its own kind; one that says none is of
format 1. What an earlier version of this package wrote must load for ever (`tests/golden`),
and what a later one wrote is refused before anything of it is believed.

A number grows when an earlier version would misread the file. What belongs to a file goes by
its number: `evaluations.json` and `log.csv` by that of the run's `config.yaml`, `results.csv`
by that of `study.yaml`. Weights are in the formats of Keras and of other projects.
"""

import json
from pathlib import Path
from typing import Any

from keras_vit_scale.atomic import write_text

#: The format of each kind of file that is written, the latest that is read.
FORMATS = {
    "branch": 1,  # branch.json of a run that began at another's checkpoint
    "checkpoint": 2,  # manifest.json, and the arrays beside it
    "classifier": 3,  # what a .keras file holds beside Keras' model
    "cooldown": 1,  # cooldown.json of a run
    "dedup": 1,  # dedup.json of a folder in which near-duplicates are sought
    "exclusions": 1,  # what a list of excluded images says of itself
    "law": 1,  # a law as `to_dict` has it
    "laws": 1,  # law.json of a study
    "names": 1,  # names.json beside checkpoints
    "results": 1,  # results.json of a run
    "rewinds": 1,  # rewinds.json of a run
    "run": 1,  # config.yaml
    "shape search": 1,  # shapes.jsonl of a folder in which shapes are sought
    "search": 1,  # search.json of a search for hyperparameters
    "study": 1,  # study.yaml
    "study result": 1,  # result.json of one of a study's runs
    "test": 1,  # test.json of a fine-tuned model
    "trial": 1,  # result.json of one of a search's trials
}


class FormatError(ValueError):
    """A file of a format that this version of the package does not know."""


def check_format(kind: str, version: Any, name: object) -> None:
    """Refuses a file of a format that is not known.

    Args:
        kind: One of `FORMATS`.
        version: What the file says.
        name: The file, for the message.

    Raises:
        FormatError: If it is none of the formats from 1 to that which is written.
    """
    latest = FORMATS[kind]
    if type(version) is not int or not 1 <= version <= latest:
        known = "format 1" if latest == 1 else f"the formats 1 to {latest}"
        raise FormatError(
            f"This version of keras_vit_scale reads {known} of a {kind}; a later one is read "
            "after `pip install --upgrade keras-vit-scale`. "
            f"Received: format {str(version)[:80]} in {name}"
        )


def with_format(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """What a file of this kind holds: its format, then the values."""
    return {"format": FORMATS[kind], **values}


def without_format(kind: str, stored: dict[str, Any], name: object) -> dict[str, Any]:
    """The values that `with_format` stored; a file without a format is of format 1.

    Raises:
        FormatError: If the format is not known.

    Example:

    >>> from keras_vit_scale.formats import with_format, without_format
    >>> without_format("results", with_format("results", {"steps": 7}), "results.json")
    {'steps': 7}
    """
    values = dict(stored)
    check_format(kind, values.pop("format", 1), name)
    return values


def write_json(kind: str, path: Path, values: dict[str, Any]) -> None:
    """Replaces a JSON file by one of this kind, at once, with its format.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.formats import read_json, write_json
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json("results", Path(folder, "results.json"), {"steps": 7})
    ...     read_json("results", Path(folder, "results.json"))
    {'steps': 7}
    """
    write_text(path, json.dumps(with_format(kind, values), indent=1))


def read_json(kind: str, path: Path) -> dict[str, Any]:
    """The values that `write_json` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        FormatError: If the format is not known.
        ValueError: If it is not the JSON of a file of ours.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is damaged: it must hold one JSON object")
    return without_format(kind, stored, path)
