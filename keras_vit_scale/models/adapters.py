"""Quantisation and LoRA need layers that hold one weight each; the stacked ones refuse them."""


class WithoutAdapters:
    """For layers whose weights Keras can neither quantise nor adapt by LoRA: both raise.

    Keras would otherwise quantise the rest of a model and say so in a warning.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.dtype_policy.quantization_mode is not None:
            raise ValueError(self._refusal("quantised"))

    def quantize(self, mode=None, type_check=True, config=None):
        """Raises an error that says what can be quantised."""
        raise ValueError(self._refusal("quantised"))

    def enable_lora(self, *args, **kwargs):
        """Raises an error that says what can be adapted."""
        raise ValueError(self._refusal("adapted by LoRA"))

    def _refusal(self, verb):
        return (
            f"The weights of {type(self).__name__} {self.name!r} cannot be {verb}. Make a model of "
            "ordinary layers first: `model = to_blocks(model)`. To leave this layer as it is, "
            "exclude it by the `filters` of `model.quantize`."
        )
