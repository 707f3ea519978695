"""Each filter against its definition, written as loops, and against JAX's."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale import FineTune
from keras_vit_scale.data import EvalTransform, TrainTransform, resize
from keras_vit_scale.data.preprocessing import inception_box, resize_short
from keras_vit_scale.data.resizing import FILTERS
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.scaling.config import DataConfig, load_config

pytestmark = numpy_alone

#: Shrunk in both axes, in one, in none, and shrunk and enlarged.
SIZES = [(7, 11), (31, 19), (61, 97), (43, 13)]
# Odd, so that no centre lies between two pixels.
HIGH, WIDE = 31, 47


def kernel(filter, x):
    x = abs(x)
    if filter == "bilinear":
        return max(1 - x, 0)
    if filter == "bicubic":
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0
    if x == 0:
        return 1
    p = math.pi * x
    return 3 * math.sin(p) * math.sin(p / 3) / p**2 if x < 3 else 0


REACH = {"bilinear": 1, "bicubic": 2, "lanczos": 3}


def matrix(filter, old, new, antialias):
    """Of each of `new` pixels in a line the weights of the `old`, float (new, old)."""
    weights = np.zeros((new, old))
    scale = old / new
    for i in range(new):
        centre = (i + 0.5) * scale
        for j in range(old):
            x = j + 0.5 - centre
            if filter == "nearest":
                weights[i, j] = math.floor(centre) == j
            elif filter == "box":
                half = max(scale, 1) / 2
                weights[i, j] = -half < x <= half
            else:
                wide = max(scale, 1) if antialias else 1
                weights[i, j] = kernel(filter, x / wide)
    return weights / weights.sum(1, keepdims=True)


def as_bytes(values):
    return np.clip(np.floor(values + 0.5), 0, 255)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("filter", FILTERS)
def test_antialiased_filters_are_their_definitions(rng, filter, channels, size):
    """Rows first, and bytes after each pass, which clips what sharp filters overshoot."""
    image = rng.integers(0, 256, (HIGH, WIDE, channels), dtype=np.uint8)
    down, along = matrix(filter, HIGH, size[0], True), matrix(filter, WIDE, size[1], True)
    rows = as_bytes(np.einsum("xw,hwc->hxc", along, image))
    expected = as_bytes(np.einsum("yh,hxc->yxc", down, rows))
    found = resize(image, size, filter)
    assert (found.dtype, found.shape) == (np.uint8, (*size, channels))
    # Pillow has weights of 22 bits: a value that lies on a half is now and then rounded otherwise.
    assert np.abs(found - expected).max() <= (0 if filter == "nearest" else 1)
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
def test_sampled_filters_are_their_definitions_and_jaxs(rng, filter, channels, size):
    """One rounding at the end: half a level from the exact value."""
    import jax

    image = rng.integers(0, 256, (HIGH, WIDE, channels), dtype=np.uint8)
    down, along = matrix(filter, HIGH, size[0], False), matrix(filter, WIDE, size[1], False)
    expected = np.clip(np.einsum("yh,xw,hwc->yxc", down, along, image), 0, 255)
    found = resize(image, size, filter, antialias=False)
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_allclose(found, expected, atol=0.501)
    name = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos3"}[filter]
    theirs = jax.image.resize(image.astype(np.float32), (*size, channels), name, antialias=False)
    np.testing.assert_allclose(found, np.clip(np.asarray(theirs), 0, 255), atol=0.501)


@pytest.mark.parametrize("size", SIZES)
def test_box_and_nearest_without_antialiasing_take_single_pixels(rng, size):
    image = rng.integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8)
    rows, columns = (
        (np.arange(n) + 0.5) * old / n for n, old in zip(size, image.shape[:2], strict=True)
    )
    expected = image[rows.astype(int)][:, columns.astype(int)]
    for filter in ("box", "nearest"):
        np.testing.assert_array_equal(resize(image, size, filter, antialias=False), expected)


@pytest.mark.parametrize("filter", FILTERS)
def test_an_even_image_stays_even_and_one_of_the_size_itself(filter):
    image = np.full((HIGH, WIDE, 3), 77, np.uint8)
    for antialias in (True, False):
        for size in SIZES:
            assert (resize(image, size, filter, antialias) == 77).all()
        assert resize(image, (HIGH, WIDE), filter, antialias) is image


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("filter", FILTERS)
def test_transforms_resize_by_their_filter(rng, filter, antialias):
    image = rng.integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8)
    how = {"filter": filter, "antialias": antialias}
    top, left, height, width = inception_box(HIGH, WIDE, np.random.default_rng(5))
    part = image[top : top + height, left : left + width]
    found = TrainTransform((7, 11), flip=False, **how)(image, np.random.default_rng(5))
    np.testing.assert_array_equal(found, resize(part, (7, 11), **how))
    found = TrainTransform(13, crop="none", flip=False, **how)(image, rng)
    np.testing.assert_array_equal(found, resize(image, (13, 13), **how))
    for way, whole in (
        ("none", resize(image, (14, 14), **how)),
        ("squash", resize(image, (16, 16), **how)[1:15, 1:15]),
        ("short", resize_short(image, 16, **how)[1:15, 5:19]),
    ):
        found = EvalTransform(14, way, **how)(image)
        np.testing.assert_array_equal(found, whole, err_msg=way)


def test_the_default_is_the_antialiased_bilinear_filter(rng):
    image = rng.integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8)
    expected = resize(image, (7, 7), "bilinear", antialias=True)
    np.testing.assert_array_equal(resize(image, (7, 7)), expected)
    np.testing.assert_array_equal(EvalTransform(7, "none")(image), expected)
    still = TrainTransform(7, crop="none", flip=False)
    np.testing.assert_array_equal(still(image, rng), expected)


def test_runs_fine_tuning_and_studies_hand_their_filter_on():
    config = TrainConfig("mu/4", "digits", steps=1, image_size=8, filter="bicubic", antialias=False)
    recipe = FineTune(filter="bicubic", antialias=False)
    study = load_config("digits")
    study = replace(study, data=replace(study.data, filter="bicubic", antialias=False))
    for transform in (
        config.train_transform(),
        config.eval_transform(),
        recipe._any_run().train_transform(),
        recipe._any_run().eval_transform(),
        study.train_transform(),
        study.probe_transform(),
    ):
        assert (transform.filter, transform.antialias) == ("bicubic", False)


@pytest.mark.parametrize(
    "make",
    [
        lambda **how: resize(np.zeros((2, 2, 1), np.uint8), (1, 1), **how),
        lambda **how: TrainTransform(8, **how),
        lambda **how: EvalTransform(8, **how),
        lambda **how: DataConfig(held_out=5, **how),
        lambda **how: TrainConfig("mu/4", "digits", steps=1, image_size=8, **how),
    ],
)
def test_unknown_filters_are_refused(make):
    with pytest.raises(ValueError, match="`filter` must be one of"):
        make(filter="linear")
    with pytest.raises(ValueError, match="`antialias` must be"):
        make(antialias="yes")
