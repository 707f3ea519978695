"""Image files as arrays of bytes. What is wrong with a file is told apart from what is with a disk.

A few things that Pillow does by itself are not left to it: it decodes whatever a file claims to
be, warns of images of any size but refuses none below 179 million pixels, turns TIFF by their
orientation and nothing else, and clips 16 bits to white.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from keras_vit_scale.checks import check_one_of, check_positive_integers
from keras_vit_scale.data.boxes import Choose, Picture, chosen
from keras_vit_scale.data.fast import check_fast, decode_jpeg
from keras_vit_scale.data.orientation import ORIENTATIONS, as_stored, stored_orientation, upright

#: Pixels of an image at most, by default: as many as take a quarter of a gibibyte in RGB. No
#: camera but a few of medium format takes that many, and above it Pillow warns.
MAX_PIXELS = 2**28 // 3

#: How a file begins, whatever its name is.
_JPEG = b"\xff\xd8\xff"
_FORMATS = (
    (_JPEG, JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"RIFF....WEBP", WebPImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
)

#: For bytes, and without waiting for what writes into a pipe; each where the system has it.
_OPENING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

#: TIFF's tags of what its 16-bit numbers mean: how many bits count, and which end is black.
_BITS, _PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, 1


class BadImageError(ValueError):
    """An image that cannot be read, through the fault of nothing but its own file.

    A source may raise it for an item whose image is broken, so that `ReplaceBad` replaces it.

    Args:
        file: The file, or another name of the image.
        reason: What is wrong with it.
    """

    def __init__(self, file: str | Path, reason: str):
        # Both to `Exception`, which is rebuilt from them in another process.
        super().__init__(str(file), reason)
        self.file, self.reason = str(file), reason

    def __str__(self) -> str:
        return f"Cannot read the image {self.file!r}: {self.reason}"


def read_image(
    path: str | Path,
    *,
    orientation: str = "ignore",
    max_pixels: int = MAX_PIXELS,
    fast: bool = False,
) -> np.ndarray:
    """An image file as RGB, uint8, (H, W, 3).

    JPEG, PNG, WebP, GIF, BMP and TIFF are read, recognised by their content; of several
    pictures in a file the first. Palettes are resolved, transparency is dropped, of 16 bits
    the upper 8 are taken (as TensorFlow does), and CMYK becomes (1 - ink)(1 - black) without
    regard to colour profiles; a JPEG's inks are taken as inverted, as Adobe writes them.
    Numbers of 32 bits and floating point, which have no known white, are refused.

    Args:
        path: The file.
        orientation: "ignore" takes the pixels as they are stored, as TensorFlow's decoders
            do and most published models were trained; "apply" turns them as EXIF says, as
            people see them.
        max_pixels: Refuse an image of more pixels when its header is read, before any of
            them is decoded. By default 89,478,485, which take 256 MiB as RGB.
        fast: Decode JPEGs by simplejpeg and nvImageCodec (extra `fast`), to the same pixels.

    Raises:
        BadImageError: A `ValueError`, if the file is none of these, is damaged, truncated,
            too large or gone from its folder, naming it.
        OSError: If the fault is not the file's: its folder is missing or closed to us, or
            the disk fails.
        ValueError: If an option is unknown.
        ImportError: If `fast` is asked for and the extra not installed.

    Example:

    >>> import tempfile
    >>> from PIL import Image
    >>> from keras_vit_scale.data import read_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("CMYK", (3, 2), (255, 0, 0, 0)).save(f"{folder}/cyan.jpg")
    ...     image = read_image(f"{folder}/cyan.jpg")
    >>> image.shape, image[0, 0].tolist()
    ((2, 3, 3), [0, 255, 255])
    """
    return np.asarray(Decoder(orientation, max_pixels, fast).read(path))


@dataclass(frozen=True)
class Decoder:
    """From image files to pictures, or to parts of them.

    Args:
        orientation, max_pixels, fast: As for `read_image`.

    Raises:
        ValueError, ImportError: As `read_image` does, of its options.
    """

    orientation: str = "ignore"
    max_pixels: int = MAX_PIXELS
    fast: bool = False

    def __post_init__(self):
        check_reading(self.orientation, self.max_pixels, self.fast)

    def read(self, path: str | Path, choose: Choose | None = None) -> Picture:
        """The picture in a file, or the part of it that is chosen.

        Raises:
            BadImageError: A `ValueError`, if it is damaged, too large, no image or gone.
            OSError: If the fault is not the file's.
        """
        number, size = _open(path)
        try:
            if self.fast and (encoded := _whole_jpeg(number, size)):
                return self.decode(encoded, str(path), choose)
            # A file and not its path, with which Pillow would map some formats into memory: such a
            # process dies if the file shrinks.
            with open(number, "rb", closefd=False) as file:
                return self._decoded(file, path, choose)
        finally:
            os.close(number)

    def decode(self, encoded: bytes, name: str, choose: Choose | None = None) -> Picture:
        """The picture in the bytes of a file, or the part of it that is chosen.

        Args:
            name: What to call it in an error, such as a shard and a key.

        Raises:
            BadImageError: A `ValueError`, if it is damaged, too large, or no image.
        """
        return self._decoded(io.BytesIO(encoded), name, choose)

    def _decoded(self, file, name, choose):
        _check_pillow()
        with _faults_of(name):
            plugin = _plugin(file)
        pixels = None
        if self.fast and plugin is JpegImageFile:
            # Before Pillow reads the header, which takes a twentieth of the time.
            as_they_are = self.orientation == "ignore"
            pixels = decode_jpeg(file.read(), self.max_pixels, choose if as_they_are else None)
            if pixels is not None and as_they_are:
                return pixels
            file.seek(0)
        with _faults_of(name):
            picture = _decode(plugin(file), pixels, self.orientation, self.max_pixels)
        return chosen(picture, choose)


def check_reading(orientation: str, max_pixels: int, fast: bool = False) -> None:
    """Refuses what `read_image` would refuse of its options.

    Raises:
        ValueError: If one is unknown or out of range.
        ImportError: If `fast` is asked for and the extra not installed.
    """
    check_one_of(ORIENTATIONS, orientation=orientation)
    check_positive_integers(max_pixels=max_pixels)
    check_fast(fast)


@contextmanager
def _faults_of(name: str | Path) -> Iterator[None]:
    """Names the image of what is wrong with it, and with nothing else."""
    try:
        yield
    except Exception as error:
        if not _is_of_image(error):
            raise
        raise BadImageError(name, str(error) or type(error).__name__) from error


def _decode(
    image: ImageFile.ImageFile, pixels: np.ndarray | None, orientation: str, max_pixels: int
) -> Picture:
    """A picture in RGB and turned as it should be, whose pixels may be known."""
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} pixels are more than max_pixels={max_pixels}")
    if width < 1 or height < 1:
        raise ValueError("it has no pixels")
    # TIFF's is gone once Pillow has loaded it, and has been applied; PNG's may come last.
    tiff = isinstance(image, TiffImageFile)
    turned = stored_orientation(image) if tiff else 1
    picture: Picture
    if pixels is None:
        image.load()
        picture = _rgb(image)
    else:
        picture = pixels
    if tiff and orientation == "ignore":
        return as_stored(np.asarray(picture), turned)
    if not tiff and orientation == "apply" and (turn := stored_orientation(image)) != 1:
        return upright(np.asarray(picture), turn)
    return picture


def _plugin(file: BinaryIO) -> type[ImageFile.ImageFile]:
    """What of Pillow reads such a file's header, and later its pixels."""
    begins = file.read(12)
    file.seek(0)
    if not begins:
        raise ValueError("the file is empty")
    # WebP's length stands within its signature.
    begins = begins[:4] + b"...." + begins[8:] if begins[:4] == b"RIFF" else begins
    for signature, plugin in _FORMATS:
        if begins.startswith(signature):
            return plugin
    raise ValueError("it is no JPEG, PNG, WebP, GIF, BMP or TIFF")


