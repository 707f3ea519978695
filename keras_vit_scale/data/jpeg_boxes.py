"""Parts of JPEGs, of which no other pixels are computed, by nvImageCodec (extra `fast`).

It decodes on processors what needs no GPU, with the library that the others have.
"""

import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from keras_vit_scale.data.boxes import Box

#: Markers of frames whose pixels come one after the other, of what begins them, and of the end.
_SEQUENTIAL, _SCAN, _END = (b"\xff\xc0", b"\xff\xc1"), b"\xff\xda", b"\xff\xd9"


def decode_box(encoded: bytes, box: Box) -> np.ndarray | None:
    """A part of a JPEG, uint8 (H, W, 3); or `None`, for others to decode or to judge.

    That is where nvImageCodec is missing or finds fault, and where the end of the part may hide
    from it what is wrong with the file: in all but a sound single scan.
    """
    codec = nvimgcodec()
    if codec is None or not is_single_scan(encoded):
        return None
    top, left, height, width = box
    region = codec.Region((top, left), (top + height, left + width))
    stream = codec.CodeStream(encoded).get_sub_code_stream(region=region)
    decoders = _decoders()
    part = decoders.decoder.decode(stream, params=decoders.params)
    return None if part is None else np.asarray(part)


def is_single_scan(encoded: bytes) -> bool:
    """Whether a JPEG has its end, and before it no marker after the one that begins its pixels.

    Then a decoder reads from there to the end whatever the bytes are, and what it may find wrong
    it mends. Progressive JPEGs and those with restarts are none of these.

    Source: ITU-T T.81 (1992), B.1.1: within a scan 0xFF is followed by 0, or is a marker's.
    """
    if not encoded.endswith(_END):
        return False
    at = 2
    sequential = False
    while (marker := encoded[at : at + 2])[:1] == b"\xff" and marker != _SCAN:
        sequential = sequential or marker in _SEQUENTIAL
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    if not sequential or marker != _SCAN:
        return False
    scan = np.frombuffer(encoded, np.uint8, offset=at + len(_SCAN))[: -len(_END)]
    return not np.any((scan[:-1] == 0xFF) & (scan[1:] != 0))


def nvimgcodec() -> Any:
    """The module of nvImageCodec, or `None` where it is not installed."""
    with _one_thread:
        return _imported()


#: Of two at once the second would keep for the standard error what the first put in its place.
_one_thread = threading.Lock()


@cache
def _imported() -> Any:
    if not (importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.nvimgcodec")):
        return None
    # Of damaged images, too, of which others tell.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    with _without_stderr():
        module = importlib.import_module("nvidia.nvimgcodec")
    # From 0.9 on it needs no driver of GPUs.
    return module if hasattr(module, "NVIMGCODEC_DEVICE_CPU_ONLY") else None


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keeps from the terminal which libraries of CUDA are not there; no setting does."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class _Decoders(threading.local):
    """A decoder for each thread, which computes in that thread and on no GPU."""

    def __init__(self):
        codec = nvimgcodec()
        self.decoder = codec.Decoder(
            device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY,
            backends=[codec.Backend(codec.CPU_ONLY)],
            max_num_cpu_threads=1,
        )
        # Pixels as they are stored, like the others.
        self.params = codec.DecodeParams(apply_exif_orientation=False)


_decoders = cache(_Decoders)
