"""What to beware of in an advice: how far it reaches, and what the results cannot tell."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_vit_scale.scaling.planner import Plan, Planner

if TYPE_CHECKING:
    from keras_vit_scale.scaling.advice import Advice

#: Beyond this many times the most compute of the results the warning is loud.
FAR = 10.0


def cautions(planner: Planner, a: "Advice") -> Iterator[str]:
    """What to beware of in an advice, a sentence each.

    Args:
        planner: What it was asked of.
        a: The advice.
    """
    e, best = planner.basis, a.best
    if a.extrapolation > FAR:
        yield (
            f"Far extrapolation: {a.extrapolation:,.0f} times the most compute of {e.source}. "
            "Take it as a direction, not as a number."
        )
    elif a.extrapolation > 1:
        yield (
            f"Extrapolation: {a.extrapolation:.2g} times the most compute of {e.source}, "
            f"{planner.most:.2g} FLOPs."
        )
    if not best.measured:
        costs = sorted((e.sizes[s][0], s) for s in planner.measured)
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
    if planner.images is not None and a.epochs is not None:
        yield from _of_data(planner, a, planner.images, a.epochs)
    larger = _larger(planner, best)
    if larger:
        yield larger
    if a.frontier is not None and not planner.told:
        low, high = a.frontier["interval"]
        if not low <= best.error <= high:
            yield (
                f"The law of the frontier alone expects {a.frontier['error']:.3f} "
                f"({low:.3f} to {high:.3f}): the two disagree, which is how well this is known."
            )


def _of_data(planner: Planner, a: "Advice", images: float, epochs: float) -> Iterator[str]:
    e, dataset = planner.basis, planner.basis.dataset
    if dataset is None or not planner.surface.repeats:
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


def _larger(planner: Planner, best: Plan) -> str | None:
    """Where the best size is the largest there is: what larger ones would be expected to do."""
    sizes = planner.basis.sizes
    if best.size != max(sizes, key=lambda s: sizes[s][0]):
        return None
    forward, parameters = sizes[best.size]
    factors = np.array([2.0, 4.0, 8.0])
    images = best.flops / 3 / forward / factors
    kept = images >= planner.shortest
    if not kept.any():
        return None
    f = factors[kept]
    mean, _ = planner.surface.predict(
        np.full(len(f), ""), f * forward, f * parameters, images[kept], planner.dataset
    )
    i = int(mean.argmin())
    if mean[i] > np.log(best.error) - planner.surface.noise:
        return None
    return (
        f"{best.size} is the largest size known here; one of {f[i]:.0f} times its FLOPs an "
        f"image is expected to reach {np.exp(mean[i]):.3f} for this budget."
    )
