"""The images of a study: what trunks are trained on, what is held out, and what is probed."""

from pathlib import Path
from typing import NamedTuple

from keras_vit_scale.data import (
    Excluding,
    ReplaceBad,
    Source,
    hold_out,
    hold_out_classes,
    subset,
)
from keras_vit_scale.data.labels import check_single
from keras_vit_scale.data.replacing import bad_limit
from keras_vit_scale.evaluation import FewShot
from keras_vit_scale.runs.images import check_for_files, open_named
from keras_vit_scale.scaling.config import StudyConfig


class StudyData(NamedTuple):
    """The images of a study; no image is in two of the parts.

    Args:
        upstream: What trunks are trained on.
        validation: Held-out images of the same classes, or `None`.
        probes: A few-shot probe a task, by its name.
        parts: Nested parts of `upstream` to train on besides, by how many images they have.
    """

    upstream: Source
    validation: Source | None
    probes: dict[str, FewShot]
    parts: dict[int, Source]

    def of(self, images: int | None) -> "StudyData":
        """These data with so many images to train on; all of them for `None`."""
        return self if images is None else self._replace(upstream=self.parts[images])


def open_data(config: StudyConfig, ledger: Path | None = None) -> StudyData:
    """Opens and divides the images of a study.

    Args:
        config: Names them, and says what becomes of those that cannot be read.
        ledger: Where these are listed, if they are replaced.

    Raises:
        ValueError: If the data cannot be read, a class has too few examples, options of image
            files are given and there are none, the exclusion list is of other data, or a data
            size is no part of the images.
    """
    d, p = config.data, config.probe
    names = (d.upstream, *d.downstream)
    opened = [open_named(name, d) for name in names]
    check_for_files(d, dict(zip(names, opened, strict=True)))
    if d.exclude is not None:
        opened[0] = Excluding(opened[0], d.exclude)
    for source in opened:
        check_single(source.labels, "a study")
    limit = bad_limit(d.max_bad, sum(map(len, opened)))

    def readable(part):
        return part if d.bad_images == "error" else ReplaceBad(part, ledger, limit)

    upstream, held_out = opened[0], None
    if d.held_out_classes:
        upstream, held_out = hold_out_classes(upstream, d.held_out_classes)
    elif d.held_out:
        upstream, held_out = hold_out(upstream, d.held_out, d.split_seed)
    downstream: list[Source] = [] if held_out is None else [held_out]
    downstream += opened[1:]
    probes = {}
    for task, source in zip(d.tasks(), downstream, strict=True):
        test_images = round(p.test_fraction * len(source))
        examples, test = hold_out(source, test_images, d.split_seed)
        probes[task] = FewShot(
            readable(examples),
            readable(test),
            config.probe_transform(),
            shots=p.shots,
            seeds=p.seeds,
            l2=p.l2,
        )
    validation = None
    if d.validation:
        upstream, held_out = hold_out(upstream, d.validation, d.split_seed)
        validation = readable(held_out)
    if config.data_sizes and max(config.data_sizes) >= len(upstream):
        raise ValueError(
            f"`data_sizes` must be below the {len(upstream)} images that are left to train on, "
            f"which are trained on in any case. Received: data_sizes={config.data_sizes}"
        )
    parts = {
        images: readable(subset(upstream, images, d.split_seed, stratified=d.stratified))
        for images in config.data_sizes
    }
    return StudyData(readable(upstream), validation, probes, parts)
