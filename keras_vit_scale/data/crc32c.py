"""The checksum of TFRecord files, CRC-32C, in NumPy: pieces of a record side by side, then joined.

The state of a CRC is linear in its data: that of a whole is the state of its first part, carried
over as many zeros as the second part has bytes, plus (exclusive or) that of the second.
"""

from functools import cache

import numpy as np

#: Castagnoli's polynomial, its bits reversed.
POLYNOMIAL = 0x82F63B78

#: Bytes of a piece.
PIECE = 256


@cache
def _table() -> np.ndarray:
    """The state that each value of a byte leads to, uint32 (256,)."""
    states: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        states = (states >> 1) ^ np.where(states & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return states


def _fed(states: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """States, uint32 (N,), after the bytes of pieces, uint8 (N, length)."""
    table = _table()
    for column in np.ascontiguousarray(pieces.T):
        states = table[(states ^ column) & 255] ^ (states >> 8)
    return states


@cache
def _carried() -> list[list[int]]:
    """Where each byte of a state, from the lowest on, is after a piece of zeros: 4 tables."""
    values = np.arange(256, dtype=np.uint32)[None] << (8 * np.arange(4, dtype=np.uint32)[:, None])
    zeros = np.zeros((values.size, PIECE), np.uint8)
    return _fed(values.ravel(), zeros).reshape(4, 256).tolist()


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes.

    Source: RFC 3720, B.4, has examples.

    Example:

    >>> from keras_vit_scale.data.crc32c import crc32c
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    values = np.frombuffer(data, np.uint8)
    # The state is of ones at first. What is left over beside whole pieces comes first too.
    rest = len(values) % PIECE
    state = int(_fed(np.array([0xFFFFFFFF], np.uint32), values[None, :rest])[0])
    pieces = values[rest:].reshape(-1, PIECE)
    a, b, c, d = _carried()
    for own in _fed(np.zeros(len(pieces), np.uint32), pieces).tolist():
        state = a[state & 255] ^ b[state >> 8 & 255] ^ c[state >> 16 & 255] ^ d[state >> 24] ^ own
    return state ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """A checksum as TFRecord stores it: turned by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
