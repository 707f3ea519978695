"""A log in Weights & Biases."""

import importlib.util
from typing import Any

from keras_vit_scale.training.callbacks.step_logger import StepLogger


class WandbLog(StepLogger):
    """Sends steps to Weights & Biases, with the package `wandb`.

    If no run is open when training begins it opens one, and finishes it at the end;
    a run that is open is used, and left open. A resumed run goes on in the old one with
    `id="...", resume="must"`; of steps that were sent before, W&B keeps the first.

    Args:
        every: N: a point every N steps, and when `StepLogger` says.
        **init: Arguments of `wandb.init`, such as `project` and `config`.

    Raises:
        ImportError: If `wandb` is not installed.
        ValueError: If `every` is no positive integer.
    """

    def __init__(self, every: int, **init: Any):
        super().__init__(every)
        if importlib.util.find_spec("wandb") is None:
            raise ImportError("WandbLog needs the package wandb: pip install wandb")
        self.init = init
        self._run: Any = None
        self._own = False

    def open(self, step: int) -> None:
        import wandb

        self._own = wandb.run is None
        self._run = wandb.init(**self.init) if self._own else wandb.run

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        if self._own:
            self._run.finish()
