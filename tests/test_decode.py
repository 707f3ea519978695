"""Image files of every mode against arrays made by hand, and files that are no images."""

import io
import os
import pickle
import stat
import struct
import tempfile
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image, ImageFile, ImageOps

from keras_vit_scale.data import BadImageError, ImageFolder, open_source, read_image
from keras_vit_scale.data.decode import MAX_PIXELS
from keras_vit_scale.data.orientation import as_stored, upright

pytestmark = numpy_alone

HEIGHT, WIDTH = 11, 13


def png(rows, colour, size=None, depth=None):
    """A PNG of bytes or 16-bit numbers, written by hand: Pillow writes no colours of 16 bits."""
    height, width = rows.shape[:2] if size is None else size
    depth = depth or 8 * rows.dtype.itemsize
    plain = rows.astype(rows.dtype.newbyteorder(">"))
    lines = b"".join(b"\0" + row.tobytes() for row in plain)

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def repeated(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def grey(rng):
    return rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def colours(rng, channels=3):
    return rng.integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def mode_1(rng):
    values = grey(rng) > 127
    return Image.fromarray(values), repeated(values.astype(np.uint8) * 255)


def mode_l(rng):
    values = grey(rng)
    return Image.fromarray(values), repeated(values)


def mode_la(rng):
    values = colours(rng, 2)
    return Image.frombytes("LA", (WIDTH, HEIGHT), values.tobytes()), repeated(values[..., 0])


def mode_rgb(rng):
    values = colours(rng)
    return Image.fromarray(values), values


def mode_rgba(rng):
    values = colours(rng, 4)
    return Image.frombytes("RGBA", (WIDTH, HEIGHT), values.tobytes()), values[..., :3]


def mode_p(rng):
    palette, indices = colours(rng)[:1].repeat(20, 1)[0, :256], grey(rng)
    image = Image.frombytes("P", (WIDTH, HEIGHT), indices.tobytes())
    image.putpalette(palette.tobytes())
    return image, palette[indices]


def mode_cmyk(rng):
    values = colours(rng, 4)
    ink = values.astype(float) / 255
    expected = np.round(255 * (1 - ink[..., :3]) * (1 - ink[..., 3:]))
    return Image.frombytes("CMYK", (WIDTH, HEIGHT), values.tobytes()), expected


@pytest.mark.parametrize(
    ("made", "format", "options"),
    [
        (mode_1, "PNG", {}),
        (mode_1, "TIFF", {"compression": "group4"}),
        (mode_l, "PNG", {}),
        (mode_l, "PNG", {"transparency": 7}),
        (mode_l, "GIF", {}),
        (mode_l, "BMP", {}),
        (mode_la, "PNG", {}),
        (mode_p, "PNG", {}),
        (mode_p, "PNG", {"transparency": bytes(range(256))}),
        (mode_p, "GIF", {"transparency": 3}),
        (mode_rgb, "PNG", {"transparency": (1, 2, 3)}),
        (mode_rgb, "BMP", {}),
        (mode_rgb, "TIFF", {"compression": "tiff_lzw"}),
        (mode_rgb, "WEBP", {"lossless": True}),
        (mode_rgba, "PNG", {}),
        (mode_rgba, "WEBP", {"lossless": True, "exact": True}),
        (mode_cmyk, "TIFF", {}),
    ],
)  # fmt: skip
def test_modes_give_the_pixels_that_they_mean(made, format, options, rng, tmp_path):
    image, expected = made(rng)
    image.save(tmp_path / "image", format, **options)
    found = read_image(tmp_path / "image")
    assert (found.dtype, found.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    np.testing.assert_allclose(found, expected, atol=1 if made is mode_cmyk else 0)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_of_sixteen_bits_the_upper_eight_are_taken(colour, channels, rng, tmp_path):
    values = rng.integers(0, 2**16, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(values, colour))
    upper = (values >> 8).astype(np.uint8)
    expected = upper[..., :3] if channels > 2 else repeated(upper[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_tiff_in_both_byte_orders(order, rng, tmp_path):
    values = rng.integers(0, 2**16, (HEIGHT, WIDTH)).astype(order)
    Image.fromarray(values).save(tmp_path / "a.tif")
    expected = repeated((values >> 8).astype(np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_inks_and_luma_of_jpeg(tmp_path):
    """Even colours, which JPEG keeps: CMYK by the formula, YCbCr as the RGB that it was."""
    inks = (200, 30, 90, 60)
    Image.new("CMYK", (16, 16), inks).save(tmp_path / "inks.jpg", quality=100)
    expected = [(255 - ink) * (255 - inks[3]) / 255 for ink in inks[:3]]
    np.testing.assert_allclose(read_image(tmp_path / "inks.jpg")[8, 8], expected, atol=2)
    Image.new("RGB", (16, 16), (200, 30, 90)).convert("YCbCr").save(tmp_path / "luma.jpg")
    np.testing.assert_allclose(read_image(tmp_path / "luma.jpg")[8, 8], (200, 30, 90), atol=2)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_pictures(format, tmp_path):
    first, second = (Image.new("RGB", (7, 5), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if format == "WEBP" else {}
    first.save(tmp_path / "a", format, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(first))


def test_numbers_without_a_known_white_are_refused(tmp_path):
    inverted = Image.new("I;16", (3, 2))
    for image, options, message in (
        (Image.new("I", (3, 2), 70_000), {}, "no known white"),
        (Image.new("F", (3, 2), 0.5), {}, "no known white"),
        (inverted, {"tiffinfo": {262: 0}}, "PhotometricInterpretation 0"),
    ):
        image.save(tmp_path / "a.tif", **options)
        with pytest.raises(BadImageError, match=message):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_ignored_or_applied(format, orientation, rng, tmp_path):
    """Eight ways to store a picture, against Pillow's own turning of the stored pixels."""
    values, exif = colours(rng), Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    Image.fromarray(values).save(tmp_path / "plain", format, **options)
    Image.fromarray(values).save(tmp_path / "turned", format, exif=exif, **options)
    stored = read_image(tmp_path / "plain")
    tagged = Image.fromarray(stored)
    tagged.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    np.testing.assert_array_equal(read_image(tmp_path / "turned"), stored)
    found = read_image(tmp_path / "turned", orientation="apply")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(as_stored(upright(stored, orientation), orientation), stored)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", "nine"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_says_nothing_leaves_the_picture(exif, rng, tmp_path):
    if exif == "nine":
        exif = Image.Exif()
        exif[0x0112] = 9
    Image.fromarray(colours(rng)).save(tmp_path / "a.jpg", exif=exif)
    stored = read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", orientation="apply"), stored)


def test_pixels_are_counted_before_they_are_decoded(tmp_path, rng):
    """Of the file no pixel is there: an attempt to decode would tell of that instead."""
    header = png(np.zeros((0, 1), np.uint8), 0, (10_000, 10_000))
    (tmp_path / "huge.png").write_bytes(header)
    with pytest.raises(BadImageError, match=f"10000 x 10000 pixels .* max_pixels={MAX_PIXELS}"):
        read_image(tmp_path / "huge.png")
    Image.fromarray(colours(rng)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(BadImageError, match="more than max_pixels=142"):
        read_image(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH - 1)


def encoded(rng, format):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    options = {} if format in ("GIF", "BMP") else {"exif": exif}
    Image.fromarray(colours(rng)).save(file, format, **options)
    return file.getvalue()


FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File")
def test_cut_anywhere_a_file_is_bad_or_its_picture_whole(format, rng, tmp_path):
    whole, path = encoded(rng, format), tmp_path / "image"
    path.write_bytes(whole)
    expected, bad = read_image(path), 0
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        try:
            np.testing.assert_array_equal(read_image(path), expected)
        except BadImageError:
            bad += 1
    assert bad >= len(whole) // 7 - 3


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_file_holds_nothing_else_is_raised(format, rng, tmp_path):
    whole, path = encoded(rng, format), tmp_path / "image"
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(90, len(whole)), rng.integers(1, 5)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(BadImageError):
            assert read_image(path, orientation="apply").dtype == np.uint8


def test_what_is_wrong_with_a_file_is_told_apart_from_a_disk(tmp_path):
    folder = tmp_path / "cats"
    folder.mkdir()
    (folder / "empty.jpg").touch()
    (folder / "words.jpg").write_text("not a picture")
    (folder / "paper.png").write_bytes(b"%PDF-1.7 ...............")
    (folder / "inside.png").mkdir()
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    os.mkfifo(folder / "pipe.png")
    os.mknod(folder / "socket.png", stat.S_IFSOCK | 0o600)
    for name, reason in (
        ("empty.jpg", "the file is empty"),
        ("words.jpg", "it is no JPEG, PNG, WebP, GIF, BMP or TIFF"),
        ("paper.png", "it is no JPEG"),
        ("inside.png", "it is a folder"),
        ("pipe.png", "it is no regular file"),
        ("socket.png", "it is no regular file"),
        ("nowhere.png", "No such file"),
        ("gone.png", "No such file"),
    ):
        with pytest.raises(BadImageError, match=rf"{name}': {reason}"):
            read_image(folder / name)
    with pytest.raises(FileNotFoundError, match="unmounted"):
        read_image(tmp_path / "unmounted" / "a.png")


@contextmanager
def as_nobody():
    """For root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_closed_file_is_bad_and_a_closed_folder_an_error(rng):
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        folder = Path(root, "cats")
        folder.mkdir()
        Image.fromarray(colours(rng)).save(folder / "a.png")
        (folder / "a.png").chmod(0)
        with as_nobody(), pytest.raises(BadImageError, match="Permission denied"):
            read_image(folder / "a.png")
        folder.chmod(0)
        with as_nobody(), pytest.raises(PermissionError):
            read_image(folder / "a.png")
        folder.chmod(0o700)


def test_names_and_content_may_differ(tmp_path, rng):
    values = colours(rng)
    Image.fromarray(values).save(tmp_path / "picture.jpg", "PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "picture.jpg"), values)


def test_truncated_images_may_not_pass_for_whole(tmp_path, rng, monkeypatch):
    Image.fromarray(colours(rng)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match=r"Received: True, set by this program or a library"):
        read_image(tmp_path / "a.png")


def test_the_error_reaches_other_processes():
    error = pickle.loads(pickle.dumps(BadImageError("a.jpg", "truncated")))
    assert (error.file, error.reason) == ("a.jpg", "truncated")
    assert str(error) == "Cannot read the image 'a.jpg': truncated"


def test_options_reach_the_files_and_are_checked(tmp_path, rng):
    values, exif = colours(rng), Image.Exif()
    exif[0x0112] = 3
    (tmp_path / "cats").mkdir()
    Image.fromarray(values).save(tmp_path / "cats" / "a.png", exif=exif)
    turned = open_source(tmp_path, orientation="apply")[0][0]
    np.testing.assert_array_equal(turned, values[::-1, ::-1])
    with pytest.raises(BadImageError, match="max_pixels=7"):
        open_source(tmp_path, max_pixels=7)[0]
    for open_it in (open_source, ImageFolder, lambda path, **o: read_image(path / "a.png", **o)):
        with pytest.raises(ValueError, match=r"must be one of \('ignore', 'apply'\)"):
            open_it(tmp_path, orientation="up")
        with pytest.raises(ValueError, match="`max_pixels` must be a positive integer"):
            open_it(tmp_path, max_pixels=0)
