"""Finding the images of a training source that nearly duplicate others, in one folder of work.

All work is in files that are there whole or not at all, and none depends on when or by whom it
was written: a run that was killed goes on, several machines share one, and the list is the same,
byte for byte.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit_scale.atomic import delete_leftovers, replacing, write_text
from keras_vit_scale.checks import check_one_of, check_positive_integers, is_real, is_whole
from keras_vit_scale.data.decode import BadImageError
from keras_vit_scale.data.identity import digest_of_labels
from keras_vit_scale.data.ledger import Ledger
from keras_vit_scale.data.near_duplicates import candidates
from keras_vit_scale.data.near_duplicates.blocks import PLAIN, UNREAD, Blocks
from keras_vit_scale.data.near_duplicates.candidates import PAIR
from keras_vit_scale.data.near_duplicates.check import Embed, checked, probe
from keras_vit_scale.data.near_duplicates.exclusions import Exclusions, write_exclusions
from keras_vit_scale.data.near_duplicates.neighbours import Neighbours, check_installed
from keras_vit_scale.data.near_duplicates.page import write_page
from keras_vit_scale.data.replacing import TooManyBadImagesError, bad_limit
from keras_vit_scale.data.sources import Source
from keras_vit_scale.formats import with_format, without_format
from keras_vit_scale.ownership import owning

#: Bits of 256 in which the hashes of near-duplicates may differ: benchmarks/near_duplicates.py.
#: With one more, a search of long indexes takes eight times the look-ups (`neighbours`).
THRESHOLD = 31

#: The same where an embedding has the last word.
CHECKED_THRESHOLD = 72

#: The largest that is of any use; unrelated images differ in 128 bits.
LARGEST_THRESHOLD = 100

#: Images of a file of hashes, and files whose images are searched together.
BLOCK, GROUP = 65_536, 64

#: What is told of long work: what is done, how far, and of how much.
Progress = Callable[[str, int, int], None]


def deduplicate(
    train: Source,
    against: Sequence[Source] = (),
    *,
    folder: str | Path,
    within: bool = False,
    crops: bool = False,
    threshold: int | None = None,
    embed: Embed | None = None,
    similarity: float | None = None,
    bad_images: str = "error",
    max_bad: int | float = 0.01,
    part: tuple[int, int] | None = None,
    block: int = BLOCK,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Exclusions | None:
    """The images of `train` that nearly duplicate an image of the evaluation sources.

    Images are hashed as in `near_duplicates.hashing`; those whose hashes differ in few bits,
    straight or mirrored, are near-duplicates, unless `embed` finds them unlike. Of images that
    resemble each other within `train` the first stays: an image goes if it resembles an earlier
    one, whether that stays or not. Plain images, such as an empty sky, are not compared.

    The folder gets `excluded.parquet`, the list; `pairs.html`, a page of the found pairs to look
    at; `bad_images.csv`, if there are any; and the hashes. A run that was killed goes on when it
    is called again, and ends with the same list.

    Args:
        train: The images of which some are to go.
        against: Sources that must have no near-duplicate in `train`.
        folder: Where the work is kept, for one comparison with its settings.
        within: Also let go what resembles an earlier image of `train`.
        crops: Also hash 18 parts of each evaluation image, to find what was cut from one, for 19
            times the index. Meant for `embed`: few cuttings are within 31 bits of a part, most
            within 72.
        threshold: Bits of 256 in which hashes may differ, from 0 to 100. By default 31, and 72
            with `embed`. `calibrate` shows what others would do.
        embed: A function from images to vectors, such as `Classifier.embed`, for a second look at
            each pair.
        similarity: The least cosine of near-duplicates' vectors, in (0, 1]; to be given with
            `embed`, since models differ.
        bad_images: "error", or "skip" to go on without images that cannot be read. These are
            listed in the folder, and are not in the list.
        max_bad: How many may be skipped, a number or a part of all the images.
        part: `(k, n)` does the k-th of n parts of the work, k from 1 to n, and writes no list;
            see `docs/near_duplicates.md`.
        block: Images a file of hashes.
        workers: Threads that read images; by default as many as there are processors.
        progress: Is told how far the work is.

    Returns:
        The list, or `None` from a part.

    Raises:
        ValueError: If there is nothing to compare with, an option is out of range, the folder
            holds another comparison, or `embed` does not fit.
        BadImageError: If an image cannot be read, naming it.
        TooManyBadImagesError: If more are skipped than may be.
        OwnedError: If another process works on the same in the folder.
        ImportError: If the extra `dedup` is not installed.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale.data import Subset, deduplicate, digits
    >>> train, test = Subset(digits(), range(0, 60)), Subset(digits(), range(50, 80))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     deduplicate(train, [test], folder=folder).indices
    array([50, 51, 52, 53, 54, 55, 56, 57, 58, 59])
    """
    against = list(against)
    if threshold is None:
        threshold = THRESHOLD if embed is None else CHECKED_THRESHOLD
    _check(against, within, threshold, embed, similarity, part)
    check_one_of(("error", "skip"), bad_images=bad_images)
    workers = os.cpu_count() or 1 if workers is None else workers
    check_positive_integers(block=block, workers=workers)
    images = len(train) + sum(len(source) for source in against)
    limit = bad_limit(max_bad, images)
    check_installed()
    folder = Path(folder)
    settings = {
        "fingerprint": digest_of_labels(train),
        "images": len(train),
        "against": [
            {"fingerprint": digest_of_labels(source), "images": len(source)} for source in against
        ],
        "within": within,
        "crops": crops,
        "threshold": int(threshold),
        "similarity": similarity,
        "model": None if embed is None else probe(embed),
        "block": block,
        "bad_images": bad_images,
    }
    here = folder if part is None else folder / f"part-{part[0]}-of-{part[1]}"
    with owning(here):
        _settle(folder, settings)
        work = _Work(train, against, folder, block, crops, int(threshold), progress)
        work.hash_all(part, _on_bad(folder, bad_images, limit), workers)
        work.search_all(part, within, embed, similarity)
        if part is not None:
            return None
        states = work.train.states()
        about = settings | {"plain": states[PLAIN], "unread": states[UNREAD]}
        found = write_exclusions(folder / "excluded.parquet", work.results(), about)
        write_page(folder / "pairs.html", train, against, found)
        delete_leftovers(folder)
        return found


class _Work:
    """The steps of one comparison, each of which leaves what is done already."""

    def __init__(self, train, against, folder, block, crops, threshold, progress):
        self.source, self.against = train, against
        self.folder, self.threshold, self.progress = folder, threshold, progress
        self.train = Blocks(train, folder / "train", block)
        self.others = [
            Blocks(source, folder / f"against-{i}", block, crops)
            for i, source in enumerate(against)
        ]
        self.groups = [
            range(start, min(start + GROUP, len(self.train)))
            for start in range(0, len(self.train), GROUP)
        ]

    def hash_all(self, part, on_bad, workers):
        """Hashes the evaluation sources, and of the training source what belongs to the part."""
        todo = [(blocks, i) for blocks in self.others for i in range(len(blocks))]
        todo += [(self.train, i) for i in range(len(self.train)) if _is_of(i, part)]
        total = sum(len(blocks.images(i)) for blocks, i in todo)
        done = sum(len(blocks.images(i)) for blocks, i in todo if blocks.is_done(i))
        self._tell("hash", done, total)

        def more(images):
            nonlocal done
            done += images
            self._tell("hash", done, total)

        for blocks, i in todo:
            if not blocks.is_done(i):
                blocks.write(i, on_bad, workers, more)

    def search_all(self, part, within, embed, similarity):
        """Finds the pairs of what belongs to the part, for which all must be hashed."""
        missing = sum(not self.train.is_done(i) for i in range(len(self.train)))
        if missing:
            # Of a part alone: others hash the rest.
            raise PartsMissingError(
                "A part searches when all parts have hashed: run it again when the others are "
                f"done. Received: {missing} of {len(self.train)} files of hashes not there yet"
            )
        todo: list[tuple[int, int | None]] = []
        if self.against:
            todo += [(a, None) for a in range(len(self.groups))]
        if within:
            todo += [(a, b) for a in range(len(self.groups)) for b in range(a + 1)]
        todo = [unit for i, unit in enumerate(todo) if _is_of(i, part)]
        index = None
        total = sum(len(self._images(a)) for a, _ in todo)
        done = 0
        self._tell("search", 0, total)
        for a, b in todo:
            path = self._found(a, b)
            if not path.exists():
                images, hashes = self.train.read(self.groups[a])
                if b is None:
                    index = index or self._index_of_others()
                    pairs = candidates.against(images, hashes, *index)
                else:
                    pairs = self._within(images, hashes, a, b)
                if embed is not None:
                    pairs = checked(pairs, self.source, self.against, embed, similarity)
                path.parent.mkdir(exist_ok=True)
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    np.save(file, pairs)
            done += len(self._images(a))
            self._tell("search", done, total)

    def results(self) -> Iterator[np.ndarray]:
        """Of each image that goes the pair for which it does, a group of images at a time."""
        for a in range(len(self.groups)):
            paths = [self._found(a, b) for b in (None, *range(a + 1))]
            found = [np.load(path, allow_pickle=False) for path in paths if path.exists()]
            yield candidates.best(np.concatenate([np.zeros(0, PAIR), *found]))

    def _images(self, group):
        """The indices of a group's images."""
        size = GROUP * self.train.size
        return range(group * size, min((group + 1) * size, len(self.source)))

    def _index_of_others(self):
        """The index of all evaluation sources, and which image of which source each hash is."""
        read = [blocks.read(range(len(blocks))) for blocks in self.others]
        index = Neighbours(self.threshold, sum(len(indices) for indices, _ in read))
        for _, hashes in read:
            index.add(hashes)
        sources = np.repeat(np.arange(len(read)), [len(indices) for indices, _ in read])
        return index, sources, np.concatenate([indices for indices, _ in read])

    def _within(self, images, hashes, a, b):
        if a == b:
            return candidates.among(images, hashes, self.threshold)
        others, earlier = self.train.read(self.groups[b])
        index = Neighbours(self.threshold, len(others))
        index.add(earlier)
        sources = np.full(len(others), candidates.WITHIN)
        return candidates.against(images, hashes, index, sources, others)

    def _found(self, a, b):
        name = f"{a:06d}-against" if b is None else f"{a:06d}-{b:06d}"
        return self.folder / "found" / f"{name}.npy"

    def _tell(self, doing, done, total):
        if self.progress is not None:
            self.progress(doing, done, total)


