"""Batches for `fit` on every backend: a pure function of the seed and the images seen."""

import grain
import numpy as np

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.data.augment import Augmentation
from keras_vit_scale.data.preprocessing import EvalTransform, TrainTransform, to_input
from keras_vit_scale.data.sources import Source


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
) -> grain.IterDataset:
    """Shuffled, augmented batches for the steps from `start` to `stop`.

    Every epoch is a new permutation of (seed, epoch), and an image's augmentation a
    function of the seed and its place in the stream; so a run that starts again at
    step 700 sees what it would have seen, and one that goes on with another batch size
    sees the images that come next. Batches run across the ends of epochs: each has
    `batch_size` images, and each image comes once an epoch.

    Args:
        source: Images and labels.
        transform: What happens to each image.
        batch_size: Images a step.
        seed: Decides order and augmentation.
        start: First step.
        stop: Step before which to stop, or `None` to go on for ever.
        offset: Images seen in addition to `batch_size` a step. A run that goes on from step
            s with batches of b images, having seen n before, has n - s b; below zero is fine.
        augmentation: What happens to each batch after that: RandAugment, MixUp, CutMix.

    Returns:
        A Grain dataset of (images, labels): float32 (B, H, W, 3) in [-1, 1] and
        int64 (B,), or shares of the classes, float32 (B, C), where the augmentation
        mixes images. Keras' `fit` takes it as it is.

    Raises:
        ValueError: If the batch size is no positive integer, the steps are no range, or
            they begin before the first image.

    Example:

    >>> from keras_vit_scale.data import TrainTransform, digits, train_batches
    >>> batches = train_batches(digits(), TrainTransform(8, crop="shift", flip=False), 64)
    >>> images, labels = next(iter(batches))
    >>> images.shape, labels.shape
    ((64, 8, 8, 3), (64,))
    """
    check_positive_integers(batch_size=batch_size)
    if start < 0 or (stop is not None and stop < start):
        raise ValueError(f"Steps must be a range from 0 on. Received: start={start}, stop={stop}")
    first = start * batch_size + offset
    if first < 0:
        raise ValueError(
            "The first step must not begin before the first image. "
            f"Received: start={start}, batch_size={batch_size}, offset={offset}"
        )

    def augment(example, rng):
        image, label = example
        return transform(image, rng), label

    # `seed` and not `shuffle(seed=...)`, by which epoch e of seed s would have the permutation of
    # epoch e - 1 of seed s + 1. That alone keeps runs apart; the seed is spread besides because
    # the order of every run that there is follows from it.
    spread = int(np.random.SeedSequence(seed).generate_state(1)[0])
    data = grain.MapDataset.source(source).seed(spread).shuffle().repeat().random_map(augment)
    last = None if stop is None else stop * batch_size + offset
    # Sliced only now, so that an image's draws belong to its place in the stream.
    batches = data[first:last].batch(batch_size)
    if augmentation is not None:
        classes = len(source.class_names)

        def mix(index, batch):
            # As an image's draws, a batch's belong to the place of its first image.
            rng = np.random.default_rng((spread, first + index * batch_size))
            return augmentation(batch[0], batch[1], classes, rng)

        batches = batches.map_with_index(mix)
    return _threaded(batches)


def eval_batches(source: Source, transform: EvalTransform, batch_size: int) -> grain.IterDataset:
    """Batches of a source in its order, each image once; the last may be smaller.

    Keras warns that its input "ran out of data" where they end, which is as it should be; it does
    not if `evaluate` is told how many there are, `steps=math.ceil(len(source) / batch_size)`.

    Returns:
        A Grain dataset of (images, labels), as `train_batches`.
    """
    check_positive_integers(batch_size=batch_size)
    data = grain.MapDataset.source(source).map(lambda example: (transform(example[0]), example[1]))
    return _threaded(data.batch(batch_size))


def _threaded(batches: grain.MapDataset) -> grain.IterDataset:
    """Batches read ahead. Two threads hide the reading; more fight over Python's lock."""
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return batches.map(lambda batch: (to_input(batch[0]), batch[1])).to_iter_dataset(options)
