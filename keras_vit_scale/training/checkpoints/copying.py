"""A checkpoint copied from one folder to another, whole or not at all."""

import shutil

from keras_vit_scale.training.checkpoints.manifest import (
    MANIFEST,
    CheckpointError,
    check_arrays,
    parse_manifest,
)
from keras_vit_scale.training.checkpoints.storage import Folder, read_bytes, write_bytes


def copy_checkpoint(source: Folder, target: Folder, said: bytes | None = None) -> None:
    """Copies a checkpoint, of which every array is compared with its digest.

    Whoever wrote it may delete or replace it meanwhile: then there is none in `target` either.

    Args:
        source, target: Folders of the checkpoint and of its copy.
        said: What its manifest said; by default it is read.

    Raises:
        CheckpointError: If it is damaged, or is another one than the manifest's.
        OSError: If it cannot be read, as when it is gone, or written.

    Example:

    >>> import keras, tempfile
    >>> from keras_vit_scale.training import CheckpointStore
    >>> from keras_vit_scale.training.checkpoints.copying import copy_checkpoint
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
    ...     store, other = CheckpointStore(a), CheckpointStore(b)
    ...     store.save(model, step=7)
    ...     store.wait()
    ...     copy_checkpoint(store.folder_of(7), other.folder_of(7))
    ...     other.steps()
    [7]
    """
    if said is None:
        said = read_bytes(source, MANIFEST)
    manifest = parse_manifest(said, source)
    target.make()
    chunks = [chunk for entry in manifest.arrays.values() for chunk in entry.chunks]
    for file in sorted({chunk.file for chunk in chunks}):
        with source.reading(file) as old, target.writing(file) as new:
            shutil.copyfileobj(old, new, 2**22)
    problems = check_arrays(target, manifest)
    if problems:
        raise CheckpointError(
            f"The checkpoint {source} cannot be copied: " + "; ".join(sorted(problems))
        )
    write_bytes(target, MANIFEST, said)