class PartsMissingError(ValueError):
    """A part has done what it can, and must be run again when the others have."""


def check_threshold(threshold: Any) -> None:
    """Refuses what is no number of bits that hashes of near-duplicates may differ in.

    Raises:
        ValueError: If it is not from 0 to 100.
    """
    if not is_whole(threshold) or not 0 <= threshold <= LARGEST_THRESHOLD:
        raise ValueError(
            f"`threshold` must be a number of bits from 0 to {LARGEST_THRESHOLD}; the hashes of "
            f"unrelated images differ in 128 of 256. Received: threshold={threshold!r}"
        )


def _check(against, within, threshold, embed, similarity, part):
    if not against and not within:
        raise ValueError(
            "There must be something to compare with: evaluation sources in `against`, or "
            "`within=True` for the source itself. Received: neither"
        )
    check_threshold(threshold)
    if (embed is None) != (similarity is None):
        raise ValueError(
            "`embed` and `similarity` belong together: the least cosine is another for each "
            f"model. Received: embed={embed!r}, similarity={similarity!r}"
        )
    if similarity is not None and not (is_real(similarity) and 0 < similarity <= 1):
        raise ValueError(
            f"`similarity` must be a cosine in (0, 1]. Received: similarity={similarity!r}"
        )
    if part is not None and not (
        len(part) == 2 and all(is_whole(i) for i in part) and 1 <= part[0] <= part[1]
    ):
        raise ValueError(f"`part` must be (k, n), with k from 1 to n. Received: part={part!r}")


