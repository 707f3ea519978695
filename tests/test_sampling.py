"""What is drawn follows the distribution that is stated: crops, flips, orders of images.

With fixed seeds. A right pipeline would fail one of these tests for one choice of seeds in a
thousand, so that a failure speaks of a change and not of chance.
"""

import numpy as np
import pytest
from conftest import numpy_alone
from scipy import stats

from keras_vit_scale.data import ArraySource, Mixture, TrainTransform, train_batches
from keras_vit_scale.data.preprocessing import inception_box, random_flip

pytestmark = numpy_alone

CHANCE = 1e-3


def stated_parts(height, width, count, rng, area=(0.05, 1.0), aspect=(3 / 4, 4 / 3)):
    """Area and aspect drawn evenly, as often as the part does not fit; without pixels."""
    found = []
    while len(found) < count:
        a, r = rng.uniform(*area, 4096), rng.uniform(*aspect, 4096)
        h, w = np.sqrt(a * height * width / r), np.sqrt(a * height * width * r)
        found += list(zip(*(x[(h <= height) & (w <= width)] for x in (a, r)), strict=True))
    return np.array(found[:count])


@pytest.mark.parametrize(("height", "width"), [(3750, 5000), (5000, 3750), (2000, 6000)])
def test_areas_and_aspects_of_crops_are_as_stated(rng, height, width):
    """Of images so large that rounding to pixels says nothing."""
    boxes = np.array([inception_box(height, width, rng)[2:] for _ in range(3000)])
    found = boxes[:, 0] * boxes[:, 1] / (height * width), boxes[:, 1] / boxes[:, 0]
    stated = stated_parts(height, width, 30_000, np.random.default_rng(99)).T
    for one, other in zip(found, stated, strict=True):
        assert stats.ks_2samp(one, other).pvalue > CHANCE
    # The other reading, an even height, would be noticed.
    even_height = rng.uniform(found[0].min() ** 0.5, 1, 3000) ** 2
    assert stats.ks_2samp(even_height, stated[0]).pvalue < 1e-9


def test_crops_lie_anywhere_evenly(rng):
    """The place among those that a box of its size has, spread over [0, 1)."""
    boxes = np.array([inception_box(375, 500, rng) for _ in range(3000)])
    top, left = (
        (boxes[:, first] + rng.random(3000)) / (whole - boxes[:, side] + 1)
        for first, side, whole in ((0, 2, 375), (1, 3, 500))
    )
    assert stats.kstest(top, "uniform").pvalue > CHANCE
    assert stats.kstest(left, "uniform").pvalue > CHANCE
    assert stats.spearmanr(top, left).pvalue > CHANCE


def test_what_is_cut_out_is_the_box_that_was_drawn(rng):
    """Its corners, of an image whose pixels say where they are."""
    rows, columns = np.indices((211, 241))
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    for seed in range(20):
        top, left, height, width = inception_box(211, 241, np.random.default_rng(seed))
        transform = TrainTransform((height, width), flip=False)
        cut = transform(image, np.random.default_rng(seed))
        assert cut[0, 0].tolist() == [top, left, 0]
        assert cut[-1, -1].tolist() == [top + height - 1, left + width - 1, 0]


def test_half_of_the_images_are_mirrored(rng):
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    mirrored = sum(random_flip(image, rng)[0, 0, 0] == 3 for _ in range(4000))
    assert stats.binomtest(mirrored, 4000).pvalue > CHANCE


def numbered(images):
    """Images that are known by their label."""
    return ArraySource(np.zeros((images, 1, 1), np.uint8), np.arange(images))


STILL = TrainTransform(1, crop="none", flip=False)


def order(source, count, seed=0, batch=101):
    """The first `count` images of the stream, (count,)."""
    batches = train_batches(source, STILL, batch, seed=seed, stop=-(-count // batch))
    return np.concatenate([labels for _, labels in batches])[:count]


#: Images of an epoch, and the parts into which places and images are divided: some hundred images
#: and more are shuffled quickly, and each part of an epoch has twelve.
IMAGES, PARTS = 96, 8


@pytest.mark.parametrize("images", [23, 101])
@pytest.mark.parametrize("batch", [1, 7, 101])
def test_every_image_comes_once_an_epoch(images, batch):
    epochs = order(numbered(images), 3 * images, batch=batch).reshape(3, images)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(images), (3, 1)))


def evenness(epochs):
    """The p-value of how often each image was in each part of an epoch, by chi-square.

    An epoch is drawn without replacement: its cells vary by (N - 1) / N less, or N / (N - 1) as
    much in the statistic, than those of images that come by chance.
    """
    counts = np.zeros((IMAGES, PARTS))
    for epoch in epochs:
        counts[epoch, np.arange(IMAGES) * PARTS // IMAGES] += 1
    expected = len(epochs) / PARTS
    statistic = ((counts - expected) ** 2 / expected).sum() * (IMAGES - 1) / IMAGES
    return stats.chi2.sf(statistic, (IMAGES - 1) * (PARTS - 1))


def neighbourliness(epochs):
    """The p-value of how often an image of each part of the source follows one of each."""
    part = epochs * PARTS // IMAGES
    counts = np.zeros((PARTS, PARTS))
    np.add.at(counts, (part[:, :-1].ravel(), part[:, 1:].ravel()), 1)
    each = IMAGES // PARTS
    expected = (each * each - each * np.eye(PARTS)) / (IMAGES * (IMAGES - 1)) * counts.sum()
    return stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), (PARTS - 1) ** 2)


def test_the_tests_of_orders_are_fair():
    """Of NumPy's permutations they find a tenth of the p-values below a tenth."""
    rng = np.random.default_rng(8)
    samples = [np.stack([rng.permutation(IMAGES) for _ in range(60)]) for _ in range(200)]
    for test in (evenness, neighbourliness):
        assert stats.kstest([test(epochs) for epochs in samples], "uniform").pvalue > CHANCE
    # Epochs that are each a rotation of one order are even, and not shuffled.
    turned = np.stack([np.roll(np.arange(IMAGES), k) for k in range(0, IMAGES, 2)])
    assert neighbourliness(turned) < 1e-9


def test_orders_of_epochs_are_even():
    epochs = order(numbered(IMAGES), 60 * IMAGES, seed=5).reshape(-1, IMAGES)
    assert evenness(epochs) > CHANCE
    assert neighbourliness(epochs) > CHANCE
    # How many places an image keeps from one epoch to the next: one an epoch, on average.
    kept = (epochs[1:] == epochs[:-1]).sum()
    assert stats.poisson(59).sf(kept) > CHANCE
    assert stats.poisson(59).cdf(kept) > CHANCE


def test_orders_of_first_epochs_are_even_over_seeds():
    epochs = [order(numbered(IMAGES), IMAGES, seed, batch=IMAGES) for seed in range(60)]
    assert evenness(np.stack(epochs)) > CHANCE
    assert neighbourliness(np.stack(epochs)) > CHANCE


def test_a_source_of_a_mixture_is_shuffled_evenly_too():
    few = ArraySource(np.zeros((48, 1, 1), np.uint8), np.full(48, IMAGES), range(IMAGES + 1))
    many = ArraySource(np.zeros((IMAGES, 1, 1), np.uint8), np.arange(IMAGES), range(IMAGES + 1))
    mixed = Mixture({"few": few, "many": many}, {"few": 1, "many": 3})
    stream = order(mixed, 80 * IMAGES, seed=1)
    epochs = stream[stream < IMAGES].reshape(60, IMAGES)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(IMAGES), (60, 1)))
    assert evenness(epochs) > CHANCE
    assert neighbourliness(epochs) > CHANCE
