"""The extra `fast`: the pixels of Pillow, and of the sampled filter to within one level."""

import io
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale import FineTune
from keras_vit_scale.data import (
    BadImageError,
    ImageFolder,
    ReplaceBad,
    TrainTransform,
    fast,
    jpeg_boxes,
    open_source,
    read_image,
    resize,
    train_batches,
)
from keras_vit_scale.data.boxes import cut
from keras_vit_scale.data.decode import Decoder
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


def decoded(data, name, choose=None, **options):
    return np.asarray(Decoder(**options).decode(data, name, choose))


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
    expected = decoded(data, "a")
    found = decoded(data, "a", fast=True)
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
        expected = decoded(data, "a", orientation=way)
        np.testing.assert_array_equal(decoded(data, "a", orientation=way, fast=True), expected)


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
            outcomes.append(decoded(data[:cut], "a", **options).tolist())
        except BadImageError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.fixture
def by_boxes(installed):
    if jpeg_boxes.nvimgcodec() is None:
        pytest.skip("nvImageCodec has no wheels for this system")


def boxes(height, width, count, seed):
    """Parts of an image, the first a pixel, the last in its last corner."""
    rng = np.random.default_rng(seed)  # or a generator, as it is
    found = [(height // 2, width // 3, 1, 1), (height - 17, width - 19, 17, 19)]
    for _ in range(count):
        h, w = int(rng.integers(1, height)), int(rng.integers(1, width))
        found.append((int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w))
    return found


@pytest.mark.usefixtures("by_boxes")
@pytest.mark.parametrize("kind", ["photograph", "noise", "ramp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 30, "subsampling": 0},
        {"quality": 88, "subsampling": 1},
        {"quality": 95, "subsampling": 2},
        {"quality": 75, "keep_rgb": True},
        {"quality": 85, "optimize": True},
    ],
)
def test_a_part_decoded_alone_is_that_of_the_whole(kind, mode, options):
    if mode == "L":
        options = {k: v for k, v in options.items() if k not in ("subsampling", "keep_rgb")}
    data = encoded(picture(kind), mode, **options)
    whole = decoded(data, "a", fast=True)
    for box in boxes(*whole.shape[:2], 30, seed=7):
        part = jpeg_boxes.decode_box(data, box)
        np.testing.assert_array_equal(part, cut(whole, box))
        np.testing.assert_array_equal(decoded(data, "a", lambda *_, b=box: b, fast=True), part)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("options", [{}, {"fast": True}, {"orientation": "apply", "fast": True}])
@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("P", "PNG"),
        ("RGBA", "PNG"), ("I;16", "PNG"), ("RGB", "TIFF"), ("RGB", "WEBP"), ("L", "GIF"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("missing", [False, True])
def test_parts_are_those_of_the_whole(monkeypatch, options, mode, format, turned, missing):
    if missing:
        monkeypatch.setattr(jpeg_boxes, "_imported", lambda: None)
    image = Image.fromarray(picture("photograph"))
    image = (
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turned
    image.save(file, format, **({} if format == "GIF" else {"exif": exif}))
    whole = decoded(file.getvalue(), "a", **options)
    asked = []
    for box in [*boxes(*whole.shape[:2], 3, seed=5), (0, 0, *whole.shape[:2])]:

        def choose(height, width, box=box):
            asked.append((height, width))
            return box

        found = decoded(file.getvalue(), "a", choose, **options)
        np.testing.assert_array_equal(found, cut(whole, box))
    assert set(asked) == {whole.shape[:2]}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("end", [300, 1000, -700, -40, -3, -2, -1])
def test_a_file_cut_short_is_so_in_every_part(end):
    """Although no pixel of the part is missing."""
    data = encoded(picture("photograph"))
    outcomes = []
    for options in ({}, {"fast": True}):
        try:
            outcomes.append(decoded(data[:end], "a", lambda *_: (1, 2, 3, 5), **options).tolist())
        except BadImageError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def damaged(data, rng):
    """A file with one fault, of those that disks and networks leave."""
    begin, length = int(rng.integers(len(data))), int(rng.integers(1, 600))
    noise = rng.bytes(length)
    return [
        data[:begin],
        data[:begin] + data[begin + length :],
        data[:begin] + bytes(length) + data[begin + length :],
        data[:begin] + noise + data[begin + length :],
        data[:begin] + b"\xff" + noise[:1] + data[begin + 2 :],
        data + noise,
        data[:begin] + data[-2:],
    ][rng.integers(7)]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}], ids=str
)
def test_damage_is_told_or_mended_as_pillow_does_whatever_the_part(options):
    rng = np.random.default_rng(11)
    data = encoded(picture("photograph"), quality=90, **options)
    seen = Counter()
    for _ in range(150):
        file, box = damaged(data, rng), boxes(131, 173, 1, rng)[-1]
        outcomes = []
        for fast_ in (False, True):
            try:
                outcomes.append(decoded(file, "a", lambda *_, b=box: b, fast=fast_).tolist())
            except BadImageError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        seen[type(outcomes[0])] += 1
    assert min(seen[str], seen[list]) > 20


@pytest.mark.usefixtures("by_boxes")
def test_one_sound_scan_alone_is_decoded_in_part():
    plain = encoded(picture("photograph"))
    middle = len(plain) // 2
    marked = plain[:middle] + b"\xff\xc9" + plain[middle + 2 :]
    for data, single in [
        (plain, True),
        (encoded(picture("photograph"), "L"), True),
        (encoded(picture("photograph"), progressive=True), False),
        (encoded(picture("photograph"), restart_marker_blocks=5), False),
        (marked, False),
        (plain[:-1], False),
        (plain[:middle], False),
        (plain[:20] + plain[-2:], False),
        (b"\xff\xd8\xff\xd9", False),
        (b"\xff\xd9", False),
        (b"", False),
    ]:
        assert jpeg_boxes.is_single_scan(data) == single
        assert (jpeg_boxes.decode_box(data, (2, 3, 5, 7)) is not None) == single
    # The decoder itself would not say that below its part something is wrong.
    above = (2, 3, 29, 101)
    for options in ({}, {"fast": True}):
        with pytest.raises(BadImageError, match="broken data stream"):
            decoded(marked, "a", lambda *_: above, **options)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("options", [{}, {"fast": True}, {"orientation": "apply", "fast": True}])
def test_what_fails_to_choose_a_part_is_no_fault_of_the_image(options):
    def choose(height, width):
        raise ValueError("no part of mine")

    with pytest.raises(ValueError, match=r"^no part of mine$") as raised:
        decoded(encoded(picture("ramp")), "a", choose, **options)
    assert not isinstance(raised.value, BadImageError)


@pytest.mark.usefixtures("by_boxes")
def test_threads_decode_parts_at_once():
    data = encoded(picture("photograph"))
    whole = decoded(data, "a", fast=True)
    places = boxes(*whole.shape[:2], 200, seed=3)
    with ThreadPoolExecutor(5) as pool:
        for box, part in zip(
            places, pool.map(lambda b: jpeg_boxes.decode_box(data, b), places), strict=True
        ):
            np.testing.assert_array_equal(part, cut(whole, box))


@pytest.mark.usefixtures("by_boxes")
def test_nothing_is_told_of_libraries_for_gpus(tmp_path):
    """And what comes after the import is; the process ends as any other."""
    (tmp_path / "a.jpg").write_bytes(encoded(picture("photograph")))
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from keras_vit_scale.data.decode import Decoder\n"
        "data = Path(sys.argv[1]).read_bytes()\n"
        "def read(): return Decoder(fast=True).decode(data, 'a', lambda *_: (3, 5, 7, 11))\n"
        "threads = [threading.Thread(target=read) for _ in range(3)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(read().shape, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.jpg"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    # Grain may have told what an old jaxlib lacks.
    assert done.stderr.splitlines()[-1] == "(7, 11, 3)"
    assert not any(word in done.stderr for word in ("nvjpeg", "nvtiff", "nvJPEG", "CUDA"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("antialias", [True, False])
def test_batches_are_the_same_with_fast_also_where_bad_images_are_replaced(tmp_path, antialias):
    rng = np.random.default_rng(5)
    for i in range(24):
        size = tuple(int(side) for side in rng.integers(40, 130, 2))
        image = Image.fromarray(picture("photograph")).resize(size)
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{i:02d}.jpg", quality=90)
        data = (folder / f"{i:02d}.jpg").read_bytes()
        if i % 6 == 1:
            (folder / f"{i:02d}.jpg").write_bytes(data[: len(data) // 2])
        elif i % 6 == 2:
            (folder / f"{i:02d}.jpg").write_bytes(data[:700] + b"\xff\xc9" + data[702:])

    def batches(fast):
        source = ReplaceBad(ImageFolder(tmp_path, fast=fast), limit=8)
        transform = TrainTransform(31, antialias=antialias, fast=fast)
        return list(train_batches(source, transform, 16, seed=3, stop=6))

    for slow, quick in zip(batches(False), batches(True), strict=True):
        np.testing.assert_array_equal(quick[1], slow[1])
        np.testing.assert_allclose(quick[0], slow[0], atol=0 if antialias else 1.01 / 127.5)


@pytest.mark.usefixtures("installed")
def test_pixels_are_counted_before_they_are_decoded():
    with pytest.raises(BadImageError, match="more than max_pixels=100"):
        decoded(encoded(picture("noise")), "a", max_pixels=100, fast=True)


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
    read = []
    once = fast.decode_jpeg
    monkeypatch.setattr(
        "keras_vit_scale.data.decode.decode_jpeg",
        lambda data, *rest: read.append(len(data)) or once(data, *rest),
    )
    config = TrainConfig("mu/4", str(tmp_path), steps=1, image_size=8, fast=True, antialias=False)
    source, _ = open_data(config)
    for s in (source, open_source(tmp_path, fast=True), ImageFolder(tmp_path, fast=True)):
        assert s[0][0].shape == (61, 83, 3)
    assert len(read) == 3
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
