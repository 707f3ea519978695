"""Whether the intervals of a fitted frontier keep what they promise, on studies with a known law.

    KERAS_BACKEND=jax python benchmarks/law_coverage.py

Each simulated study has a law `E = a (C + d)^-b + c` drawn at random, 4 to 8 trunks with 15 to 60
results in all, and noise of 1 to 3 % that the results of a trunk share. Five ways in which results
may lie about their frontier are simulated:

- `on`: all results lie on the law, each trunk along a stretch of its own, overlapping;
- `across`: all results lie on the law, every trunk along all of it;
- `sizes`: a trunk is one size, above the law but where it is the best one, densely sampled;
- `sparse`: the same with a deeper valley a size, so the frontier changes hands abruptly;
- `seeds`: as `sizes`, with two seeds of each size.

For each, `fit_frontier` is asked for 90 % intervals of the error at five amounts of compute inside
the range and at ten times its end, and of the parameters. Printed: how often they hold the truth
(wanted: 87 to 93 % inside, 80 to 95 % at ten times), how far the prediction at ten times lies off
on average (wanted: below 2 %), the same for the Pareto frontier's own law, uncorrected, and the
intervals' half width. With `--time` 1,000 resamples of the paper's 262 rows are timed too.
"""

import argparse
import datetime
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from devices import cpu_name

from keras_vit_scale.scaling import DoubleSaturatingLaw, fit_frontier, paper_results

LAYOUTS = ("on", "across", "sizes", "sparse", "seeds")
PARAMETERS = ("b", "c", "d")


def draw_law(rng):
    """A law, and the least and largest compute of a study of it."""
    while True:
        b, c, a = rng.uniform(0.2, 0.5), rng.uniform(0.03, 0.15), rng.uniform(0.2, 0.8)
        d = 10 ** rng.uniform(-1.5, 0.5)
        law = DoubleSaturatingLaw(a, b, c, d)
        least = d * 10 ** rng.uniform(-0.3, 1.0)
        most = least * 10 ** rng.uniform(2.5, 4.5)
        first, last = law.predict([least, most])
        if first < 0.85 and first > 1.5 * last:
            return law, least, most


