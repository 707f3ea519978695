"""Quantisation and LoRA need layers that hold one weight each; the stacked ones refuse them."""

from typing import Any, NoReturn


class WithoutAdapters:
    """For layers whose weights Keras can neither quantise nor adapt by LoRA: both raise.

    Keras would otherwise quantise the rest of a model and say so in a warning.
    """

    name: str
    dtype_policy: Any

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.dtype_policy.quantization_mode is not None:
            raise ValueError(self._refusal("quantised"))

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> NoReturn:
        """Raises an error that says what can be quantised."""
        raise ValueError(self._refusal("quantised"))

    def enable_lora(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises an error that says what can be adapted."""
        raise ValueError(self._refusal("adapted by LoRA"))

    def _refusal(self, verb: str) -> str:
        return (
            f"The weights of {type(self).__name__} {self.name!r} cannot be {verb}. Make a model of "
            "ordinary layers first: `model = to_blocks(model)`. To leave this layer as it is, "
            "exclude it by the `filters` of `model.quantize`."
        )
