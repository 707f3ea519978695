"""The extra `fast`: the pixels of Pillow, and of the sampled filter to within one level."""

import io
from dataclasses import replace

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale import FineTune
from keras_vit_scale.data import (
    BadImageError,
    ImageFolder,
    TrainTransform,
    fast,
    open_source,
    read_image,
    resize,
)
from keras_vit_scale.data.decode import decode_image
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.scaling.config import load_config

pytestmark = numpy_alone


@pytest.fixture
def installed():
    pytest.importorskip("simplejpeg")
    pytest.importorskip("cv2")


def picture(kind):
    """A photograph's piece, noise, or a ramp; of sizes that fill no block of 8 or 16."""
    from sklearn.datasets import load_sample_images

    if kind == "photograph":
        return load_sample_images().images[0][100:231, 200:373]
    if kind == "noise":
        return np.random.default_rng(3).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    return np.stack(np.indices((53, 71)) * 3 % 256, -1)[..., [0, 1, 0]].astype(np.uint8)


def encoded(image, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", ["photograph", "noise", "ramp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 30},
        {"quality": 75, "subsampling": 0},
        {"quality": 85, "subsampling": 1},
        {"quality": 95, "subsampling": 2},
        {"quality": 100, "progressive": True},
    ],
)
def test_pixels_are_pillows(kind, mode, options):
    data = encoded(picture(kind), mode, **options)
    expected = decode_image(data, "a")
    found = decode_image(data, "a", fast=True)
    assert found.dtype == np.uint8
    # The same code decodes for both, in versions that need not be the same.
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
    assert (found != expected).mean() < 0.001


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_or_not(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture("ramp"), exif=exif)
    for way in ("ignore", "apply"):
        expected = decode_image(data, "a", orientation=way)
        np.testing.assert_array_equal(decode_image(data, "a", orientation=way, fast=True), expected)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_other_formats_are_pillows(tmp_path, format):
    path = tmp_path / "named.jpg"
    Image.fromarray(picture("noise")).save(path, format)
    np.testing.assert_array_equal(read_image(path, fast=True), read_image(path))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("cut", [20, 300, 1000, -700, -40, -3, -2, -1])
def test_damaged_files_are_what_they_are_without(cut):
    """Every truncation is noticed, or nothing of the picture is missing; never in one way alone."""
    data = encoded(picture("photograph"))
    outcomes = []
    for options in ({}, {"fast": True}):
        try:
            outcomes.append(decode_image(data[:cut], "a", **options).tolist())
        except BadImageError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.usefixtures("installed")
def test_pixels_are_counted_before_they_are_decoded():
    with pytest.raises(BadImageError, match="more than max_pixels=100"):
        decode_image(encoded(picture("noise")), "a", max_pixels=100, fast=True)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("size", [(7, 11), (61, 19), (97, 140), (31, 13), (224, 224)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_sampled_bilinear_filter_is_within_one_level(size, channels):
    for image in (picture("noise"), picture("photograph")):
        image = image[..., :channels]
        found = resize(image, size, antialias=False, fast=True)
        assert (found.dtype, found.shape) == (np.uint8, (*size, channels))
        expected = resize(image, size, antialias=False)
        np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
    # Parts of a larger image, as crops are.
    part = picture("photograph")[10:80, 20:101]
    np.testing.assert_allclose(
        resize(part, size, antialias=False, fast=True).astype(int),
        resize(part.copy(), size, antialias=False).astype(int),
        atol=1,
    )


@pytest.mark.usefixtures("installed")
def test_other_filters_do_not_change():
    image = picture("noise")
    for how in ((), ("bicubic", False), ("lanczos",), ("box",), ("nearest",)):
        np.testing.assert_array_equal(
            resize(image, (17, 29), *how, fast=True), resize(image, (17, 29), *how)
        )


@pytest.mark.usefixtures("installed")
def test_sources_and_runs_hand_it_on(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(encoded(picture("noise")))
    decoded = []
    once = fast.decode_jpeg
    monkeypatch.setattr(
        "keras_vit_scale.data.decode.decode_jpeg",
        lambda data, most: decoded.append(len(data)) or once(data, most),
    )
    config = TrainConfig("mu/4", str(tmp_path), steps=1, image_size=8, fast=True, antialias=False)
    source, _ = open_data(config)
    for s in (source, open_source(tmp_path, fast=True), ImageFolder(tmp_path, fast=True)):
        assert s[0][0].shape == (61, 83, 3)
    assert len(decoded) == 3
    study = load_config("digits")
    study = replace(study, data=replace(study.data, fast=True))
    for transform in (
        config.train_transform(),
        study.train_transform(),
        FineTune(fast=True)._any_run().train_transform(),
    ):
        assert transform.fast
    with pytest.raises(ValueError, match=r"`fast`, `links` are for folders.*Received: fast for"):
        open_data(replace(config, data="digits"))


def test_what_is_not_installed_is_told_with_its_cure(monkeypatch, tmp_path):
    monkeypatch.setattr(fast, "_missing", lambda: ["simplejpeg"])
    for make in (
        lambda: TrainTransform(8, fast=True),
        lambda: open_source("digits", fast=True),
        lambda: ImageFolder(tmp_path, fast=True),
        lambda: read_image("x.jpg", fast=True),
        lambda: TrainConfig("mu/4", "digits", steps=1, image_size=8, fast=True),
    ):
        with pytest.raises(
            ImportError, match=r"needs simplejpeg and OpenCV: pip.*\[fast\].*simplejpeg$"
        ):
            make()
    with pytest.raises(ValueError, match="`fast` must be True or False"):
        TrainTransform(8, fast="yes")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_alike(channels):
    image = np.random.default_rng(0).integers(0, 256, (7, 11, channels), dtype=np.uint8)
    np.testing.assert_array_equal(fast.mirror(image), image[:, ::-1])
