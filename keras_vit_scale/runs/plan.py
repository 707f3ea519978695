"""A run's durations in steps, and the schedule that they give."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_vit_scale.schedules import Constant, Cosine, Linear, ReciprocalSqrt, steps
from keras_vit_scale.schedules.schedule import Schedule
from keras_vit_scale.training.callbacks.cooldown import cooldown_length
from keras_vit_scale.training.checkpoints.store import Keep

if TYPE_CHECKING:
    from keras_vit_scale.runs.config import TrainConfig


@dataclass(frozen=True)
class Plan:
    """When things happen in a run, in steps."""

    warmup_steps: int
    """Steps of the warm-up."""
    total_steps: int | None
    """Where the run ends at the latest; `None` if only an event begins its cooldown."""
    cooldown: int | float
    """Steps of the cooldown; a part of the run where its end is not known."""
    by_event: bool
    """Whether a deadline or a file may begin the cooldown."""
    average: int
    """Steps over which weights are averaged; 0 for none."""
    evaluate_every: int | None
    checkpoint_every: int
    keep: Keep
    """Which checkpoints stay."""
    log_every: int
    spike_window: int

    def planned_cooldown(self) -> int | None:
        """The step at which the cooldown begins if no event begins it before."""
        return None if self.total_steps is None else self.total_steps - int(self.cooldown)


def make_plan(config: "TrainConfig", images: int) -> Plan:
    """The durations of a `TrainConfig` in steps, for so many training images.

    Raises:
        ValueError: If a duration cannot be read, lacks what it is a part of, or
            warm-up and cooldown are longer than the run.
    """

    def in_steps(name, total=None):
        duration = getattr(config, name)
        try:
            return steps(duration, batch_size=config.batch_size, images=images, total_steps=total)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}`: {error}") from error

    cooldown = config.cooldown_length()
    total = None
    if config.steps is not None:
        total = in_steps("steps")
    if not isinstance(cooldown, float):
        cooldown = in_steps("cooldown", total) if cooldown else 0
    elif total is not None:
        cooldown = round(cooldown * total)
    if config.cool_down_at is not None:
        begin = in_steps("cool_down_at")
        cooldown = cooldown_length(begin, cooldown)
        total = begin + cooldown
    every: dict[str, Any] = {}
    for name in ("evaluate_every", "checkpoint_every", "keep_every", "log_every", "spike_window"):
        every[name] = None if getattr(config, name) is None else in_steps(name, total)
        if every[name] == 0:
            raise ValueError(f"`{name}` must be positive. Received: {getattr(config, name)!r}")
    if total == 0:
        raise ValueError(f"`steps` must be positive. Received: {config.steps!r}")
    if config.warmup is not None:
        warmup = in_steps("warmup", total)
    else:
        warmup = 10_000 if total is None else min(10_000, total // 10)
    keep = Keep(config.keep_last, every.pop("keep_every"))
    by_event = config.deadline is not None or config.cool_down_file is not None
    return Plan(warmup, total, cooldown, by_event, in_steps("average", total), keep=keep, **every)


def make_schedule(config: "TrainConfig", plan: Plan) -> Schedule:
    """The schedule of a run: with its cooldown, unless an event may yet begin that.

    Raises:
        ValueError: If warm-up and cooldown are longer than the run.
    """
    durations = {"warmup_steps": plan.warmup_steps}
    if config.schedule == "rsqrt":
        trunk: Schedule = ReciprocalSqrt(config.peak, timescale=config.timescale, **durations)
    elif config.schedule == "constant":
        trunk = Constant(config.peak, **durations)
    else:
        if plan.total_steps is None or plan.warmup_steps >= plan.total_steps:
            raise ValueError(
                f"The schedule {config.schedule!r} needs steps after the warm-up. Received: "
                f"a warm-up of {plan.warmup_steps} steps in a run of {plan.total_steps}"
            )
        kind = Linear if config.schedule == "linear" else Cosine
        decay_steps = plan.total_steps - plan.warmup_steps
        trunk = kind(config.peak, decay_steps=decay_steps, **durations)
    if plan.total_steps is None:
        return trunk
    whole = trunk.with_cooldown(plan.total_steps, int(plan.cooldown))
    return trunk if plan.by_event else whole
