"""Beginning the cooldown of a run while it runs: at a step, for a deadline, or on a signal."""

import logging
import math
import numbers
import time
import warnings
from collections import deque
from datetime import datetime
from pathlib import Path

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.processes import place
from keras_vit_scale.training.callbacks.steps import StepCounter, own_optimizer
from keras_vit_scale.types import Logs

_log = logging.getLogger(__name__)

# Seconds between two looks at the clock or for the file: a hundredth of the time left, within
# these bounds. A look for a deadline waits for the device.
_SHORTEST, _LONGEST = 1.0, 60.0


def cooldown_length(start: int, steps: int | float) -> int:
    """Steps of a cooldown from `start`: a number of them, or a fraction f of the final duration.

    A run that cools down over the fraction f of its s / (1 - f) steps has s before it.

    Example:

    >>> from keras_vit_scale.training.callbacks.cooldown import cooldown_length
    >>> cooldown_length(900, 50), cooldown_length(900, 0.1)
    (50, 100)
    """
    if isinstance(steps, int):
        return steps
    return max(1, round(start * steps / (1.0 - steps)))


def length_for_deadline(
    step: int, steps: int | float, seconds_left: float, seconds_a_step: float, margin: float
) -> int | None:
    """Steps of a cooldown that must begin now to end in `seconds_left`; `None` if it can wait.

    It begins up to `margin` seconds early, which are those until the next look. Where
    less time is left than the cooldown would take it is shortened, to 1 step at least.
    """
    length = cooldown_length(step, steps)
    possible = math.floor(seconds_left / seconds_a_step)
    if possible > length + margin / seconds_a_step:
        return None
    return max(1, min(length, possible))


