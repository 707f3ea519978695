"""Models and optimizers without values: their shapes, dtypes and layouts, and no memory."""

import contextlib
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state


@contextlib.contextmanager
def abstract_variables() -> Iterator[None]:
    """Variables that are made within have shapes, dtypes and paths, and never a value.

    Computing with them works where it is traced with values given for all of them,
    as in a training step. Keras lists variables without values, to give them theirs
    at the next occasion; these are taken off the list.
    """
    before = list(global_state.get_global_attribute("uninitialized_variables") or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute("uninitialized_variables", before)
