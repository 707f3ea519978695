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
    show(given)


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


def show(a: "Advice") -> None:
    """Prints advice in sentences and a table."""
    from keras_vit_scale.scaling import advice_text as text

    tell(text.cost(a), "bold")
    for line in text.sentences(a):
        tell(line)
    for warning in a.warnings:
        tell(f"Beware: {warning}", "yellow")
    if a.alternatives:
        tell()
        columns, rows = text.table(a)
        table = Table(box=SIMPLE)
        for name in columns:
            table.add_column(name, justify="left" if name in ("size", "") else "right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    tell()
    for line in text.next_lines(a):
        tell(line)
