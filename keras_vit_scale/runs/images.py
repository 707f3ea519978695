"""The images of a run: opened, limited, parted, and replaced where they cannot be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_vit_scale.data import (
    Excluding,
    ImageFolder,
    ReplaceBad,
    Source,
    hold_out,
    open_source,
)
from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.encoded import EncodedSource
from keras_vit_scale.data.labels import check_single
from keras_vit_scale.data.replacing import bad_limit
from keras_vit_scale.runs.config import TrainConfig

#: Options of image files, as they are where none is given.
DEFAULTS = {
    "bad_images": "error",
    "orientation": "ignore",
    "max_pixels": MAX_PIXELS,
    "fast": False,
    "links": "refuse",
}


def open_data(config: TrainConfig, ledger: Path | None = None) -> tuple[Source, Source | None]:
    """The images to train on, and the held-out ones if there are any.

    Args:
        config: Names the images, and says what becomes of those that cannot be read.
        ledger: Where these are listed, if they are replaced.

    Raises:
        ValueError: If the data cannot be read, the exclusion list is of other data, or nothing
            would be left of a part.
    """
    whole = open_named(config.data, config)
    check_for_files(config, {config.data: whole})
    if config.exclude is not None:
        whole = Excluding(whole, config.exclude)
    check_single(whole.labels, "a run, which tells its accuracy; `fit` takes any labels")
    source, held_out = _parts(config, whole)
    if config.bad_images == "error":
        return source, held_out
    # Each part for itself, so that no held-out image is trained on. The limit is one for both.
    limit = bad_limit(config.max_bad, len(whole))
    source = ReplaceBad(source, ledger, limit)
    return source, None if held_out is None else ReplaceBad(held_out, ledger, limit)


def open_named(name: str, options: Any) -> Source:
    """The source of a name, read as `orientation`, `max_pixels`, `fast` and `links` say."""
    return open_source(
        name,
        orientation=options.orientation,
        max_pixels=options.max_pixels,
        fast=options.fast,
        links=options.links,
    )


def check_for_files(options: Any, sources: Mapping[str, Source]) -> None:
    """Refuses options of image files where no source has any.

    Args:
        options: What has the settings of `DEFAULTS`.
        sources: The images, by what they were opened by.

    Raises:
        ValueError: If one of these is not the default, and no source has image files.
    """
    given = [name for name, value in DEFAULTS.items() if getattr(options, name) != value]
    files = (ImageFolder, EncodedSource)
    if given and not any(isinstance(source, files) for source in sources.values()):
        raise ValueError(
            f"{', '.join(f'`{name}`' for name in DEFAULTS)} are for folders of image files and "
            f"for shards: leave them out. Received: {', '.join(given)} for "
            f"{', '.join(map(repr, sources))}"
        )


def _parts(config, source):
    """The images to train on and those held out, or `None`."""
    if config.images is not None and config.images != len(source):
        if config.images > len(source):
            raise ValueError(
                "`images` must be at most the number of images in the data. "
                f"Received: images={config.images}, and {len(source)} in {config.data!r}"
            )
        _, source = hold_out(source, config.images, config.seed, stratified=True)
    if not config.validation:
        return source, None
    return hold_out(source, config.validation, config.seed, stratified=config.stratified)