def _settle(folder, settings):
    """Writes down what the folder is for, or sees that it is for the same."""
    path = folder / "dedup.json"
    if path.exists():
        there = without_format("dedup", json.loads(path.read_text(encoding="utf-8")), path)
        other = [name for name in settings if there.get(name) != settings[name]]
        if other:
            told = ", ".join(f"{n}={settings[n]!r} where it has {there.get(n)!r}" for n in other)
            raise ValueError(
                "A folder is for one comparison: take another, or delete it. "
                f"Received: {str(folder)!r} with {told}"
            )
        return
    write_text(path, json.dumps(with_format("dedup", settings), indent=1))


def _on_bad(folder, bad_images, limit):
    """What is done with an image that cannot be read."""
    ledger = Ledger(folder / "bad_images.csv")

    def on_bad(error: BadImageError) -> None:
        if bad_images == "error":
            raise BadImageError(
                error.file,
                f"{error.reason}. Mend or remove it, or go on without: bad_images='skip'",
            ) from error
        if ledger.note(error.file, error.reason) > limit:
            raise TooManyBadImagesError(
                f"At most {limit} images may be skipped: mend or remove them, or raise `max_bad`. "
                f"Received: more, all in {ledger.path}"
            ) from error

    return on_bad


def _is_of(number, part):
    return part is None or number % part[1] == part[0] - 1
