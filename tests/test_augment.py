"""RandAugment, MixUp and CutMix: a pure function of seed and step, on each library."""

import importlib.util
import random

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import SigmoidCrossEntropy
from keras_vit_scale.data import ArraySource, Augmentation, TrainTransform, train_batches
from keras_vit_scale.data import augment_keras as own
from keras_vit_scale.data.augment import LIBRARIES

# One shape throughout: JAX compiles each operation once.
B, H, W, CLASSES = 7, 11, 13, 5


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (B, H, W, 3)).astype(np.float32)


@pytest.fixture
def labels(rng):
    return np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, B)]


def test_operations_are_those_of_keras_layer():
    layer = keras.layers.RandAugment()
    assert tuple(layer._AUGMENT_LAYERS) == own.OPERATIONS


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="on PyTorch Keras' layer brightens in place, whatever it has drawn; "
    "on JAX all its operations compile for a quarter of a minute",
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rand_augment_is_keras_with_the_rest_left_out(images, seed):
    """Keras computes all operations and keeps the drawn ones; so do we, without the first part."""
    layer = own._rand_augment_layer(0.5)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(own.OPERATIONS), size=2)
    expected = images
    with keras.device("cpu:0"):
        # One operation at a time, since each is drawn from its own seed.
        for i in chosen:
            name = own.OPERATIONS[i]
            first = own._seeds(rng)
            transforms = {
                n: getattr(layer, n).get_random_transformation(expected, seed=own.Seeds(9))
                for n in own.OPERATIONS
            }
            transforms[name] = getattr(layer, name).get_random_transformation(expected, seed=first)
            layer.num_ops = 1
            expected = as_numpy(
                layer.transform_images(expected, {"transforms": transforms, "layer_idxes": [i]})
            )
    np.testing.assert_allclose(
        own.rand_augment(images, 2, 0.5, seed), expected, rtol=1e-6, atol=1e-3
    )


def test_rand_augment_leaves_its_input_alone(images):
    """With a seed that draws the brightness, which on PyTorch works in place."""
    before = images.copy()
    brightness = own.OPERATIONS.index("random_brightness")
    drawn = [np.random.default_rng(seed).integers(len(own.OPERATIONS)) for seed in range(100)]
    assert not np.array_equal(own.rand_augment(images, 1, 0.5, drawn.index(brightness)), before)
    np.testing.assert_array_equal(images, before)


def test_seeds_differ_and_repeat():
    """A generator's draws differ from one another, which an integer's would not."""
    drawn = [as_numpy(keras.random.uniform((3,), seed=s)) for s in [own.Seeds(5)] * 2]
    assert not np.array_equal(*drawn)
    np.testing.assert_array_equal(as_numpy(keras.random.uniform((3,), seed=own.Seeds(5))), drawn[0])


def test_mixup_mixes_images_and_labels_by_one_weight(images, labels):
    """Each image must be a mean of two, and its label the same mean of theirs."""
    mixed, shares = own.mixup(images, labels, 0.8, 3)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    for i in range(B):
        fits = []
        for j in range(B):
            difference = images[i] - images[j]
            if i == j:
                weight = 1.0
            else:
                # Least squares: mixed = w a + (1 - w) b.
                weight = np.vdot(mixed[i] - images[j], difference) / np.vdot(difference, difference)
            rest = np.abs(weight * images[i] + (1 - weight) * images[j] - mixed[i]).max()
            fits.append((rest, j, weight))
        rest, j, weight = min(fits)
        assert rest < 1e-2
        np.testing.assert_allclose(
            shares[i], weight * labels[i] + (1 - weight) * labels[j], atol=1e-4
        )


def test_cutmix_pastes_boxes_and_shares_labels_by_area(images, labels):
    mixed, shares = own.cutmix(images, labels, 1.0, 3)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    pasted_any = 0
    for i in range(B):
        own_pixels = (mixed[i] == images[i]).all(-1)
        rows, columns = np.flatnonzero(~own_pixels.all(1)), np.flatnonzero(~own_pixels.all(0))
        if not len(rows):
            continue
        pasted_any += 1
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # Everything in the box is another image's, everything outside its own.
        other = [j for j in range(B) if np.array_equal(mixed[i][box], images[j][box])]
        assert len(other) == 1
        area = len(rows) * len(columns) / (H * W)
        # The edges fall between pixels: at most one row and one column of difference.
        slack = (H + W + 1) / (H * W)
        if labels[i].argmax() != labels[other[0]].argmax():
            assert shares[i][labels[other[0]].argmax()] == pytest.approx(area, abs=slack)
    assert pasted_any >= 3


SOURCE = ArraySource(
    np.random.default_rng(0).integers(0, 256, (17, H, W, 3), dtype=np.uint8),
    np.arange(17) % CLASSES,
)
STILL = TrainTransform((H, W), crop="none", flip=False)


