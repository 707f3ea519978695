"""Arrays that come from another process through memory that both have, and not through a pipe.

A pipe takes 64 kB at a time, and what comes out of it is joined and copied again by one thread.
"""

import mmap
import os
import pickle
import weakref
from multiprocessing import reduction
from typing import Any, NamedTuple

#: Linux has memory of no name and no file system, hence without any limit but its own; `/dev/shm`
#: has 64 MB in many a container.
AVAILABLE = hasattr(os, "memfd_create")

#: Bytes at whose multiples arrays begin.
_ALIGNED = 64


class Pickled(NamedTuple):
    """A value without the bytes of its arrays, and where these begin and end."""

    rest: bytes
    places: list[slice]


class SharedMemory:
    """Memory of this process and of those that are started with this object; goes with the last.

    It holds one value at a time, and never shrinks.
    """

    def __init__(self, number: int | None = None):
        self._number = os.memfd_create("keras_vit_scale") if number is None else number
        self._mapped: mmap.mmap | bytes = b""
        weakref.finalize(self, os.close, self._number)

    def __reduce__(self):
        # A process that is being started gets it under a number of its own.
        return _given, (reduction.DupFd(self._number),)

    def write(self, value: Any) -> Pickled:
        """Puts a value's arrays here, and returns what else another process needs of it."""
        buffers: list[pickle.PickleBuffer] = []
        rest = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        end, places = 0, []
        for buffer in buffers:
            left = buffer.raw()
            begin = -(-end // _ALIGNED) * _ALIGNED
            end = begin + len(left)
            places.append(slice(begin, end))
            while left:
                left = left[os.pwrite(self._number, left, end - len(left)) :]
        return Pickled(rest, places)

    def view(self, pickled: Pickled) -> Any:
        """The value, whose arrays lie here: they are those of the next that is written."""
        end = max((place.stop for place in pickled.places), default=0)
        if len(self._mapped) < end:
            self._mapped = mmap.mmap(self._number, end)
        bytes_here = memoryview(self._mapped)
        return pickle.loads(pickled.rest, buffers=[bytes_here[place] for place in pickled.places])


def _given(handle):
    return SharedMemory(handle.detach())
