"""Figure 2 (left): the frontier of all results, our law, and the published one."""

from functools import cache

import numpy as np
from layout import (
    COLOURS,
    ERRORS,
    SIZES,
    between,
    markdown,
    panels,
    percent,
    rms,
    save,
    small_log_axes,
)

from keras_vit_scale.scaling import (
    DoubleSaturatingLaw,
    FrontierFit,
    fit_frontier,
    fit_law,
    paper_results,
    pareto_frontier,
)

#: The laws that the paper prints, C in TPUv3 core-days.
PUBLISHED = {
    ("fewshot", "imagenet_10shot"): DoubleSaturatingLaw(a=0.63, b=0.32, c=0.12, d=0.52),
    ("finetune", "imagenet"): DoubleSaturatingLaw(a=0.26, b=0.35, c=0.09, d=0.01),
}

#: Small models use a core less well: core-days are taken to grow as FLOPs an image to such a power,
#: with g/14 unchanged. 1 is what `paper_results` states.
POWERS = (1.0, 0.9, 0.85, 0.8, 0.75, 0.7)


@cache
def fitted(table: str, column: str, resamples: int) -> FrontierFit:
    """The double-saturating law of one of the paper's errors, C in TPUv3 core-days."""
    r = paper_results(table)
    return fit_frontier(
        r["tpuv3_core_days"], r[column], r["trunk"], law="double-saturating", resamples=resamples
    )


def section(folder, resamples: int) -> list[str]:
    """Lines of the report; the picture is written into `folder`."""
    fits = {key: fitted(*key, resamples) for key in PUBLISHED}
    save(draw(fits), folder / "figure2.png")
    return [
        "## Figure 2: error against compute",
        "",
        "![All results, our law with its 90 % band, and the published law](figure2.png)",
        "",
        *parameters(fits),
        *differences(),
    ]


def draw(fits):
    figure, axes = panels(1, 2, 12.5, 5)
    for ax, ((table, column), fit) in zip(axes[0], fits.items(), strict=True):
        r = paper_results(table)
        compute = r["tpuv3_core_days"]
        for name in [s for s in SIZES if (r["model"] == s).any()]:
            mine = r["model"] == name
            ax.plot(compute[mine], r.loc[mine, column], ".", color=COLOURS[name], label=name)
        on = fit.frontier
        ax.plot(
            compute[on], r.loc[on, column], "o", markersize=7, markerfacecolor="none",
            markeredgecolor="black", markeredgewidth=0.7, label="frontier",
        )  # fmt: skip
        x = np.geomspace(compute.min(), compute.max() * 10, 200)
        ax.fill_between(x, *fit.interval(x), color="crimson", alpha=0.25, linewidth=0)
        ax.plot(x, fit.predict(x), color="crimson", label=f"ours: {fit.law}")
        published = PUBLISHED[table, column]
        ax.plot(x, published.predict(x), "--", color="black", label=f"published: {published}")
        small_log_axes(
            ax, xlabel="TPUv3 core-days (converted)", ylabel="error", title=ERRORS[table, column]
        )
        ax.legend(fontsize=7, ncols=2)
    return figure


def parameters(fits) -> list[str]:
    """Ours and theirs side by side."""
    lines = []
    for (table, column), fit in fits.items():
        published, ends = PUBLISHED[table, column], fit.parameter_intervals()
        rows = [
            [
                name,
                f"{getattr(fit.law, name):.3f}",
                between(*ends[name]),
                f"{getattr(fit.uncorrected, name):.3f}",
                f"{getattr(published, name):.2f}",
                "yes" if ends[name][0] <= getattr(published, name) <= ends[name][1] else "no",
            ]
            for name in fit.law.parameters
        ]
        lines += [
            f"{ERRORS[table, column]}, `E = a (C + d)^-b + c`, {fit.law.points} results touch the "
            f"frontier; noise of a trunk {percent(fit.trunk_noise)}, of a result "
            f"{percent(fit.point_noise)}:",
            "",
            *markdown(
                ["", "ours", "90 % interval", "Pareto points alone", "published", "inside"], rows
            ),
        ]
    return lines


def differences() -> list[str]:
    """What could explain the difference, tried out in numbers."""
    lines = [
        "**Why ours differs.** The paper prints no compute with its results. Ours is FLOPs at one "
        "rate for all sizes, that of g/14 (the one published cost). Three explanations, tried out "
        "on the points of the Pareto frontier (root mean square of log(law / measured)):",
        "",
    ]
    rows = []
    for (table, column), published in PUBLISHED.items():
        r = paper_results(table)
        compute, error = r["tpuv3_core_days"].to_numpy(), r[column].to_numpy()
        name = ERRORS[table, column]
        on = pareto_frontier(compute, error)
        factor, least = best_factor(published, compute[on], error[on])
        rows.append([name, "as stated", off(published, compute, error), law_of(compute, error)])
        rows.append(
            [name, f"core-days x {factor:.2f}, the best factor", percent(least), "the same law"]
        )
        relative = (r["flops"] / r["images_seen"]).to_numpy() / 5.33e11
        for power in POWERS[1:]:
            slower = compute * np.minimum(relative, 1) ** (power - 1)
            rows.append(
                [
                    name,
                    f"core-days as FLOPs^{power}",
                    off(published, slower, error),
                    law_of(slower, error),
                ]
            )
        for label, kept in {
            "only 3 billion images": r["images_in_dataset"] >= 3e9,
            "without 30 million images": r["images_in_dataset"] > 1e8,
            "without s/28 and s/16": ~r["model"].isin(["s/28", "s/16"]),
            "from 1 core-day on": compute >= 1,
        }.items():
            kept = np.asarray(kept)
            rows.append(
                [
                    name,
                    label,
                    off(published, compute[kept], error[kept]),
                    law_of(compute[kept], error[kept]),
                ]
            )
    lines += markdown(["error", "what is changed", "published law off by", "our fit then"], rows)
    return [
        *lines,
        "- *Conversion.* No single factor reconciles them, but a smaller rate for smaller models "
        "does: if core-days grow as FLOPs to the power 0.8 (10-shot) or 0.75 (fine-tuning), so "
        "that s/28 runs at a quarter to a fifth of g/14's rate, our fit becomes nearly the "
        "published law, and its 10-shot parameters nearly the published ones. That is what one "
        "expects of small matrices on a TPU, and it is by far the largest effect. But the power "
        "was looked for, and the real rates are not published.",
        "- *Rows.* Leaving out the small data sets, the smallest models or the cheapest results "
        "moves the exponent by less than 0.02, not by the 0.07 to 0.08 that is missing. Which "
        "points the authors fitted, and with which weights, is not said.",
        '- *Selected luck.* The corrected law ("ours") lies above the law of the Pareto points. '
        "Its exponents are nearer to the published ones by less than half of the way; the floor is "
        "for 10-shot, and for fine-tuning further off.",
        "- *Our intervals* hold what noise could do, given the compute. They say nothing of the "
        "conversion, so most published parameters lie outside of them.",
        "",
    ]


def best_factor(law, compute, error):
    """The factor of compute for which a law lies closest, and how far off it then is."""
    factors = np.geomspace(0.05, 20, 801)
    misses = [rms(np.log(law.predict(k * compute) / error)) for k in factors]
    return factors[np.argmin(misses)], min(misses)


def off(law, compute, error) -> str:
    on = pareto_frontier(compute, error)
    return percent(rms(np.log(law.predict(compute[on]) / error[on])))


def law_of(compute, error) -> str:
    on = pareto_frontier(compute, error)
    return str(fit_law(compute[on], error[on], law="double-saturating"))
