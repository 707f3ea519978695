"""Advice in words: sentences, and a table of what else the budget can train."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_vit_scale.planning import tpuv3_core_days
from keras_vit_scale.scaling.display import html_table

if TYPE_CHECKING:
    from keras_vit_scale.scaling.advice import Advice, Plan


def cost(a: "Advice") -> str:
    """What the advice is for: a budget, or the error to reach."""
    spent = f"{a.budget.flops:.2g} FLOPs"
    if a.target is None or a.budget_interval is None:
        told = f"{a.budget.text}: {spent}"
    else:
        low, high = a.budget_interval
        most = f"{high:.2g}" if high < float("inf") else "never"
        told = f"{a.measure} of {a.target:g}: {spent} ({a.level:.0%}: {low:.2g} to {most})"
    return f"{told}, {tpuv3_core_days(a.budget.flops):.2g} TPUv3 core-days."


def sentences(a: "Advice") -> Iterator[str]:
    """What to do and what to expect of it, a sentence or two a line."""
    best = a.best
    if a.budget.assumption:
        yield a.budget.assumption
    yield (
        f"Train {best.size} for {best.steps:,} steps of {a.batch_size:,} images: "
        f"{words(best.images_seen)} images seen."
    )
    yield f"Expect {_described(a.measure)} of {best.error:.3f} ({a.level:.0%}: {_between(best)})."
    if a.doubled is not None:
        less = 1 - a.doubled.error / best.error
        gain = f"{less:.1%} less" if less > 0.0005 else "no gain"
        yield (
            f"Twice the budget: {a.doubled.error:.3f} ({gain}) with {a.doubled.size}, "
            f"{a.doubled.steps:,} steps."
        )
    if a.images is not None and a.epochs is not None:
        told = f"On {words(a.images)} images that is {a.epochs:.3g} epochs"
        if a.repeats_cost is not None and a.epochs > 1:
            told += f"; seeing images again raises the error by {a.repeats_cost:.1%}"
        yield f"{told}."
    if a.enough_images is not None:
        yield (
            f"Enough data: {words(a.enough_images)} images; more would better this run by less "
            f"than the noise of a result, {a.noise:.1%}."
        )
    if a.frontier is not None:
        f = a.frontier
        # The frontier is of runs that hardly saw an image twice.
        fresh = ", if no image came twice" if a.epochs is not None and a.epochs > 1 else ""
        yield (
            f"Second opinion, the law of the frontier alone{fresh}: {f['error']:.3f} "
            f"({f['interval'][0]:.3f} to {f['interval'][1]:.3f}); its floor is {f['floor']:.3g}."
        )


def table(a: "Advice") -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and a row for the advised run and each alternative."""
    columns = ["size", "steps", "error", f"{a.level:.0%} interval", "FLOPs/image", ""]
    rows = []
    for plan in (a.best, *a.alternatives):
        notes = [] if plan.measured else ["no results"]
        if plan is a.best:
            notes.insert(0, "advised")
        elif a.same(plan):
            notes.insert(0, "within noise")
        rows.append(
            [
                plan.size, f"{plan.steps:,}", f"{plan.error:.3f}", _between(plan),
                f"{plan.forward_flops:.2g}", ", ".join(notes),
            ]
        )  # fmt: skip
    return columns, rows


def next_lines(a: "Advice") -> Iterator[str]:
    """What to know of the source, and the command that makes the run."""
    if a.caveat:
        yield a.caveat
    yield "Next:"
    yield f"  {a.command}"


def as_text(a: "Advice") -> str:
    """All of it, as a terminal shows it."""
    columns, rows = table(a)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (columns, *rows)
    ]
    warnings = [f"Beware: {warning}" for warning in a.warnings]
    return "\n".join([cost(a), *sentences(a), *warnings, "", *lines, "", *next_lines(a)])


def as_html(a: "Advice") -> str:
    """All of it, as a notebook shows it."""
    warnings = [f"Beware: {warning}" for warning in a.warnings]
    caveat = [a.caveat] if a.caveat else []
    columns, rows = table(a)
    above = [cost(a), " ".join(sentences(a))]
    return html_table(columns, rows, above=above, below=[*warnings, *caveat, f"Next: {a.command}"])


def words(images: float) -> str:
    """A number of images, short."""
    for unit, word in ((1e9, "B"), (1e6, "M")):
        if images >= unit:
            return f"{images / unit:.3g} {word}"
    return f"{images:,.0f}"


def _between(plan: "Plan") -> str:
    low, high = plan.interval
    return f"{low:.3f} to {high:.3f}"


def _described(measure: str) -> str:
    """With its article."""
    return f"an {measure}" if measure.startswith("error") else f"a {measure}"
