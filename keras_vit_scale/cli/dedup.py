"""`dedup`: the training images that nearly duplicate images to judge by."""

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from keras_vit_scale.cli.output import print_json, tell
from keras_vit_scale.cli.progress import ImageBar


def dedup(
    train: Annotated[Positional[str], arg(metavar="DATA")],
    /,
    against: Annotated[tuple[str, ...], arg(metavar="[DATA ...]")] = (),
    out: Path = Path("dedup"),
    within: bool = False,
    crops: bool = False,
    threshold: Annotated[int | None, arg(metavar="BITS")] = None,
    model: Annotated[Path | None, arg(metavar="MODEL")] = None,
    similarity: Annotated[float | None, arg(metavar="COSINE")] = None,
    calibrate: Annotated[int, arg(metavar="IMAGES")] = 0,
    part: Annotated[str, arg(metavar="K/N")] = "",
    bad_images: Literal["error", "skip"] = "error",
    max_bad: Annotated[int | float, arg(metavar="IMAGES|PART")] = 0.01,
    orientation: Literal["ignore", "apply"] = "ignore",
    links: Literal["refuse", "follow"] = "refuse",
    workers: Annotated[int | None, arg(metavar="THREADS")] = None,
    json: bool = False,
) -> None:
    """List the training images that nearly duplicate an image of the evaluation sets.

    Writes OUT/excluded.parquet, which train, finetune and study run take as --exclude, and
    OUT/pairs.html, a page of the pairs to look at. Interrupted, the same command goes on.

    For example:

      keras-vit-scale dedup photos/ --against test_photos/ tfds:cifar10@test --out clean
      keras-vit-scale dedup photos/ --calibrate 1000
      keras-vit-scale dedup photos/ --against test/ --model run/ --similarity 0.9 --crops
      keras-vit-scale dedup photos/ --against test/ --part 3/16    # on the third of 16 machines

    Args:
        train: The images of which some are to go: a folder of class folders, an .npz file, ...
        against: The evaluation sets, which must have no near-duplicate among them.
        out: The folder of the work.
        within: Also list what resembles an earlier image of the same data.
        crops: Also look for what was cut from evaluation images.
        threshold: Bits of 256 in which hashes may differ; by default 31, with a model 72.
        model: A run's folder, or a model.keras, for a second look at each pair.
        similarity: The least cosine of the model's features; to be given with a model.
        calibrate: Instead, plant duplicates in so many images, and tell what thresholds find.
        part: Do the K-th of N parts of the work, and write no list; when all are done, run the
            command without it.
        bad_images: "skip" goes on without images that cannot be read, and lists them.
        max_bad: How many may be skipped.
        orientation: As for train.
        links: As for train.
        workers: Threads that read images; by default as many as processors.
        json: Print JSON.
    """
    from keras_vit_scale.data import calibrate as measure
    from keras_vit_scale.data import deduplicate, open_source

    source, *others = (
        open_source(name, orientation=orientation, links=links) for name in (train, *against)
    )
    embed = None
    if model is not None:
        from keras_vit_scale.evaluation import load_classifier
        from keras_vit_scale.runs import model_file

        embed = load_classifier(model_file(model)).embed
    if calibrate:
        found = measure(source, calibrate, crops=crops, embed=embed)
        table = found.table(similarity)
        if json:
            rows = table.reset_index().to_dict("records")
            print_json({"plain": found.plain, "thresholds": rows})
            return
        tell(table.to_string(float_format="{:.3f}".format))
        tell(
            "Which part of each kind of planted duplicate is found, and which part of the images "
            f"has another of the sample for a duplicate. {found.plain} plain images are left out."
        )
        return
    numbers = _numbers(part)
    with _Bars() as bars:
        listed = deduplicate(
            source, others, folder=out, within=within, crops=crops, threshold=threshold,
            embed=embed, similarity=similarity, bad_images=bad_images, max_bad=max_bad,
            part=numbers, workers=workers, progress=bars.show,
        )  # fmt: skip
    if listed is None:
        told: dict[str, Any] = {"part": part, "folder": str(out)}
        line = f"Part {part} is done. When all are, run the command without --part."
    else:
        told = {"file": str(listed.path), "excluded": len(listed), **listed.about}
        line = (
            f"{len(listed):,} of {len(source):,} images are near-duplicates. "
            f"Written: {listed.path}, {out / 'pairs.html'}"
        )
    if json:
        print_json(told)
        return
    tell(line)


def _numbers(part):
    """(k, n) of "k/n"."""
    if not part:
        return None
    k, _, n = part.partition("/")
    if not (k.isdecimal() and n.isdecimal()):
        raise ValueError(f"--part must be K/N, such as 3/16. Received: {part!r}")
    return int(k), int(n)


class _Bars:
    """A bar of images for each step of the work."""

    def __init__(self):
        self.bar, self.doing, self.done = None, None, 0

    def show(self, doing: str, done: int, total: int) -> None:
        if doing != self.doing:
            self.close()
            self.bar, self.doing, self.done = ImageBar(doing), doing, 0
            self.bar.begin(total)
        if self.bar is not None:
            self.bar.advance(done - self.done)
        self.done = done

    def close(self) -> None:
        if self.bar is not None:
            self.bar.__exit__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