def draw_study(rng, layout):
    """A law, and the compute, error, trunk and size of the results of a study of it."""
    law, least, most = draw_law(rng)
    count, trunks = int(rng.integers(15, 61)), int(rng.integers(4, 9))
    noise = rng.uniform(0.01, 0.03)
    seeds = 2 if layout == "seeds" else 1
    sizes = max(3, trunks // seeds)
    ends = np.log([least, most])
    stretch = np.diff(ends)[0] / sizes
    compute, behind, trunk, size = [], [], [], []
    for i, part in enumerate(np.array_split(np.arange(count), sizes * seeds)):
        middle = ends[0] + (i // seeds + 0.5) * stretch
        reach = {"on": 1.0, "across": np.inf}.get(layout, 1.3) * stretch
        x = np.linspace(max(ends[0], middle - reach), min(ends[1], middle + reach), len(part))
        depth = {"sizes": 0.02, "seeds": 0.02, "sparse": 0.05}.get(layout, 0.0)
        compute.extend(np.exp(x))
        behind.extend(depth * (x - middle) ** 2)
        trunk.extend([i] * len(part))
        size.extend([i // seeds] * len(part))
    compute, behind, trunk = np.array(compute), np.array(behind), np.array(trunk)
    shared = noise * rng.standard_normal(trunk.max() + 1)
    error = law.predict(compute) * np.exp(behind + shared[trunk])
    return law, compute, np.minimum(error, 1.0), trunk, np.array(size)


def judge(layout, studies, resamples, seed):
    """What `fit_frontier` says of many studies, against what is true: one dict a study."""
    rng = np.random.default_rng([seed, LAYOUTS.index(layout)])
    judged, refused = [], 0
    while len(judged) < studies:
        truth, compute, error, trunk, size = draw_study(rng, layout)
        try:
            fit = fit_frontier(compute, error, trunk, size, resamples=resamples, seed=len(judged))
        except ValueError:
            refused += 1
            continue
        asked = np.geomspace(compute.min(), compute.max(), 7)[1:-1]
        asked = np.append(asked, 10 * compute.max())
        low, high = fit.interval(asked)
        true = truth.predict(asked)
        held = (low <= true) & (true <= high)
        told = " ".join(fit.warnings)
        ends = fit.parameter_intervals()
        judged.append(
            {
                "inside": held[:-1].mean(),
                "beyond": held[-1],
                "off": np.log(fit.predict(asked) / true),
                "uncorrected": np.log(fit.uncorrected.predict(asked) / true),
                "width": np.log(high / low) / 2,
                **{
                    name: ends[name][0] <= getattr(truth, name) <= ends[name][1]
                    for name in PARAMETERS
                },
                **{
                    f"{name} determined": f" {name} is not determined" not in told
                    for name in PARAMETERS
                },
            }
        )
    return judged, refused


def rows_of(layout, judged, refused):
    """A row of each table."""

    def of(name):
        return np.array([j[name] for j in judged])

    off, plain, width = of("off"), of("uncorrected"), np.median(of("width"), axis=0)
    predictions = (
        f"| {layout} | {of('inside').mean():.1%} | {of('beyond').mean():.1%} | "
        f"{off[:, :-1].mean():+.2%} | {off[:, -1].mean():+.2%} | {plain[:, :-1].mean():+.2%} | "
        f"{plain[:, -1].mean():+.2%} | {width[:-1].mean():.1%} | {width[-1]:.1%} | {refused} |"
    )
    cells = []
    for name in PARAMETERS:
        held, known = of(name), of(f"{name} determined")
        among = f"{held[known].mean():.1%}" if known.any() else "none"
        cells.append(f"{held.mean():.1%} | {among} of {known.sum()}")
    return predictions, f"| {layout} | {' | '.join(cells)} |"


def timed(resamples):
    """Seconds of the bootstrap of the paper's 262 few-shot results."""
    results = paper_results("fewshot")
    columns = (results[name] for name in ("tpuv3_core_days", "imagenet_10shot", "trunk", "model"))
    given = list(columns)
    start = time.perf_counter()
    fit_frontier(*given[:3], resamples=resamples)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--studies", type=int, default=200, help="of each layout")
    add("--resamples", type=int, default=300, help="of each study")
    add("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    add("--seed", type=int, default=0)
    add("--time", action="store_true", help="also time 1,000 resamples of the paper's results")
    add("--out", type=Path, help="also write what is printed, as Markdown")
    arguments = parser.parse_args()

    started = time.perf_counter()
    predictions, parameters = [], []
    for layout in arguments.layouts:
        judged, refused = judge(
            layout, arguments.studies, arguments.resamples, arguments.seed
        )  # fmt: skip
        for table, row in zip(
            (predictions, parameters), rows_of(layout, judged, refused), strict=True
        ):
            table.append(row)
    lines = [
        "# Coverage of the intervals of a frontier's law",
        "",
        f"{cpu_name()}, {datetime.date.today()}; {arguments.studies:,} simulated studies of each "
        f"layout, {arguments.resamples} resamples of each, seed {arguments.seed}; "
        f"{time.perf_counter() - started:.0f} s.",
        "",
        f"    {shlex.join(['python', 'benchmarks/law_coverage.py', *sys.argv[1:]])}",
        "",
        "90 % intervals of the error that hold the truth, at five amounts of compute inside the",
        "range and at ten times its end; mean log error of the prediction there, of the law that",
        "is given and of the Pareto frontier's own; half width of the intervals (median); studies",
        "refused besides.",
        "",
        "| layout | held inside | held at 10x | bias inside | bias at 10x | Pareto inside | "
        "Pareto at 10x | half width inside | at 10x | refused |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *predictions,
        "",
        "90 % intervals of the parameters that hold the truth: of all studies, and of those in",
        "which no warning says that the parameter is not determined.",
        "",
        "| layout | b | b determined | c | c determined | d | d determined |",
        "|---|---|---|---|---|---|---|",
        *parameters,
    ]
    if arguments.time:
        lines += ["", f"1,000 resamples of the paper's 262 results: {timed(1000):.1f} s."]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
