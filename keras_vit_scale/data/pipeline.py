"""Batches for `fit` on every backend: a pure function of the seed and the images seen."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from keras_vit_scale.checks import check_positive_integers, is_whole
from keras_vit_scale.data.augment import Augmentation
from keras_vit_scale.data.boxes import Choose, CuttingSource, Picture, read_from
from keras_vit_scale.data.mixture import Part, whose_turn
from keras_vit_scale.data.preprocessing import EvalTransform, TrainTransform, to_input
from keras_vit_scale.data.sources import Source
from keras_vit_scale.data.workers import Workers, check_workers


def train_batches(
    source: Source,
    transform: TrainTransform,
    batch_size: int,
    *,
    seed: int = 0,
    start: int = 0,
    stop: int | None = None,
    offset: int = 0,
    augmentation: Augmentation | None = None,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
) -> grain.IterDataset:
    """Shuffled, augmented batches for the steps from `start` to `stop`.

    Every epoch is a new permutation of (seed, epoch), and what happens to an image is a
    function of the seed, the epoch and its index in the source. So a run that starts again at
    step 700 sees what it would have seen, one that goes on with another batch size sees the
    images that come next, and on any number of hosts all together see the same pixels.
    Batches run across the ends of epochs: each has `batch_size` images, and each image comes
    once an epoch.

    Args:
        source: Images and labels. A `Mixture` says how often each of its sources is taken.
        transform: What happens to each image.
        batch_size: Images a step, of all hosts together.
        seed: Decides order and augmentation.
        start: First step.
        stop: Step before which to stop, or `None` to go on for ever.
        offset: Images seen in addition to `batch_size` a step. A run that goes on from step
            s with batches of b images, having seen n before, has n - s b; below zero is fine.
        augmentation: What happens to each batch after that: RandAugment, MixUp, CutMix. It
            draws for the images of one host, and mixes them with each other alone.
        shard: This host and the number of hosts. Host h of n gets the rows from h B / n to
            (h + 1) B / n of every batch of B images, and reads no others.
        workers: Processes that read and transform images, a batch each at a time; 0 for two
            threads of this process, which wait for each other wherever Python itself works. The
            batches are the same. Each process imports this package anew and has a copy of the
            source, and no more than eight batches and one a process are read ahead; on Linux each
            has besides a batch of bytes in memory that it shares with this one. A script must
            begin under `if __name__ == "__main__":`, as for any of Python's processes.

    Returns:
        A Grain dataset of (images, labels): float32 (B, H, W, 3) in [-1, 1] and
        int64 (B,); or lists of classes, int32 (B, k, 1); or shares of the classes,
        float32 (B, C), where the source has them or the augmentation mixes images. For each
        of n hosts they are B / n. Keras' `fit` takes it as it is.

    Raises:
        ValueError: If the batch size is no positive integer or no multiple of the hosts, the
            steps are no range or begin before the first image, the shard is none, or the workers
            are no number.
        RuntimeError: From a batch, if a process of `workers` died.

    Example:

    >>> from keras_vit_scale.data import TrainTransform, digits, train_batches
    >>> batches = train_batches(digits(), TrainTransform(8, crop="shift", flip=False), 64)
    >>> images, labels = next(iter(batches))
    >>> images.shape, labels.shape
    ((64, 8, 8, 3), (64,))
    """
    rows = _rows(batch_size, shard)
    check_workers(workers)
    if start < 0 or (stop is not None and stop < start):
        raise ValueError(f"Steps must be a range from 0 on. Received: start={start}, stop={stop}")
    if start * batch_size + offset < 0:
        raise ValueError(
            "The first step must not begin before the first image. "
            f"Received: start={start}, batch_size={batch_size}, offset={offset}"
        )

    parts = getattr(source, "parts", ())

    def stream(part, spread):
        # `seed` and not `shuffle(seed=...)`, by which epoch e of seed s would have the permutation
        # of epoch e - 1 of seed s + 1. That alone keeps runs apart; the seed is spread besides
        # because the order of every run that there is follows from it.
        images = grain.MapDataset.range(len(part)).seed(spread).shuffle().repeat()
        # An image's draws follow from its place, and its place from the epoch and its index.
        return images.random_map(_Read(part, transform))

    spread, *of_parts = map(int, np.random.SeedSequence(seed).generate_state(1 + len(parts)))
    if parts:
        streams = [stream(_Part(source, p), s) for p, s in zip(parts, of_parts, strict=True)]
        examples: Any = _Mixed(streams, [p.weight for p in parts])
    else:
        examples = stream(source, spread)
    classes = len(source.class_names)
    read = _TrainBatch(examples, batch_size, offset, rows)
    steps = grain.MapDataset.range(start, sys.maxsize if stop is None else stop)
    if augmentation is None:
        return _ahead(steps, read, workers)

    def augment(step, images, labels):
        # As an image's draws, a batch's belong to the place of its first image.
        rng = np.random.default_rng((spread, step * batch_size + offset + rows[0]))
        return augmentation(images, labels, classes, rng)

    return _ahead(steps, read, workers, augment)


def eval_batches(
    source: Source,
    transform: EvalTransform,
    batch_size: int,
    *,
    shard: tuple[int, int] = (0, 1),
    pad: bool = False,
    workers: int = 0,
) -> grain.IterDataset:
    """Batches of a source in its order, each image once.

    The last may be smaller, or with `pad` is filled with blank images that weigh nothing, so
    that one compiled program serves all batches and several hosts have equally many. Keras
    counts the weights in `weighted_metrics`, not in `metrics`; and its mean loss divides by
    all rows, so let a loss that is to be exact be a weighted metric too.

    Keras warns that its input "ran out of data" where they end, which is as it should be; it does
    not if `evaluate` is told how many there are, `steps=math.ceil(len(source) / batch_size)`.

    Args:
        source: Images and labels.
        transform: What happens to each image.
        batch_size: Images a step, of all hosts together.
        shard: This host and the number of hosts, as for `train_batches`; several need `pad`.
        pad: Whether to fill the last batch.
        workers: As for `train_batches`.

    Returns:
        A Grain dataset of (images, labels), as `train_batches`; with `pad` of
        (images, labels, weights), weights float32 (B,): 1, or 0 for what was filled in.

    Raises:
        ValueError: If the batch size is no positive integer or no multiple of the hosts, or
            the shard is none or needs `pad`, or the workers are no number.
        RuntimeError: From a batch, if a process of `workers` died.

    Example:

    >>> from keras_vit_scale.data import EvalTransform, digits, eval_batches
    >>> batches = list(eval_batches(digits(), EvalTransform(8), 1000, pad=True))
    >>> [(len(images), int(weights.sum())) for images, labels, weights in batches]
    [(1000, 1000), (1000, 797)]
    """
    rows = _rows(batch_size, shard)
    check_workers(workers)
    if shard[1] > 1 and not pad:
        raise ValueError(
            "Batches for several hosts must be filled, so that all have equally many: pass "
            f"`pad=True`. Received: shard={shard}, pad={pad}"
        )
    read = _EvalBatch(source, transform, batch_size, rows, pad)
    return _ahead(grain.MapDataset.range(-(-len(source) // batch_size)), read, workers)


@dataclass(frozen=True)
class _TrainBatch:
    """The rows of one host of the batch of a step, as bytes."""

    examples: Any
    batch_size: int
    offset: int
    rows: range

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        begin = step * self.batch_size + self.offset
        return _stacked([self.examples[begin + row] for row in self.rows])


@dataclass(frozen=True)
class _Read:
    """From the index of an image to what becomes of it, and its label."""

    source: Source
    transform: TrainTransform

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        begun = rng.bit_generator.state

        def choose(height, width):
            # Anew for an image in the place of one that turned out to be damaged.
            rng.bit_generator.state = begun
            return self.transform.box(height, width, rng)

        part, label = read_from(self.source, int(index), choose)
        return self.transform.transformed(part, rng), label


@dataclass(frozen=True)
class _Part(CuttingSource):
    """The images of one source of a mixture, read by the mixture."""

    source: Source
    part: Part

    def __len__(self) -> int:
        return self.part.end - self.part.begin

    def read(self, index: int, choose: Choose | None = None) -> tuple[Picture, Any]:
        return read_from(self.source, self.part.begin + index, choose)


@dataclass(frozen=True)
class _Mixed:
    """The streams of several sources, each at its places."""

    streams: Sequence[grain.MapDataset]
    weights: Sequence[float]

    def __getitem__(self, place: int) -> tuple[np.ndarray, Any]:
        source, before = whose_turn(place, self.weights)
        return self.streams[source][before]


@dataclass(frozen=True)
class _EvalBatch:
    """The rows of one host of a batch in the order of the source, with weights if filled."""

    source: Source
    transform: EvalTransform
    batch_size: int
    rows: range
    pad: bool

    def __call__(self, step: int) -> tuple[np.ndarray, ...]:
        places = [step * self.batch_size + row for row in self.rows]
        there = [place for place in places if place < len(self.source)]
        if not self.pad:
            return _stacked([self._example(place) for place in there])
        # The rows of a host may all lie behind the end: the last image says what they look like.
        images, labels = _stacked([self._example(p) for p in there or [len(self.source) - 1]])
        missing = [len(places) - len(images)]
        images, labels = (
            np.concatenate([rows, np.zeros((*missing, *rows.shape[1:]), rows.dtype)])
            for rows in (images, labels)
        )
        return images, labels, (np.arange(len(places)) < len(there)).astype(np.float32)

    def _example(self, index):
        image, label = self.source[index]
        return self.transform(image), label


def _rows(batch_size: int, shard: tuple[int, int]) -> range:
    """The rows of a batch that a host gets."""
    check_positive_integers(batch_size=batch_size)
    if (
        not isinstance(shard, Sequence)
        or len(shard) != 2
        or not all(is_whole(number) for number in shard)
        or not 0 <= shard[0] < shard[1]
    ):
        raise ValueError(
            "`shard` must be this host, counted from 0, and the number of hosts. "
            f"Received: shard={shard!r}"
        )
    host, hosts = shard
    if batch_size % hosts:
        raise ValueError(
            "`batch_size` is of all hosts together, and must be a multiple of their number. "
            f"Received: batch_size={batch_size}, shard={shard}"
        )
    share = batch_size // hosts
    return range(host * share, (host + 1) * share)


def _stacked(examples: list[tuple[np.ndarray, Any]]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (np.stack(column) for column in zip(*examples, strict=True))
    lists = labels.ndim == 2 and np.issubdtype(labels.dtype, np.integer)
    return images, labels[..., None] if lists else labels


def _ahead(
    steps: grain.MapDataset,
    read: Callable[[int], tuple[np.ndarray, ...]],
    workers: int,
    augment: Callable[..., tuple[np.ndarray, ...]] | None = None,
) -> grain.IterDataset:
    """Batches read ahead, by two threads or by processes for which threads wait.

    Two threads hide the reading; more fight over Python's lock. Bytes come from processes, a
    quarter of what the model reads; what augments them, perhaps a backend's layers, stays here.
    """

    def to_model(step, batch):
        images, *rest = batch
        if augment is not None:
            images, *rest = augment(step, images, *rest)
        # Copies, since a batch of another process lies in memory that the next one takes.
        return to_input(images), *map(np.array, rest)

    made = Workers(read, workers, to_model) if workers else lambda step: to_model(step, read(step))
    options = grain.ReadOptions(num_threads=max(2, workers), prefetch_buffer_size=8 + workers)
    return steps.map(made).to_iter_dataset(options)
