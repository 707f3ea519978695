"""Figure 3: images that each size needs for an error."""

import numpy as np
from layout import COLOURS, ERRORS, SIZES, markdown, name_sizes, panels, save, small_log_axes

from keras_vit_scale.scaling import images_to_reach, paper_results, sample_efficiency

#: Errors that are asked for.
TARGETS = {
    ("fewshot", "imagenet_10shot"): (0.5, 0.4, 0.3, 0.25, 0.2),
    ("finetune", "imagenet"): (0.25, 0.2, 0.18, 0.15, 0.125),
}

#: The pairs whose ratio is told.
PAIRS = (("Ti/16", "L/16"), ("S/16", "L/16"), ("Ti/16", "B/16"), ("B/32", "L/16"))

#: Noise of log error that results of a trunk share, and that they do not: as Figure 2's fits find.
NOISE = {"trunk_noise": 0.025, "point_noise": 0.012}


def curves(table, column):
    """By size, images and the geometric mean of the errors on data sets of a billion or more."""
    r = paper_results(table)
    r = r[r["images_in_dataset"] >= 1e9].assign(log=np.log(r[column]))
    means = r.groupby(["model", "images_seen"])["log"].mean()
    return {
        name: (means[name].index.to_numpy(float), np.exp(means[name].to_numpy()))
        for name in SIZES
        if name in means.index
    }


def section(folder, resamples: int) -> list[str]:
    """Lines of the report; the picture is written into `folder`."""
    save(draw(), folder / "figure3.png")
    lines = [
        "## Figure 3: images seen to reach an error",
        "",
        "![Error against images seen, by model](figure3.png)",
        "",
        "Millions of images, interpolated between results on logarithmic axes (data sets of 1 and "
        "3 "
        "billion images, averaged). Interpolated, not fitted: the eight durations lie close "
        "enough, and "
        "a law would add its own form just where a small model's curve is flat. `< ` says that the "
        "first result is already better, `-` that none is.",
        "",
    ]
    for (table, column), targets in TARGETS.items():
        rows = [
            [name, *(cell(images, images_to_reach(images, errors, t).item()) for t in targets)]
            for name, (images, errors) in curves(table, column).items()
        ]
        lines += [f"{ERRORS[table, column]}:", ""]
        lines += markdown(["", *(f"error {t:g}" for t in targets)], rows)
    lines += [
        "How many times the images of the larger model the smaller one needs, at the errors that "
        "both "
        "reached; 90 % intervals by noise of trunks and results drawn anew:",
        "",
        *ratios(resamples),
        "The paper says close to 100 for Ti/16 against L/16 at the same 10-shot error, and about "
        "20 when fine-tuned. Ti/16's best errors are L/16's first, so the two share only a narrow "
        "stretch, in which Ti/16's curve is nearly flat: the ratio runs through the paper's 100 "
        "there, and is whatever one asks for. Fine-tuned it is larger than 20 over all of the "
        "stretch; 20 fits an error of 0.25, which L/16 reaches before its first result in the "
        "tables. The claim holds in kind; as numbers, both are good to a factor of two at best.",
        "",
    ]
    return lines


def cell(images, needed) -> str:
    if np.isinf(needed):
        return "-"
    return f"< {images[0] / 1e6:,.0f}" if needed == 0 else f"{needed / 1e6:,.0f}"


def ratios(resamples) -> list[str]:
    rows = []
    for (table, column), name in ((key, ERRORS[key]) for key in TARGETS):
        r = paper_results(table)
        r = r[r["images_in_dataset"] >= 1e9]
        for slow, fast in PAIRS:
            found = sample_efficiency(
                r["images_seen"], r[column], r["model"], slow=slow, fast=fast, trunk=r["trunk"],
                resamples=resamples, **NOISE,
            )  # fmt: skip
            for row in found.iloc[[0, 2, 4]].itertuples():
                high = "more" if np.isinf(row.high) else f"{row.high:,.0f}"
                rows.append(
                    [name, f"{slow} / {fast}", f"{row.error:.3f}", f"{row.ratio:,.0f}",
                     f"{row.low:,.0f} to {high}"]
                )  # fmt: skip
    return markdown(["", "models", "at error", "ratio", "90 % interval"], rows)


def draw():
    figure, axes = panels(1, 2, 12, 4.3)
    for ax, (table, column) in zip(axes[0], TARGETS, strict=True):
        for name, (images, errors) in curves(table, column).items():
            ax.plot(images, errors, "-o", color=COLOURS[name], label=name, markersize=3.5)
        small_log_axes(ax, xlabel="images seen", ylabel="error", title=ERRORS[table, column])
    name_sizes(figure, axes[0][0])
    return figure
