"""A function of whole numbers that other processes compute."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from typing import Any

from keras_vit_scale.checks import is_whole


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
    """

    def __init__(self, function: Callable[[int], Any], processes: int):
        self.function, self.processes = function, processes

    def __call__(self, number: int) -> Any:
        try:
            return self._pool.submit(_computed, number).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process that reads images has died: memory may have run out, or the script has "
                "no `if __name__ == '__main__':` before what starts it. "
                f"Received: workers={self.processes}"
            ) from error

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.processes,
            # Threads, of which JAX has many, do not outlive a fork.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(pickle.dumps(self.function),),
        )


_function: Callable[[int], Any]


def _begin(pickled: bytes) -> None:
    """In each process, before its first call."""
    global _function
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _function = pickle.loads(pickled)


def _end_with(parent):
    """A pool's processes wait for ever for one that was killed."""
    parent.join()
    os._exit(1)


def _computed(number: int) -> Any:
    return _function(number)
