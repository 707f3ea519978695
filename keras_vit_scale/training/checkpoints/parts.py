"""One checkpoint written by several processes, each its own shards.

Each process but the first leaves a manifest of its part in the folder, and the first joins
them to the checkpoint's. They meet through the folder, so that a save needs no device.
"""

import time
from dataclasses import replace

from keras_vit_scale.training.checkpoints.manifest import (
    CheckpointError,
    Manifest,
    is_complete,
    read_manifest,
)
from keras_vit_scale.training.checkpoints.storage import Folder

#: Seconds after which a process that has not written its part has died.
PATIENCE = 600.0


def part_name(process: int) -> str:
    """The manifest of one process."""
    return f"part-{process:04d}.json"


def gather_parts(folder: Folder, own: Manifest, process: int, processes: int) -> Manifest:
    """What all processes wrote together; for all but the first, once it is a checkpoint.

    Raises:
        CheckpointError: If another process does not write its part within `PATIENCE` seconds.
    """
    if process > 0:
        own.write(folder, part_name(process))
        _wait(lambda: is_complete(folder), f"The first process has not completed {folder}")
        return own
    whole = own
    for other in range(1, processes):
        part = part_name(other)
        _wait(lambda p=part: folder.has(p), f"Process {other} has not written its part of {folder}")
        whole = join(whole, read_manifest(folder, part))
    return whole


def join(one: Manifest, other: Manifest) -> Manifest:
    """Two parts of a checkpoint as one."""
    arrays = {
        name: replace(entry, chunks=entry.chunks + other.arrays[name].chunks)
        for name, entry in one.arrays.items()
    }
    return replace(one, arrays=arrays)


def _wait(done, otherwise):
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > PATIENCE:
            raise CheckpointError(f"{otherwise} within {PATIENCE:.0f} seconds; it may have died")
        time.sleep(0.05)
