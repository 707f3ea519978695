"""The processes that train together: who is who, what they agree on, who writes.

They talk through the key-value store of JAX's coordination service, on the hosts alone: no device
waits for it, and threads may use it beside training. Every process must call `meet`,
`from_first` and `from_all` in the same order; with one process they cost nothing.

All processes see one folder: a shared file system, or a bucket. Files that belong to the whole are
written by the first process.
"""

import itertools
import json
from typing import Any

import keras

#: Seconds that processes wait for each other; one that died is noticed long before: see `Peers`.
PATIENCE = 3600.0

_NAMESPACE = "keras_vit_scale"
_calls = itertools.count()


def place() -> tuple[int, int]:
    """This process' number among those that train together, and how many they are.

    Example:

    >>> from keras_vit_scale.processes import place
    >>> place()
    (0, 1)
    """
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this process writes what belongs to all."""
    return place()[0] == 0


def meet(name: str) -> None:
    """Waits until all processes have come here; `name` says where, in errors."""
    if place()[1] > 1:
        store().wait_at_barrier(_key(name), int(1000 * PATIENCE))


def from_first(value: Any) -> Any:
    """The value, as JSON can say it, that the first process has given.

    Example:

    >>> from keras_vit_scale.processes import from_first
    >>> from_first(7)
    7
    """
    process, processes = place()
    if processes == 1:
        return value
    key = _key("first")
    if process == 0:
        store().key_value_set(key, json.dumps(value))
    return json.loads(store().blocking_key_value_get(key, int(1000 * PATIENCE)))


def from_all(value: Any) -> list[Any]:
    """The values, as JSON can say them, of all processes in their order."""
    process, processes = place()
    if processes == 1:
        return [value]
    key = f"{_key('all')}/"
    store().key_value_set(f"{key}{process}", json.dumps(value))
    store().wait_at_barrier(f"{key}said", int(1000 * PATIENCE))
    said = dict(store().key_value_dir_get(key))
    return [json.loads(said[f"{key}{each}"]) for each in range(processes)]


def store() -> Any:
    """The client of JAX's coordination service.

    Raises:
        RuntimeError: If there is none, as where the processes were not joined by `initialize`.
    """
    # It has no public name.
    from jax._src import distributed

    client = distributed.global_state.client
    if client is None:
        raise RuntimeError(
            "Processes that train together must be joined by `distribution.initialize`, or "
            "`keras.distribution.initialize`, before anything else."
        )
    return client


def _key(name: str) -> str:
    """A key that no earlier call has used, the same in every process."""
    return f"{_NAMESPACE}/{next(_calls)}/{name}"
