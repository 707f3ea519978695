"""TensorBoard's event files, written without TensorFlow.

A file is a sequence of records, each a protocol buffer in a frame:

    length      8 bytes, little endian
    checksum    of the length: masked CRC-32C, 4 bytes
    event       `length` bytes
    checksum    of the event

Of the messages (`tensorflow/core/util/event.proto`, `framework/summary.proto`) this writes

    Event         1 wall_time: double   2 step: int64   3 file_version: string
                  5 summary: Summary    7 session_log: SessionLog
    Summary       1 value: repeated Value
    Value         1 tag: string         2 simple_value: float
    SessionLog    1 status: enum, START = 1

That is little enough to own. TensorBoard's own package brings a web server and gRPC with it,
tensorboardX protobuf, whose versions other packages pin.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

# CRC-32C (Castagnoli), reflected: the remainders of all bytes by the polynomial 0x1EDC6F41.
_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes (RFC 3720, appendix B.4).

    Example:

    >>> from keras_vit_scale.training.callbacks.event_file import crc32c
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """A record with its frame."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data):
    crc = crc32c(data)
    # Masked, so that a checksum of data with checksums in it stays a good one.
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value):
    value &= 2**64 - 1  # a negative int64 takes ten bytes
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _field(number, value):
    """A field of a message; the kind of the value decides how it is encoded."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def scalars(values: Mapping[str, float]) -> bytes:
    """A Summary of numbers by tag."""
    return b"".join(
        _field(1, _field(1, tag) + _varint(2 << 3 | 5) + _float(value))
        for tag, value in values.items()
    )


def _float(value):
    try:
        return struct.pack("<f", value)
    except OverflowError:  # beyond float32
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


class EventFile:
    """A new event file in a folder, to which numbers of steps are added.

    Args:
        directory: The folder; it is made.
        start: Steps done so far: TensorBoard forgets later ones of older files there.
    """

    def __init__(self, directory: str | Path, start: int = 0):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # As others name them, and with nanoseconds, so that none is ever opened twice.
        name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
        self.path = directory / f"{name}.{time.time_ns()}"
        self._file = self.path.open("xb")
        self._add(now, 0, _field(3, "brain.Event:2"))
        self._add(now, start + 1, _field(7, _field(1, 1)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers of a step; they are in the file when this returns."""
        self._add(time.time(), step, _field(5, scalars(values)))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add(self, seconds, step, content):
        self._file.write(record(_field(1, seconds) + _field(2, step) + content))
        self._file.flush()
