"""Every public callable says what it takes and what it returns."""

import importlib
import inspect
import pkgutil
import typing

import keras
import pytest

import keras_vit_scale

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="hints are the same on every backend"
)

PARTS = [
    keras_vit_scale,
    *(
        importlib.import_module(f"keras_vit_scale.{module.name}")
        for module in pkgutil.iter_modules(keras_vit_scale.__path__)
        if module.ispkg and module.name != "cli"
    ),
]

PUBLIC = {
    f"{value.__module__}.{name}": value
    for part in PARTS
    for name in part.__all__
    for value in [getattr(part, name)]
    if callable(value)
}

#: Methods whose names begin with an underscore and that users call all the same.
CALLED = {"__init__", "__call__", "__len__", "__getitem__"}


def is_ours(value):
    return getattr(value, "__module__", "").startswith("keras_vit_scale")


def methods(kind):
    """What users call of a class by name: written by us, and no part of Keras' own protocol.

    What Keras calls and documents (`build`, `call`, `get_config`, `on_epoch_end`, ...) goes
    without hints, as in Keras.
    """
    kerases = [base for base in kind.__mro__ if base.__module__.split(".")[0] == "keras"]
    for name, value in inspect.getmembers_static(kind):
        if name.startswith("_") and name not in CALLED:
            continue
        if name != "__init__" and any(name in vars(base) for base in kerases):
            continue
        value = getattr(value, "func", value)  # a cached property
        value = getattr(value, "fget", value)  # a property
        value = getattr(value, "__func__", value)  # of the class
        if inspect.isfunction(value) and is_ours(value):
            yield name, value


def unhinted(function):
    """What of a function has no hint."""
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    missing = [name for name in parameters if name not in hints and name not in ("self", "cls")]
    returns = function.__name__ == "__init__" or "return" in hints
    return missing if returns else [*missing, "return"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_callables_have_hints(name):
    value = PUBLIC[name]
    functions = methods(value) if inspect.isclass(value) else [("", value)]
    assert not {method: m for method, f in functions if (m := unhinted(f))}


def test_the_test_sees_what_is_missing():
    class Half(keras.layers.Layer):
        def __init__(self, width, **kwargs: typing.Any):
            super().__init__(**kwargs)

        def call(self, x):
            return x

        @property
        def depth(self):
            return 1

        @staticmethod
        def twice(x: int):
            return 2 * x

    Half.__init__.__module__ = Half.depth.fget.__module__ = Half.twice.__module__ = (
        "keras_vit_scale"
    )
    found = {name: unhinted(function) for name, function in methods(Half)}
    assert found == {"__init__": ["width"], "depth": ["return"], "twice": ["return"]}