class Cooldown(StepCounter):
    """Brings the learning rate down to zero, from a time decided while the model trains.

    It replaces the schedule s of the optimizer by `s.with_cooldown(total, length)`, which
    is what the run would have been compiled with had it been known, and compiles the
    step once more; and it stops the training at step `total` (with `steps_per_execution`
    at the first opportunity after it, at a rate of zero). The cooldown begins at whichever
    comes first:

    - `at_step`. This much is known at once, so the schedule is replaced when training
      begins. A run resumed later than that, even within its cooldown, goes on as the
      run that was not interrupted.
    - `deadline`: so that the cooldown ends then, by the seconds that steps have taken of
      late (evaluations included) and with the time of the first step, which was
      compiled, set aside for the next that is. It ends a little early rather than
      late. Where too little time is left it begins at once, shortened, with a warning.
    - `when_file`: when this file appears, looked for about once a second.

    It never begins within the warm-up. When it began and will end is logged (to
    `logging`, as information) and in `start` and `total`. A run that is resumed after
    a cooldown for a deadline or a file began must be compiled with its schedule: if the
    schedule has an end already, the callback only stops the training there.

    Args:
        steps: Length of the cooldown in steps; or the part of the final duration that
            it makes up, a float in (0, 1).
        at_step: Step of the optimizer.
        deadline: A `datetime` with a time zone, or POSIX seconds.
        when_file: Path of a file.

    Attributes:
        start, total: Steps at which the cooldown begins and ends, once known.

    Raises:
        ValueError: If an argument is out of its range or none of the three is given.
            When training begins, if the schedule has no `with_cooldown` or the
            cooldown does not fit it, if it has ended already, if the deadline is past,
            or if several processes train and would have to agree about a deadline or
            a file.

    Source: Zhai et al., arXiv 2106.04560, section 3.5 and Appendix B.

    Example:

    >>> import keras, numpy as np
    >>> from keras_vit_scale import ReciprocalSqrt
    >>> from keras_vit_scale.training import Cooldown
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(ReciprocalSqrt(0.1, warmup_steps=2)), "mse")
    >>> cooldown = Cooldown(0.25, at_step=6)
    >>> data = np.zeros((100, 3)), np.zeros((100, 1))
    >>> _ = model.fit(*data, batch_size=2, verbose=0, callbacks=[cooldown])
    >>> cooldown.start, cooldown.total, int(model.optimizer.iterations)
    (6, 8, 8)
    """

    def __init__(
        self,
        steps: int | float,
        *,
        at_step: int | None = None,
        deadline: datetime | float | None = None,
        when_file: str | Path | None = None,
    ):
        super().__init__()
        if isinstance(steps, float):
            if not 0 < steps < 1:
                raise ValueError(
                    "`steps` must be a positive integer, or a float between 0 and 1: the part of "
                    f"the final duration. Received: steps={steps}"
                )
        else:
            check_positive_integers(steps=steps)
        if at_step is not None:
            check_positive_integers(at_step=at_step)
        if at_step is None and deadline is None and when_file is None:
            raise ValueError(
                "A cooldown needs a time to begin. "
                "Received: none of `at_step`, `deadline` and `when_file`"
            )
        self.steps, self.at_step = steps, at_step
        self.deadline = None if deadline is None else _posix(deadline)
        self.when_file = None if when_file is None else Path(when_file)
        self.start: int | None = None
        self.total: int | None = None

    def now(self) -> float:
        """POSIX seconds."""
        return time.time()

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        schedule = self._schedule()
        self.start = self.total = None
        if getattr(schedule, "total_steps", None) is not None:
            self.start = schedule.total_steps - schedule.cooldown_steps
            self.total = schedule.total_steps
            _log.info("The schedule ends at step %d already; training stops there", self.total)
        elif self.at_step is not None:
            self._begin(self.at_step, cooldown_length(self.at_step, self.steps), "as asked")
        # A `fit` that has ended already and is run again by `Checkpoints` has no epoch left.
        trains = (self._model._initial_epoch or 0) < (self.params or {}).get("epochs", math.inf)
        if trains and self.total is not None and self.step >= self.total:
            raise ValueError(
                "A run whose cooldown has ended cannot be trained on. "
                f"Received: an optimizer at step {self.step}, a cooldown that ends at {self.total}"
            )
        if self.deadline is None and self.when_file is None:
            return
        check_alone(place()[1])
        if self.deadline is not None and self.deadline <= self.now():
            raise ValueError(
                "`deadline` must lie in the future. "
                f"Received: a deadline {self.now() - self.deadline:.0f} seconds ago"
            )
        self._warmup = getattr(schedule, "warmup_steps", 0)
        self._next_look = -math.inf
        self._began = self._first_step = None
        # Times and steps of the last looks, from which the pace is measured.
        self._looks: deque[tuple[float, int]] = deque(maxlen=64)

    def between_steps(self, logs: Logs) -> None:
        if self.total is not None and self._is_last(self.step):
            self.recount()
            if self._is_last(self.step):
                # The step that comes is done; Keras looks at this after it.
                self._model.stop_training = True
        begun = self.start is not None and self.step >= self.start
        if not begun and (self.deadline is not None or self.when_file is not None):
            self._look(self.now())

    def _is_last(self, step):
        return step + self._model.steps_per_execution >= self.total

    def _look(self, now):
        if self._began is None:
            self._began = now
            return
        if self._first_step is None:
            self._first_step = now - self._began
        # A clock that was set back says little of the next look.
        if self._next_look - _LONGEST <= now < self._next_look:
            return
        signalled = self.when_file is not None and self.when_file.exists()
        if self.deadline is None and not signalled:
            self._next_look = now + _SHORTEST
            return
        self.recount()
        now = self.now()
        self._looks.append((now, self.step))
        left = math.inf if self.deadline is None else self.deadline - now
        pause = min(max(left / 100, _SHORTEST), _LONGEST) if self.when_file is None else _SHORTEST
        self._next_look = now + pause
        if self.step < self._warmup:
            return
        if signalled:
            length = cooldown_length(self.step, self.steps)
            self._begin(self.step, length, f"{self.when_file} is there")
            return
        then, before = self._looks[0]
        if self.deadline is None or self.step == before:
            return
        pace = max((now - then) / (self.step - before), 1e-9)
        fitting = length_for_deadline(self.step, self.steps, left - self._first_step, pace, pause)
        if fitting is None:
            return
        wanted = cooldown_length(self.step, self.steps)
        if fitting < wanted:
            warnings.warn(
                f"Too little time is left for a cooldown of {wanted} steps before the deadline: "
                f"it begins at step {self.step} and takes {fitting}.",
                stacklevel=2,
            )
        self._begin(self.step, fitting, f"{left:.0f} seconds are left, {pace:.3g} a step")

    def _begin(self, start, length, reason):
        total = start + length
        model = self.model
        optimizer = own_optimizer(model)
        optimizer.learning_rate = self._schedule().with_cooldown(total, length)
        # The old one was compiled with the old schedule in it.
        model.make_train_function(force=True)
        self.start, self.total = start, total
        _log.info("Cooldown from step %d to step %d: %s", start, total, reason)

    def _schedule(self):
        optimizer = own_optimizer(self.model)
        schedule = optimizer._learning_rate
        if not hasattr(schedule, "with_cooldown"):
            raise ValueError(
                "`Cooldown` needs a schedule that can be cooled down from anywhere, such as "
                "`ReciprocalSqrt`. Received: an optimizer with learning_rate="
                f"{optimizer.get_config()['learning_rate']}"
            )
        return schedule


def check_alone(processes: int) -> None:
    """Refuses a decision by clock or file where several processes would have to agree on it.

    Raises:
        ValueError: If there are several.
    """
    if processes > 1:
        raise ValueError(
            "A cooldown for a deadline or a file could begin at different steps in different "
            "processes; use `at_step` alone where several train together. "
            f"Received: {processes} processes"
        )


def _posix(deadline: datetime | float) -> float:
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise ValueError(
                "`deadline` must have a time zone, such as datetime.timezone.utc. "
                f"Received: deadline={deadline!r}"
            )
        return deadline.timestamp()
    if isinstance(deadline, bool) or not isinstance(deadline, numbers.Real):
        raise ValueError(
            "`deadline` must be a datetime with a time zone or POSIX seconds. "
            f"Received: deadline={deadline!r}"
        )
    return float(deadline)
