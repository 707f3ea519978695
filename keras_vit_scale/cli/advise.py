"""`advise`: which size, for how long, and what to expect."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from keras_vit_scale.cli.output import print_json, tell

if TYPE_CHECKING:
    from keras_vit_scale.scaling.advice import Advice
    from keras_vit_scale.scaling.planner import Plan


def advise(
    budget: Annotated[str, arg(metavar="BUDGET")] = "",
    error: float | None = None,
    images: Annotated[str, arg(metavar="IMAGES")] = "",
    law: Annotated[Path | None, arg(metavar="STUDY")] = None,
    task: Annotated[str, arg(metavar="TASK")] = "",
    shots: int | None = None,
    batch_size: int | None = None,
    mfu: float | None = None,
    level: float = 0.9,
    json: bool = False,
) -> None:
    """Say which size to train for how long with a budget, and what error to expect.

    It rests on the paper's tables, or on a study of yours. With --error instead of --budget it
    says what budget an error needs.

    For example:

      keras-vit-scale advise --budget "8 H100 days"
      keras-vit-scale advise --budget "64 TPUv4 chips 3 days" --mfu 0.5 --images 14M
      keras-vit-scale advise --budget "300 TPUv3 core-days" --task imagenet
      keras-vit-scale advise --budget "2e13 FLOPs" --law my_study
      keras-vit-scale advise --error 0.15

    Args:
        budget: Accelerators and time ("2 A100 hours", "3 days on 8 H100"), or "1e21 FLOPs",
            "1.5 EFLOP", "10 PFLOP/s-days".
        error: The error to reach, in (0, 1).
        images: Images in your data set: 1200000, 14M, 3B. By default the
            paper's largest, 3B.
        law: Folder of a study, to learn from it instead of the paper's tables.
        task: The error: of the paper imagenet_10shot (default), imagenet_5shot, the same for
            cifar100, pets, birds; or imagenet, imagenet_v2, imagenet_real after fine-tuning. Of a
            study the data set that was probed.
        shots: Of a study: examples a class of the probe, by default its most.
        batch_size: Images a step, by default 4096 or the study's.
        mfu: Part of the hardware's peak that training reaches: by default 0.4, and for TPUv3 the
            0.55 of the paper's published cost.
        level: Of the intervals.
        json: Print JSON.
    """
    from keras_vit_scale.scaling import advice as scaling

    if bool(budget) == (error is not None):
        raise ValueError(
            "Give --budget or --error, and not both. Received: "
            + ("both" if budget else "neither; for example --budget '8 H100 days'")
        )
    if error is not None and mfu is not None:
        raise ValueError("--mfu turns a budget in hardware into FLOPs: give it with --budget")
    options: dict[str, Any] = {
        "task": task or None,
        "shots": shots,
        "images": count(images) if images else None,
        "batch_size": batch_size,
        "level": level,
    }
    if error is None:
        given = scaling.advise(budget, law, mfu=mfu, **options)
    else:
        given = scaling.budget_for(error, law, **options)
    if json:
        print_json(given.to_dict())
        return
    show(given, error)


def count(text: str) -> float:
    """A number of images, such as "14M".

    Raises:
        ValueError: If it is none.
    """
    units = {"K": 1e3, "M": 1e6, "B": 1e9}
    stated = text.strip().upper().replace(",", "").replace("_", "")
    try:
        return float(stated.rstrip("KMB")) * units.get(stated[-1:], 1)
    except ValueError:
        raise ValueError(
            f"--images is a number, such as 1200000, 14M or 3B. Received: {text!r}"
        ) from None


def show(a: "Advice", error: float | None) -> None:
    """Prints advice in sentences and a table."""
    from keras_vit_scale.planning import tpuv3_core_days

    best, sure = a.best, f"{a.level:.0%}"
    if a.budget_interval is None:
        cost = f"{a.budget.text}: {a.budget.flops:.2g} FLOPs"
    else:
        low, high = a.budget_interval
        most = f"{high:.2g}" if high < float("inf") else "never"
        cost = f"{a.measure} of {error:g}: {a.budget.flops:.2g} FLOPs ({sure}: {low:.2g} to {most})"
    tell(f"{cost}, {tpuv3_core_days(a.budget.flops):.2g} TPUv3 core-days.", "bold")
    if a.budget.assumption:
        tell(a.budget.assumption)
    tell(
        f"Train {best.size} for {best.steps:,} steps of {a.batch_size:,} images: "
        f"{words(best.images_seen)} images seen."
    )
    tell(f"Expect {described(a.measure)} of {best.error:.3f} ({sure}: {between(best)}).")
    if a.doubled is not None:
        less = 1 - a.doubled.error / best.error
        gain = f"{less:.1%} less" if less > 0.0005 else "no gain"
        tell(
            f"Twice the budget: {a.doubled.error:.3f} ({gain}) with {a.doubled.size}, "
            f"{a.doubled.steps:,} steps."
        )
    if a.images is not None and a.epochs is not None:
        told = f"On {words(a.images)} images that is {a.epochs:.3g} epochs"
        if a.repeats_cost is not None and a.epochs > 1:
            told += f"; seeing images again raises the error by {a.repeats_cost:.1%}"
        tell(told + ".")
    if a.enough_images is not None:
        tell(
            f"Enough data: {words(a.enough_images)} images; more would better this run by less "
            f"than the noise of a result, {a.noise:.1%}."
        )
    if a.frontier is not None:
        f = a.frontier
        tell(
            f"Second opinion, the law of the frontier alone: {f['error']:.3f} "
            f"({f['interval'][0]:.3f} to {f['interval'][1]:.3f}); its floor is {f['floor']:.3g}."
        )
    for warning in a.warnings:
        tell(f"Beware: {warning}", "yellow")
    if a.alternatives:
        tell()
        Console().print(alternatives(a))
    tell()
    if a.caveat:
        tell(a.caveat)
    tell("Next:")
    tell(f"  {a.command}")


def alternatives(a: "Advice") -> Table:
    """The advised run beside other sizes for the same budget."""
    table = Table(box=SIMPLE)
    for name in ("size", "steps", "error", f"{a.level:.0%} interval", "FLOPs/image", ""):
        table.add_column(name, justify="left" if name in ("size", "") else "right")
    for plan in (a.best, *a.alternatives):
        notes = [] if plan.measured else ["no results"]
        if plan is a.best:
            notes.insert(0, "advised")
        elif a.same(plan):
            notes.insert(0, "within noise")
        table.add_row(
            plan.size,
            f"{plan.steps:,}",
            f"{plan.error:.3f}",
            between(plan),
            f"{plan.forward_flops:.2g}",
            ", ".join(notes),
        )
    return table


def between(plan: "Plan") -> str:
    low, high = plan.interval
    return f"{low:.3f} to {high:.3f}"


def described(measure: str) -> str:
    """With its article."""
    return f"an {measure}" if measure.startswith("error") else f"a {measure}"


def words(images: float) -> str:
    """A number of images, short."""
    for unit, word in ((1e9, "B"), (1e6, "M")):
        if images >= unit:
            return f"{images / unit:.3g} {word}"
    return f"{images:,.0f}"
