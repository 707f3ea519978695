"""Advice: which size, for how long, on how much data, and what error to expect."""

import math
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_vit_scale.planning import tpuv3_core_days
from keras_vit_scale.scaling.advice_text import as_html, as_text
from keras_vit_scale.scaling.basis import gather
from keras_vit_scale.scaling.budget import Budget, parse_budget
from keras_vit_scale.scaling.cautions import cautions
from keras_vit_scale.scaling.planner import Plan, Planner

#: Beyond this many times the most compute of the results there is no advice.
TOO_FAR = 1000.0

#: Alternatives that are told.
ALTERNATIVES = 4


@dataclass(frozen=True)
class Advice:
    """What to do with a budget.

    Args:
        budget: The budget.
        best: The run to make.
        alternatives: Other sizes for the same budget, by expected error.
        doubled: The run to make with twice the budget, or `None` where that is beyond advice.
        measure: What the error is, in words.
        level: Of the intervals.
        batch_size: Images a step.
        images: Images in the data set, or `None` where as many as the run sees were assumed.
        epochs: How often the run sees each, or `None`.
        repeats_cost: By which part seeing images again raises the error, or `None` where the
            results cannot tell.
        enough_images: Data sets above this would better this run by less than `noise`; or `None`.
        noise: Standard deviation of log error of one result.
        frontier: A second opinion: error, interval and floor of the law of the results' frontier;
            `None` where they show none. It knows no repeats and no sizes.
        extrapolation: Budget over the most compute of the results.
        warnings: What to beware of, a sentence each.
        source: What it rests on.
        caveat: What to know of that, a sentence, or `None`.
        command: The command line that makes the run, where MY_IMAGES stands for yours.
        budget_interval: For an inverse question, the least and largest FLOPs that the target may
            need at this level; the latter may be infinite. Else `None`.
        target: For an inverse question, the error to reach. Else `None`.
    """

    budget: Budget
    best: Plan
    alternatives: tuple[Plan, ...]
    doubled: Plan | None
    measure: str
    level: float
    batch_size: int
    images: float | None
    epochs: float | None
    repeats_cost: float | None
    enough_images: float | None
    noise: float
    frontier: dict[str, Any] | None
    extrapolation: float
    warnings: tuple[str, ...]
    source: str
    caveat: str | None
    command: str
    budget_interval: tuple[float, float] | None = None
    target: float | None = None

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def same(self, plan: Plan) -> bool:
        """Whether the noise of two runs hides what parts a plan from the best."""
        return abs(math.log(plan.error / self.best.error)) < math.sqrt(2) * self.noise

    def to_dict(self) -> dict[str, Any]:
        """The advice as JSON can hold it; an infinite end of an interval is `None`."""
        stored = asdict(self)
        if self.budget_interval is not None:
            ends = self.budget_interval
            stored["budget_interval"] = [v if math.isfinite(v) else None for v in ends]
        return stored


def advise(
    budget: str | float | Budget,
    results: str | Path | pd.DataFrame | None = None,
    *,
    task: str | None = None,
    shots: int | None = None,
    images: float | None = None,
    batch_size: int | None = None,
    mfu: float | None = None,
    level: float = 0.9,
) -> Advice:
    """Which size to train for how long with a budget, and what error to expect.

    An error surface (`ErrorSurface`) is fitted to all results; every size is asked what it would
    reach if it were trained for the whole budget, or less where images repeat so often that
    longer is worse. The best is advised; a size without results only if it is expected to be better
    by more than sizes have of their own. `benchmarks/advice.py` hides results of the paper's
    tables and looks what the size advised really reached.

    Args:
        budget: As `parse_budget`: "8 H100 days", "1e21 FLOPs", or a number of FLOPs.
        results: What to learn from: `None` for the paper's tables, a study's folder, or a table
            with the columns `size`, `images_seen`, `parameters`, `flops` (of training), `error`
            and, if it varies, `images_in_dataset`.
        task: Of the paper's tables the error, by default "imagenet_10shot" ("imagenet" is that
            after fine-tuning); of a study the probed data set, by default its first.
        shots: Of a study, by default its most.
        images: Images in the data set at hand: by default the most of the results' (the
            paper's: 3 billion), or as many as runs see where the results do not say.
        batch_size: Images a step, by default that of the results (the paper's: 4,096). Errors are
            taken to depend on images seen, whatever the batch.
        mfu: Part of the peak that training reaches, for budgets in hardware.
        level: Of the intervals.

    Raises:
        ValueError: If a value is out of range, the budget is too small for any run or more than
            1,000 times the most compute of the results, or the results show no surface.
        StudyError: If the folder holds no study with results.

    Example:

    >>> from keras_vit_scale.scaling import advise
    >>> advice = advise("8 H100 days")
    >>> advice.best.size, round(advice.best.error, 2), advice.extrapolation < 1
    ('L/16', 0.26, True)
    """
    budget = parse_budget(budget, mfu)
    return advice_of(Planner(gather(results, task, shots, batch_size), images, level), budget)


