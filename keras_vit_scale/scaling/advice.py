"""Advice: which size, for how long, on how much data, and what error to expect."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_vit_scale.planning import tpuv3_core_days, training_flops
from keras_vit_scale.scaling.advice_text import as_html, as_text
from keras_vit_scale.scaling.basis import Basis, gather
from keras_vit_scale.scaling.bootstrap import FrontierFit, fit_frontier, tails
from keras_vit_scale.scaling.budget import Budget, parse_budget
from keras_vit_scale.scaling.surface import fit_surface, interval

#: Beyond this many times the most compute of the results there is loud warning, then none at all.
FAR, TOO_FAR = 10.0, 1000.0

#: What repeats cost on data sets smaller than all of the results' is uncertain by this part of it:
#: foretold without the smallest data set of the paper's tables, it was off by so much.
REPEATS = 0.3

#: Durations that are compared where images repeat, so that longer is not always better.
DURATIONS = 40

#: Alternatives that are told.
ALTERNATIVES = 4

#: Resamples of the frontier's law, which is told as a second opinion.
RESAMPLES = 200


@dataclass(frozen=True)
class Plan:
    """One run, and what it is expected to reach.

    Args:
        size: Its size.
        steps: Steps at the advice's batch.
        images_seen, flops: What that makes; of FLOPs, those of training.
        forward_flops: Of one image: what serving costs.
        error: Expected error.
        interval: Errors between which such a run's lies, at the advice's level.
        measured: Whether results of this size are known.
    """

    size: str
    steps: int
    images_seen: int
    flops: float
    forward_flops: float
    error: float
    interval: tuple[float, float]
    measured: bool


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
    planner = Planner(gather(results, task, shots, batch_size), images, level)
    return planner.advise(budget)


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
    return planner.budget_for(error)


class Planner:
    """What advice rests on, with its surface, asked about budgets."""

    def __init__(self, basis: Basis, images: float | None, level: float):
        if images is not None and not (images >= 1 and math.isfinite(images)):
            raise ValueError(f"`images` is a number of images. Received: images={images}")
        if not (basis.batch_size >= 1 and basis.batch_size == int(basis.batch_size)):
            raise ValueError(
                f"`batch_size` is a number of images. Received: batch_size={basis.batch_size}"
            )
        tails(level)
        r = basis.results
        self.basis, self.level = basis, level
        self.told = images is not None
        # No result says what more images would have brought the largest sizes.
        self.most_images = np.inf if basis.dataset is None else float(basis.dataset.max())
        self.dataset = self.most_images if images is None else float(images)
        self.images = self.dataset if math.isfinite(self.dataset) else None
        self.most, self.shortest = float(r["flops"].max()), float(r["images_seen"].min())
        self.measured = set(r["size"])
        self.least = min(training_flops(f, self.shortest) for f, _ in basis.sizes.values())
        self.surface = fit_surface(
            r["size"], r["flops"] / r["images_seen"] / 3, r["parameters"], r["images_seen"],
            r["error"], basis.dataset,
        )  # fmt: skip

        self.frontier = self._fit_frontier()

    def plans(self, flops: float) -> list[Plan]:
        """For every size that the budget can train, its best run; the best size first."""
        runs = [
            (size, forward, parameters, images)
            for size, (forward, parameters) in self.basis.sizes.items()
            for images in self._durations(flops / training_flops(forward, 1.0))
        ]
        size, forward, parameters, images = (np.array(v) for v in zip(*runs, strict=True))
        mean, deviation = self.surface.predict(size, forward, parameters, images, self.dataset)
        spent = training_flops(forward, images)
        known_data = self.basis.dataset
        if self.surface.repeats and known_data is not None and self.dataset < known_data.min():
            fresh, _ = self.surface.predict(size, forward, parameters, images)
            deviation = np.hypot(deviation, REPEATS * (mean - fresh))
        if self.frontier is not None:
            # Two forms that both describe the results part by this much, half to either side.
            usual = (
                mean
                if not self.told
                else self.surface.predict(size, forward, parameters, images, self.most_images)[0]
            )
            parted = usual.min() - np.log(self.frontier.predict(flops))
            deviation = np.hypot(deviation, parted / 2)
        low, high = interval(mean, np.hypot(deviation, self.surface.noise), self.level)
        plans: dict[str, Plan] = {}
        for i in np.argsort(mean, kind="stable"):
            name = str(size[i])
            plans.setdefault(
                name,
                Plan(
                    name, round(images[i] / self.basis.batch_size), round(images[i]),
                    float(spent[i]), float(forward[i]), float(min(np.exp(mean[i]), 1.0)),
                    (float(low[i]), float(min(high[i], 1.0))), name in self.measured,
                ),
            )  # fmt: skip
        ordered = list(plans.values())
        known = next((p for p in ordered if p.measured), None)
        # A size without results must promise more than sizes have of their own.
        if known is not None and known.error < ordered[0].error * math.exp(self.surface.own):
            ordered.remove(known)
            ordered.insert(0, known)
        return ordered

    def _durations(self, most: float) -> list[float]:
        """Images that runs of a size may see, whole steps, none shorter than any result."""
        batch = self.basis.batch_size
        if most < self.shortest * (1 - 1e-9):
            return []
        lengths: list[float] | np.ndarray = [most]
        if self.dataset < most and self.surface.repeats:
            lengths = np.geomspace(self.shortest, most, DURATIONS)
        return sorted({batch * _three_digits(images / batch) for images in lengths})

    def advise(self, budget: Budget) -> Advice:
        flops, e = budget.flops, self.basis
        if flops < self.least:
            size = min(e.sizes, key=lambda s: e.sizes[s][0])
            raise ValueError(
                "A budget must pay for the shortest run of the smallest size among the results, "
                f"{size} for {self.shortest / e.batch_size:,.0f} steps of {e.batch_size:,} images: "
                f"{self.least:.2g} FLOPs, or {tpuv3_core_days(self.least):.2g} TPUv3 core-days. "
                f"Received: {budget.text}, {flops:.2g} FLOPs; a study of smaller sizes costs less"
            )
        if flops > TOO_FAR * self.most:
            raise ValueError(
                f"No advice beyond {TOO_FAR:,.0f} times the most compute of {e.source}, "
                f"{self.most:.2g} FLOPs. Received: {budget.text}, {flops / self.most:,.0f} times "
                "as much"
            )
        best, *others = self.plans(flops)
        doubled = self.plans(2 * flops)[0] if 2 * flops <= TOO_FAR * self.most else None
        epochs = None if self.images is None else best.images_seen / self.images
        cost = enough = None
        if self.surface.repeats:
            forward, parameters = e.sizes[best.size]
            rare = self.surface.epochs_for(forward, parameters, self.surface.noise)
            enough = best.images_seen / rare
            if self.images is not None:
                fresh, again = (
                    self.surface.predict([best.size], forward, parameters, best.images_seen, u)[0]
                    for u in (np.inf, self.images)
                )
                cost = float(np.expm1(again - fresh)[0])
        advice = Advice(
            budget, best, tuple(others[:ALTERNATIVES]), doubled, e.measure, self.level,
            e.batch_size, self.images, epochs, cost, enough, self.surface.noise,
            self._second_opinion(flops), flops / self.most, (), e.source, e.caveat,
            self._command(best),
        )  # fmt: skip
        return replace(advice, warnings=tuple(self._warnings(advice)))

    def budget_for(self, error: float) -> Advice:
        e = self.basis
        grid = np.geomspace(self.least * (1 + 1e-9), TOO_FAR * self.most, 160)
        best = [self.plans(flops)[0] for flops in grid]
        expected = np.array([p.error for p in best])
        if error > expected[0]:
            raise ValueError(
                f"The smallest and shortest run, of {self.least:.2g} FLOPs, is expected to reach "
                f"{expected[0]:.3f} already: any budget for which there are results will do. "
                f"Received: error={error}"
            )
        if not (expected <= error).any():
            frontier = self._second_opinion(self.most)
            data = "" if self.images is None else f" on {self.images:,.0f} images"
            floor = (
                "" if frontier is None else f"; the frontier's law ends at {frontier['floor']:.3g}"
            )
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
        while self.plans(flops)[0].error > error:
            flops *= 1.002
        advice = self.advise(Budget(flops, f"{flops:.3g} FLOPs"))
        return replace(advice, budget_interval=(min(least, flops), max(most, flops)), target=error)

    def _fit_frontier(self) -> FrontierFit | None:
        """The law of the results' frontier, or `None` where they show none."""
        r = self.basis.results
        trunk = r["size"].astype(str)
        if self.basis.dataset is not None:
            trunk = trunk + "/" + r["images_in_dataset"].astype(str)
        try:
            return fit_frontier(r["flops"], r["error"], trunk, resamples=RESAMPLES)
        except ValueError:
            return None

    def _second_opinion(self, flops: float) -> dict[str, Any] | None:
        """Error, interval and floor by the law of the results' frontier."""
        if self.frontier is None:
            return None
        return {
            "law": str(self.frontier.law),
            "error": float(self.frontier.predict(flops)),
            "interval": tuple(
                float(v) for v in self.frontier.interval(flops, self.level, run=True)
            ),
            "floor": float(getattr(self.frontier.law, "c", 0.0)),
        }

    def _command(self, plan: Plan) -> str:
        if self.basis.study is not None:
            folder = shlex.quote(str(self.basis.study))
            file = shlex.quote(str(self.basis.study / "study.yaml"))
            return (
                f"keras-vit-scale study run {file} --out {folder} --sizes {plan.size} "
                f"--durations {plan.steps}"
            )
        return (
            f"keras-vit-scale train {shlex.quote(plan.size)} --data MY_IMAGES --steps {plan.steps} "
            f"--batch-size {self.basis.batch_size} --out run"
        )

    def _warnings(self, a: Advice) -> Iterator[str]:
        e, best = self.basis, a.best
        if a.extrapolation > FAR:
            yield (
                f"Far extrapolation: {a.extrapolation:,.0f} times the most compute of {e.source}. "
                "Take it as a direction, not as a number."
            )
        elif a.extrapolation > 1:
            yield (
                f"Extrapolation: {a.extrapolation:.2g} times the most compute of {e.source}, "
                f"{self.most:.2g} FLOPs."
            )
        if not best.measured:
            costs = sorted((e.sizes[s][0], s) for s in self.measured)
            below = [s for f, s in costs if f < best.forward_flops]
            above = [s for f, s in costs if f > best.forward_flops]
            where = (
                f"between {below[-1]} and {above[0]}" if below and above
                else f"{best.forward_flops / costs[-1][0]:.2g} times {costs[-1][1]}, the largest"
                if below else "smaller than all"
            )  # fmt: skip
            yield f"{e.source.capitalize()} have no {best.size}: in FLOPs an image it is {where}."
        else:
            longest = e.results.loc[e.results["size"] == best.size, "images_seen"].max()
            if best.images_seen > 1.05 * longest:
                yield (
                    f"{best.size} was trained on {longest:.2g} images at most, "
                    f"{best.images_seen / longest:.2g} times fewer."
                )
        if self.images is not None and a.epochs is not None:
            yield from self._data_warnings(a, self.images, a.epochs)
        larger = self._larger(best)
        if larger:
            yield larger
        if a.frontier is not None and not self.told:
            low, high = a.frontier["interval"]
            if not low <= best.error <= high:
                yield (
                    f"The law of the frontier alone expects {a.frontier['error']:.3f} "
                    f"({low:.3f} to {high:.3f}): the two disagree, which is how well this is known."
                )

    def _data_warnings(self, a: Advice, images: float, epochs: float) -> Iterator[str]:
        e, dataset = self.basis, self.basis.dataset
        if dataset is None or not self.surface.repeats:
            if epochs > 1:
                yield (
                    f"The run sees each image {epochs:.3g} times. What that costs "
                    f"{e.source} cannot tell: its data sets do not differ in size."
                )
            return
        if epochs > 1:
            varied = e.results.groupby("size")["images_in_dataset"].nunique()
            if varied.get(a.best.size, 0) < 2:
                yield (
                    f"What repeats cost {a.best.size} is foretold from other sizes: it has no "
                    "results on several data sets."
                )
        if images < dataset.min() and epochs > 1:
            yield (
                f"{images:.3g} images are fewer than the smallest data set of "
                f"{e.source}, {dataset.min():.3g}: what repeats cost is extrapolated."
            )
        if a.best.flops < 0.9 * a.budget.flops:
            left = 1 - a.best.flops / a.budget.flops
            yield (
                f"Longer is expected to be worse, since images repeat: {left:.0%} of the budget is "
                "left, for more data."
            )

    def _larger(self, best: Plan) -> str | None:
        """Where the best size is the largest there is: what larger ones would be expected to do."""
        sizes = self.basis.sizes
        if best.size != max(sizes, key=lambda s: sizes[s][0]):
            return None
        forward, parameters = sizes[best.size]
        factors = np.array([2.0, 4.0, 8.0])
        images = best.flops / 3 / forward / factors
        kept = images >= self.shortest
        if not kept.any():
            return None
        f = factors[kept]
        mean, _ = self.surface.predict(
            np.full(len(f), ""), f * forward, f * parameters, images[kept], self.dataset
        )
        i = int(mean.argmin())
        if mean[i] > np.log(best.error) - self.surface.noise:
            return None
        return (
            f"{best.size} is the largest size known here; one of {f[i]:.0f} times its FLOPs an "
            f"image is expected to reach {np.exp(mean[i]):.3f} for this budget."
        )


def _three_digits(value: float) -> int:
    """Rounded down to three digits, at least 1."""
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 2)
    return max(1, int(value * (1 + 1e-9) // unit * unit))


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
