"""KerasTuner, where it is installed; where it is not, whoever needs it is told how to get it.

The modules beside this one can be imported without it, for tables of finished searches and for
the documentation.
"""

import importlib
from typing import Any

MISSING = (
    "Searches need KerasTuner, which is not installed: pip install 'keras-vit-scale[tuner]'. "
    "Received: no module keras_tuner"
)


class Missing:
    """Stands where a class of KerasTuner would: none can be made of it.

    Raises:
        ImportError: When one is made.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise ImportError(MISSING)


def keras_tuner() -> Any:
    """The module.

    Raises:
        ImportError: If it is not installed, saying how to install it.
    """
    try:
        return importlib.import_module("keras_tuner")
    except ModuleNotFoundError as error:
        if error.name != "keras_tuner":
            raise
        raise ImportError(MISSING) from None


HyperModel: Any = Missing
Tuner: Any = Missing
try:
    HyperModel, Tuner = keras_tuner().HyperModel, keras_tuner().Tuner
except ImportError as missing:
    if str(missing) != MISSING:
        raise
