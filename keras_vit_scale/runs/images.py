"""The images of a run: opened, limited, parted, and replaced where they cannot be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_vit_scale.data import ImageFolder, ReplaceBad, Source, hold_out, open_source
from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.encoded import EncodedSource
from keras_vit_scale.data.labels import check_single
from keras_vit_scale.data.replacing import bad_limit
from keras_vit_scale.runs.config import TrainConfig


def open_data(config: TrainConfig, ledger: Path | None = None) -> tuple[Source, Source | None]:
    """The images to train on, and the held-out ones if there are any.

    Args:
        config: Names the images, and says what becomes of those that cannot be read.
        ledger: Where these are listed, if they are replaced.

    Raises:
        ValueError: If the data cannot be read, or nothing would be left of a part.
    """
    whole = open_source(config.data, orientation=config.orientation, max_pixels=config.max_pixels)
    check_for_files(config, {config.data: whole})
    check_single(whole.labels, "a run, which tells its accuracy; `fit` takes any labels")
    source, held_out = _parts(config, whole)
    if config.bad_images == "error":
        return source, held_out
    # Each part for itself, so that no held-out image is trained on. The limit is one for both.
    limit = bad_limit(config.max_bad, len(whole))
    source = ReplaceBad(source, ledger, limit)
    return source, None if held_out is None else ReplaceBad(held_out, ledger, limit)


def check_for_files(options: Any, sources: Mapping[str, Source]) -> None:
    """Refuses options of image files where no source has any.

    Args:
        options: What has `bad_images`, `orientation` and `max_pixels`.
        sources: The images, by what they were opened by.

    Raises:
        ValueError: If one of these is not the default, and no source has image files.
    """
    defaults = {"bad_images": "error", "orientation": "ignore", "max_pixels": MAX_PIXELS}
    given = [name for name, value in defaults.items() if getattr(options, name) != value]
    files = (ImageFolder, EncodedSource)
    if given and not any(isinstance(source, files) for source in sources.values()):
        raise ValueError(
            "`bad_images`, `orientation` and `max_pixels` are for folders of image files and for "
            f"shards: leave them out. Received: {', '.join(given)} for "
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
