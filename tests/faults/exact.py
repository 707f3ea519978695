"""What a run left behind, read by others' means, to be compared with what its twin left."""

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path

import h5py
import ml_dtypes  # noqa: F401  (safetensors' reader returns bfloat16)
from safetensors.numpy import load_file

#: What a clock decides, in logs and results.
TIMED = ("images_per_second", "fraction_of_peak", "cooldown_seconds", "seconds")


def left_by(folder):
    """Everything of a run or study that two runs must have in common, by name.

    Arrays of checkpoints (weights, optimizer, averages, seeds, metrics) and of models as
    digests of their bytes; logs and results as they are, without what a clock decides.
    """
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if path.suffix == ".safetensors":
            arrays = load_file(path)
            found |= {f"{name}:{key}": _digest(value.tobytes()) for key, value in arrays.items()}
        elif path.suffix == ".keras":
            found |= {f"{name}:{key}": value for key, value in _weights(path).items()}
        elif path.suffix == ".csv":
            found[name] = [_untimed(row) for row in csv.DictReader(io.StringIO(path.read_text()))]
        elif path.suffix == ".json" and path.name != "manifest.json":
            found[name] = _untimed(json.loads(path.read_text()))
    return found


def samples(folder):
    """What each step was given, by its number, in all the lives of a run.

    Raises:
        AssertionError: If two lives were given different batches for one step.
    """
    found = {}
    for journal in sorted(Path(folder).glob("journal-*.txt")):
        text = journal.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            kind, *rest = line.split()
            if kind == "step":
                step, batch = int(rest[0]), tuple(rest[1:])
                if found.setdefault(step, batch) != batch:
                    raise AssertionError(f"Step {step} was given two batches: {journal}")
    return found


def differences(one, other):
    """Names of what is not the same in two dictionaries."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))


def _digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def _weights(path):
    """Digests of the arrays in a .keras file."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = _digest(item[()].tobytes())

    with zipfile.ZipFile(path) as archive:
        data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data) as file:
        file.visititems(visit)
    return found


def _untimed(value):
    if isinstance(value, dict):
        return {key: _untimed(v) for key, v in value.items() if key not in TIMED}
    if isinstance(value, list):
        return [_untimed(v) for v in value]
    return value
