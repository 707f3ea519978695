"""A function of whole numbers that other processes compute."""

import multiprocessing
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from queue import SimpleQueue
from typing import Any

from keras_vit_scale.checks import is_whole
from keras_vit_scale.data.shared_memory import AVAILABLE, SharedMemory


def check_workers(workers: int) -> None:
    """Refuses what is no number of processes.

    Raises:
        ValueError: If it is not a whole number from 0 on.
    """
    if not is_whole(workers) or workers < 0:
        raise ValueError(
            "`workers` must be a number of processes, 0 for none but this one. "
            f"Received: workers={workers!r}"
        )


class Workers:
    """Calls a function in processes that begin with the first call and end with this object.

    The function goes to each of them once, and what it raises comes back as what it is. They
    leave signals to this process, and end when it does, however that was.

    Args:
        function: Of a whole number; it and its results must be picklable.
        processes: How many; threads of this process may wait for as many calls at once.
        then: What this process makes of a number and its result. It must keep nothing of the
            result, whose memory is taken again.
    """

    def __init__(
        self, function: Callable[[int], Any], processes: int, then: Callable[[int, Any], Any]
    ):
        self.function, self.processes, self.then = function, processes, then

    def __call__(self, number: int) -> Any:
        pool, memory, free = self._started
        place = free.get()
        try:
            result = pool.submit(_computed, number, place).result()
            return self.then(number, memory[place].view(result) if memory else result)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process that reads images has died: memory may have run out, or the script has "
                "no `if __name__ == '__main__':` before what starts it. "
                f"Received: workers={self.processes}"
            ) from error
        finally:
            free.put(place)

    @cached_property
    def _started(self) -> tuple[ProcessPoolExecutor, list[SharedMemory], SimpleQueue[int]]:
        """The processes, memory for as many results as there are calls at once, and what is free.

        Without shared memory, results come through pipes.
        """
        places = range(max(2, self.processes))
        memory = [SharedMemory() for _ in places] if AVAILABLE else []
        free: SimpleQueue[int] = SimpleQueue()
        for place in places:
            free.put(place)
        pool = ProcessPoolExecutor(
            self.processes,
            # Threads, of which JAX has many, do not outlive a fork.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(pickle.dumps(self.function), memory),
        )
        # When Python ends, before what the pool needs for it is gone.
        weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)
        return pool, memory, free


_function: Callable[[int], Any]
_memory: list[SharedMemory]


def _begin(pickled: bytes, memory: list[SharedMemory]) -> None:
    """In each process, before its first call."""
    global _function, _memory
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _function, _memory = pickle.loads(pickled), memory


def _end_with(parent):
    """A pool's processes wait for ever for one that was killed."""
    parent.join()
    os._exit(1)


def _computed(number: int, place: int) -> Any:
    result = _function(number)
    return _memory[place].write(result) if _memory else result
