"""The law on the other data sets: CIFAR-100, Pets and Birds, ImageNet-v2 and ReaL."""

import numpy as np
from figure2 import fitted
from layout import COLOURS, ERRORS, SIZES, between, markdown, panels, percent, save, small_log_axes

from keras_vit_scale.scaling import paper_results


def section(folder, resamples: int) -> list[str]:
    """Lines of the report; the picture is written into `folder`."""
    fits = {key: fitted(*key, resamples) for key in ERRORS}
    save(draw(fits), folder / "tasks.png")
    rows = []
    for (table, column), fit in fits.items():
        ends = fit.parameter_intervals()
        rows.append(
            [
                ERRORS[table, column],
                str(fit.law),
                between(*ends["b"], ".2f"),
                between(*ends["c"], ".3f"),
                percent(fit.law.rms_log_error),
                f"{paper_results(table)[column].min():.3f}",
                " ".join(w.split(" is not determined")[0] for w in fit.law.warnings) or "",
            ]
        )
    return [
        "## Other data sets",
        "",
        "![The frontier and its law on eleven errors](tasks.png)",
        "",
        *markdown(
            [
                "error",
                "law (C in core-days)",
                "b, 90 %",
                "c, 90 %",
                "off (rms)",
                "best measured",
                "not determined",
            ],
            rows,
        ),
        "The form fits everywhere, to 2 to 8 %; the exponent is no constant of nature. On "
        "CIFAR-100 and Pets the law is told by few points at the end: there are only seven results "
        "of g/14 and G/14, and no fine-tuned ones. `off` includes what the noise of trunks does.",
        "",
    ]


def draw(fits):
    figure, axes = panels(3, 4, 11.5, 7.3)
    for ax, ((table, column), fit) in zip(axes.flat, fits.items(), strict=False):
        r = paper_results(table)
        compute = r["tpuv3_core_days"]
        for name in [s for s in SIZES if (r["model"] == s).any()]:
            mine = r["model"] == name
            ax.plot(compute[mine], r.loc[mine, column], ".", color=COLOURS[name], markersize=3)
        x = np.geomspace(compute.min(), compute.max() * 10, 100)
        ax.fill_between(x, *fit.interval(x), color="crimson", alpha=0.3, linewidth=0)
        ax.plot(x, fit.predict(x), color="crimson", linewidth=1)
        small_log_axes(ax)
        ax.set_title(ERRORS[table, column], fontsize=9)
    for name in SIZES:
        axes.flat[-1].plot([], [], ".", color=COLOURS[name], label=name)
    axes.flat[-1].legend(ncols=2, loc="center")
    axes.flat[-1].set_axis_off()
    return figure
