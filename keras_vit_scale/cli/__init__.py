"""The command `keras-vit-scale`: one function a verb, each a few calls of the library.

Exit codes: 0 done; 1 a fault of the program; 2 a mistake in the call, its files or its data,
told in one line; 75 stopped by SIGTERM or a time limit, where the same command goes on; 130
interrupted, by SIGINT.
"""

from keras_vit_scale.cli.entry import run

__all__ = ["run"]
