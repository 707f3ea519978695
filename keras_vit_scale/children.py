"""Python processes that this one starts for a piece of work, whose memory they give back."""

import os
import sys

import keras


def child_environment() -> dict[str, str]:
    """The environment of a process on the same backend that can import all that this one can.

    Callbacks' and hypermodels' classes, for example, may lie in the folder of a user's script.

    Example:

    >>> import keras
    >>> from keras_vit_scale.children import child_environment
    >>> child_environment()["KERAS_BACKEND"] == keras.backend.backend()
    True
    """
    return {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