def budget_for(
    error: float,
    results: str | Path | pd.DataFrame | None = None,
    *,
    task: str | None = None,
    shots: int | None = None,
    images: float | None = None,
    batch_size: int | None = None,
    level: float = 0.9,
) -> Advice:
    """The least budget that is expected to reach an error, with the advice for it.

    Args:
        error: In (0, 1).
        results, task, shots, images, batch_size, level: As `advise`.

    Returns:
        The advice; its `budget_interval` has the ends, the upper one infinite if the error
        may be out of reach.

    Raises:
        ValueError: As `advise`; if no run that was shorter was tried, or the error is out of
            reach, saying what limits it.

    Example:

    >>> from keras_vit_scale.scaling import budget_for
    >>> advice = budget_for(0.2)
    >>> low, high = advice.budget_interval
    >>> low < advice.budget.flops < high
    True
    """
    if not 0 < error < 1:
        percent = f"; in percent, it is {error / 100:g}" if 1 < error < 100 else ""
        raise ValueError(f"`error` must be between 0 and 1. Received: error={error:g}{percent}")
    planner = Planner(gather(results, task, shots, batch_size), images, level)
    e = planner.basis
    grid = np.geomspace(planner.least * (1 + 1e-9), TOO_FAR * planner.most, 160)
    best = [planner.plans(flops)[0] for flops in grid]
    expected = np.array([p.error for p in best])
    if error > expected[0]:
        raise ValueError(
            f"The smallest and shortest run, of {planner.least:.2g} FLOPs, is expected to reach "
            f"{expected[0]:.3f} already: any budget for which there are results will do. "
            f"Received: error={error}"
        )
    if not (expected <= error).any():
        frontier = planner.second_opinion(planner.most)
        data = "" if planner.images is None else f" on {planner.images:,.0f} images"
        floor = "" if frontier is None else f"; the frontier's law ends at {frontier['floor']:.3g}"
        raise ValueError(
            f"Never: no size known here is expected to get below {expected.min():.3f}{data} "
            f"with {TOO_FAR:,.0f} times the most compute of {e.source}{floor}. "
            f"Received: error={error}"
        )
    # One more run has noise of its own; the ends are of what the results leave open.
    ends = np.array([p.interval for p in best])
    flops, least, most = (
        _first_at(grid, curve, error) for curve in (expected, ends[:, 0], ends[:, 1])
    )
    # The next amount at which plans reach it, whole steps counted.
    while planner.plans(flops)[0].error > error:
        flops *= 1.002
    advice = advice_of(planner, Budget(flops, f"{flops:.3g} FLOPs"))
    return replace(advice, budget_interval=(min(least, flops), max(most, flops)), target=error)


def advice_of(planner: Planner, budget: Budget) -> Advice:
    """The advice for a budget, from a planner's best runs; errors are those of `advise`."""
    flops, e = budget.flops, planner.basis
    if flops < planner.least:
        size = min(e.sizes, key=lambda s: e.sizes[s][0])
        raise ValueError(
            "A budget must pay for the shortest run of the smallest size among the results, "
            f"{size} for {planner.shortest / e.batch_size:,.0f} steps of {e.batch_size:,} images: "
            f"{planner.least:.2g} FLOPs, or {tpuv3_core_days(planner.least):.2g} TPUv3 core-days. "
            f"Received: {budget.text}, {flops:.2g} FLOPs; a study of smaller sizes costs less"
        )
    if flops > TOO_FAR * planner.most:
        raise ValueError(
            f"No advice beyond {TOO_FAR:,.0f} times the most compute of {e.source}, "
            f"{planner.most:.2g} FLOPs. Received: {budget.text}, {flops / planner.most:,.0f} times "
            "as much"
        )
    best, *others = planner.plans(flops)
    doubled = planner.plans(2 * flops)[0] if 2 * flops <= TOO_FAR * planner.most else None
    epochs = None if planner.images is None else best.images_seen / planner.images
    cost = enough = None
    if planner.surface.repeats:
        forward, parameters = e.sizes[best.size]
        rare = planner.surface.epochs_for(forward, parameters, planner.surface.noise)
        enough = best.images_seen / rare
        if planner.images is not None:
            fresh, again = (
                planner.surface.predict([best.size], forward, parameters, best.images_seen, u)[0]
                for u in (np.inf, planner.images)
            )
            cost = float(np.expm1(again - fresh)[0])
    advice = Advice(
        budget, best, tuple(others[:ALTERNATIVES]), doubled, e.measure, planner.level,
        e.batch_size, planner.images, epochs, cost, enough, planner.surface.noise,
        planner.second_opinion(flops), flops / planner.most, (), e.source, e.caveat,
        _command(planner, best),
    )  # fmt: skip
    return replace(advice, warnings=tuple(cautions(planner, advice)))


def _command(planner: Planner, plan: Plan) -> str:
    """The command line that makes a run."""
    if planner.basis.study is not None:
        folder = shlex.quote(str(planner.basis.study))
        file = shlex.quote(str(planner.basis.study / "study.yaml"))
        return (
            f"keras-vit-scale study run {file} --out {folder} --sizes {plan.size} "
            f"--durations {plan.steps}"
        )
    return (
        f"keras-vit-scale train {shlex.quote(plan.size)} --data MY_IMAGES --steps {plan.steps} "
        f"--batch-size {planner.basis.batch_size} --out run"
    )


def _first_at(grid: np.ndarray, curve: np.ndarray, error: float) -> float:
    """Where a falling curve first reaches an error, between the points of a grid; or infinity."""
    at = np.flatnonzero(curve <= error)
    if not len(at):
        return math.inf
    i = at[0]
    if i == 0:
        return float(grid[0])
    part = np.log(curve[i - 1] / error) / np.log(curve[i - 1] / curve[i])
    return float(grid[i - 1] * (grid[i] / grid[i - 1]) ** part)