def available(library):
    return pytest.param(
        library,
        marks=pytest.mark.skipif(
            library == "keras_cv"
            and (
                importlib.util.find_spec("keras_cv") is None or keras.backend.backend() == "torch"
            ),
            reason="needs the extra `cv`, whose TensorFlow must not share a process with PyTorch",
        ),
    )


@pytest.mark.parametrize("library", [available(library) for library in LIBRARIES])
def test_batches_are_a_function_of_seed_and_step(library):
    def run(start, stop, seed=1):
        augmentation = Augmentation(1, 0.5, library=library)
        return list(
            train_batches(
                SOURCE, STILL, B, seed=seed, start=start, stop=stop, augmentation=augmentation
            )
        )

    whole = run(0, 4)
    for images, labels in whole:
        assert images.shape == (B, H, W, 3)
        assert labels.shape == (B, CLASSES)
        assert images.dtype == labels.dtype == np.float32
        assert np.abs(images).max() <= 1 + 1e-6
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-5)
    for (a, la), (b, lb) in zip(whole[2:], run(2, 4), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(la, lb)
    assert not np.array_equal(whole[2][0], run(2, 3, seed=2)[0][0])
    # Steps differ in what they draw: with five classes and Beta weights no two labels agree.
    assert len({labels.tobytes() for _, labels in whole}) == len(whole)


@pytest.mark.parametrize(
    "options", [{"rand_augment": 2}, {"mixup": 0.3}, {"cutmix": 1.0}], ids=lambda o: next(iter(o))
)
def test_what_other_threads_draw_is_left_alone(options, images, labels):
    """Readers read on while a model is made, whose weights Keras draws by Python's generator."""
    own._rand_augment_layer.cache_clear()
    augmentation = Augmentation(**{"rand_augment": 0, "mixup": 0.0, "cutmix": 0.0} | options)
    before = random.getstate(), np.random.get_state()
    augmentation(images.astype(np.uint8), labels.argmax(1), CLASSES, np.random.default_rng(2))
    after = random.getstate(), np.random.get_state()
    assert before[0] == after[0]
    for one, other in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_grey_images_become_rgb_and_plain_labels_stay(monkeypatch, rng):
    monkeypatch.setattr(own, "rand_augment", lambda images, *rest: images + 300)
    augmentation = Augmentation(rand_augment=1, mixup=0, cutmix=0)
    images, labels = augmentation(
        rng.integers(0, 256, (3, 5, 7, 1), dtype=np.uint8), np.array([0, 4, 2]), CLASSES, rng
    )
    # What leaves the range of bytes is cut off.
    np.testing.assert_array_equal(images, np.full((3, 5, 7, 3), 255, np.float32))
    assert labels.tolist() == [0, 4, 2]


def test_each_batch_is_mixed_one_way(monkeypatch, rng):
    """With both, CutMix comes as often as asked; alone, always or never."""
    used = []
    for name in ("mixup", "cutmix"):
        monkeypatch.setattr(
            own, name, lambda x, y, alpha, seed, name=name: used.append((name, alpha)) or (x, y)
        )

    def count(**options):
        used.clear()
        augmentation = Augmentation(rand_augment=0, **options)
        for _ in range(400):
            augmentation(np.zeros((1, 2, 2, 3), np.uint8), np.array([0]), 1, rng)
        return [used.count(way) for way in (("mixup", 0.3), ("cutmix", 0.7))]

    # A binomial count of 400 at a quarter: 100, five deviations are 43.
    mixed, cut = count(mixup=0.3, cutmix=0.7, cutmix_probability=0.25)
    assert mixed + cut == 400
    assert abs(cut - 100) < 43
    assert count(mixup=0.3, cutmix=0) == [400, 0]
    assert count(mixup=0, cutmix=0.7) == [0, 400]


def test_losses_take_the_labels():
    model = keras.Sequential(
        [keras.Input((H, W, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    model.compile("sgd", SigmoidCrossEntropy())
    data = train_batches(SOURCE, STILL, B, stop=2, augmentation=Augmentation(0))
    history = model.fit(data, steps_per_epoch=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment": -1}, "`rand_augment` must be a number"),
        ({"rand_augment": 2.0}, "`rand_augment` must be a number"),
        ({"magnitude": 1.5}, r"`magnitude` must be in \[0, 1\]"),
        ({"mixup": -0.1}, r"`mixup` must be in \[0, 1\]"),
        ({"cutmix": float("nan")}, r"`cutmix` must be in \[0, 1\]"),
        ({"cutmix_probability": True}, r"`cutmix_probability` must be in \[0, 1\]"),
        ({"rand_augment": 0, "mixup": 0, "cutmix": 0}, "must have RandAugment, MixUp or CutMix"),
        ({"library": "kerascv"}, "`library` must be one of"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"keras-vit-scale\[cv\]"):
        Augmentation(library="keras_cv")
