"""The best run of every size for a budget, by the error surface of the results."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_vit_scale.planning import training_flops
from keras_vit_scale.scaling.basis import Basis
from keras_vit_scale.scaling.bootstrap import FrontierFit, fit_frontier, tails
from keras_vit_scale.scaling.surface import fit_surface, interval

#: What repeats cost on data sets smaller than all of the results' is uncertain by this part of it:
#: foretold without the smallest data set of the paper's tables, it was off by so much.
REPEATS = 0.3

#: Durations that are compared where images repeat, so that longer is not always better.
DURATIONS = 40

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

    def second_opinion(self, flops: float) -> dict[str, Any] | None:
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


def _three_digits(value: float) -> int:
    """Rounded down to three digits, at least 1."""
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 2)
    return max(1, int(value * (1 + 1e-9) // unit * unit))
