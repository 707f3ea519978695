"""Names in type hints for what has no static type of its own."""

from typing import Any, TypeAlias, TypeVar

import numpy as np

#: A tensor of the running backend, a symbolic one, or a number or array that Keras makes one of.
#: The backends share no type, so a checker takes it for anything; the name is for readers.
Tensor: TypeAlias = Any

#: A number, or an array of them: what goes in as one comes out as one.
Number = TypeVar("Number", float, np.ndarray)

#: What Keras passes from each callback to the next: results by name.
Logs: TypeAlias = dict[str, Any]
