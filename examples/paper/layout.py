"""How the report's tables and pictures look, and the columns that it speaks of."""

import matplotlib
import matplotlib.figure
import numpy as np

from keras_vit_scale.models import TABLE_2, preset
from keras_vit_scale.planning import forward_flops
from keras_vit_scale.scaling.figure import log_axes

#: Names of the errors, by table and column.
ERRORS = {
    ("fewshot", "imagenet_10shot"): "ImageNet, 10-shot",
    ("fewshot", "imagenet_5shot"): "ImageNet, 5-shot",
    ("fewshot", "cifar100_10shot"): "CIFAR-100, 10-shot",
    ("fewshot", "cifar100_5shot"): "CIFAR-100, 5-shot",
    ("fewshot", "pets_10shot"): "Pets, 10-shot",
    ("fewshot", "pets_5shot"): "Pets, 5-shot",
    ("fewshot", "birds_10shot"): "Birds, 10-shot",
    ("fewshot", "birds_5shot"): "Birds, 5-shot",
    ("finetune", "imagenet"): "ImageNet, fine-tuned",
    ("finetune", "imagenet_v2"): "ImageNet-v2, fine-tuned",
    ("finetune", "imagenet_real"): "ImageNet-ReaL, fine-tuned",
}

#: The sizes, by what an image costs.
SIZES = sorted(TABLE_2, key=lambda name: forward_flops(preset(name)))

COLOURS = dict(
    zip(SIZES, matplotlib.colormaps["viridis"](np.linspace(0, 0.93, len(SIZES))), strict=True)
)


def markdown(header, rows) -> list[str]:
    """A table in Markdown, and an empty line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines] + [""]


def percent(value: float, digits: int = 1) -> str:
    """A part as a percentage, "-" if unknown."""
    return "-" if np.isnan(value) else f"{100 * value:.{digits}f} %"


def between(low: float, high: float, form: str = ".3f") -> str:
    """An interval in words."""
    return f"{low:{form}} to {high:{form}}"


def rms(values) -> float:
    """Root mean square; NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else float("nan")


def small_log_axes(ax, **labels):
    """`log_axes` for a picture of many panels."""
    log_axes(ax, **labels)
    ax.tick_params(axis="y", which="minor", labelsize=8)
    ax.grid(True, which="both", linewidth=0.3, alpha=0.5)


def panels(rows: int, columns: int, width: float, height: float):
    """A figure without pyplot, which needs no window, and its axes (rows, columns)."""
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def name_sizes(figure, ax):
    """One legend beside all panels, of the lines of an axes that has every size."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=8)


def save(figure, path):
    """Writes a PNG without the name and date of the program, so that it stays the same."""
    figure.savefig(path, dpi=90, metadata={"Software": None})