def _rgb(image: Image.Image) -> Picture:
    """The same in RGB."""
    if image.mode.startswith("I;16"):
        if isinstance(image, TiffImageFile):
            bits, photometric = (image.tag_v2.get(tag) for tag in (_BITS, _PHOTOMETRIC))
            if bits != (16,) or photometric != _BLACK_IS_ZERO:
                raise ValueError(
                    "grey of more than 8 bits must have 16, of which 0 is black; it has "
                    f"BitsPerSample {bits}, PhotometricInterpretation {photometric}"
                )
        # `convert` would clip them to white.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("numbers of 32 bits have no known white; store 8 or 16")
    # Dropped in any case; Pillow would warn of what it does to it.
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _open(path: str | Path) -> tuple[int, int]:
    """The number of an open file, and its bytes.

    Raises:
        BadImageError: If nothing but the file itself is in the way.
    """
    try:
        # What is no file, such as a pipe, must not make us wait.
        number = os.open(path, _OPENING)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise BadImageError(path, "it is no regular file") from error
        # Gone or closed alone: without its folder, the whole disk may be.
        alone = error.errno in (errno.ENOENT, errno.ELOOP) and Path(path).parent.is_dir()
        if alone or (error.errno == errno.EACCES and os.path.exists(path)):
            raise BadImageError(path, str(error.strerror)) from error
        raise
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        folder = stat.S_ISDIR(found.st_mode)
        raise BadImageError(path, "it is a folder" if folder else "it is no regular file")
    return number, found.st_size


def _whole_jpeg(number: int, size: int) -> bytes:
    """The bytes of a JPEG, or none: in few calls, at each of which threads wait for each other."""
    begins, encoded = os.read(number, len(_JPEG)), b""
    os.lseek(number, 0, os.SEEK_SET)
    if begins == _JPEG:
        encoded = os.read(number, size)
        os.lseek(number, 0, os.SEEK_SET)
    return encoded if len(encoded) == size else b""


def _is_of_image(error: Exception) -> bool:
    """Whether an error of reading is the image's own: a disk's has a number, Pillow's has none."""
    if isinstance(error, OSError):
        return error.errno is None
    return not isinstance(error, MemoryError)


def _check_pillow():
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            "Truncated images must not pass for whole ones: set PIL.ImageFile."
            "LOAD_TRUNCATED_IMAGES to False. Received: True, set by this program or a library"
        )
