"""Learning curves extrapolated to twice the images seen: `fit_curve` beside each form alone.

    KERAS_BACKEND=jax python benchmarks/curve_extrapolation.py

Simulated curves have 7 to 24 points over a factor of 20 to 1,000 in images and half a percent of
noise. They are drawn from the forms that are fitted, and from two that are not: a broken power law
(two exponents) and a stretched exponential. Each form alone is fitted by least squares in log
error from many starts (as `fit_law` does). Judged is the root mean square log error against the
noiseless curve between one and two times the most images seen; printed is its median over the
curves of a form, and over all. Wanted: the lowest over all, and at most 1.2 times that of the form
that made the curves, on each.

Then the paper's tables: each model and data set is a curve (5- and 10-shot and fine-tuned
errors), from whose first results, at least five, the next one is foretold, if it is at up to 3.4
times the images: error of prediction, median over all.

With `--csv FILE` other curves are judged too, say published ones. Its columns are `domain` (a
title), `curve`, `images`, `error` and `train`: 1 for points that are fitted, 0 for those judged.
"""

import argparse
import datetime
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from devices import cpu_name

from keras_vit_scale.scaling import (
    DoubleSaturatingLaw,
    PowerLawWithFloor,
    SigmoidalLaw,
    fit_curve,
    paper_results,
)
from keras_vit_scale.scaling.fit import fit_vector, unit_free
from keras_vit_scale.scaling.forms import LAWS

#: Half a percent, as a standard deviation of log error.
NOISE = 0.005

#: Fitted beside `fit_curve`.
ALONE = ("power+floor", "double-saturating", "sigmoidal")


def draw_curves(rng):
    """A curve of each form, as functions of images in units of the fewest seen."""
    floor, exponent, start = rng.uniform(0.05, 0.4), rng.uniform(0.25, 0.9), rng.uniform(0.9, 1.0)
    shift = 10 ** rng.uniform(-0.3, 1.3)
    half, alpha, fall = 10 ** rng.uniform(-0.3, 1.2), rng.uniform(0.5, 2.0), rng.uniform(0.4, 1.2)
    first, second = rng.uniform(0.1, 0.3), rng.uniform(0.2, 0.6)
    bend, sharpness = 10 ** rng.uniform(0.3, 1.5), rng.uniform(0.2, 0.6)
    stretch, pace = rng.uniform(0.2, 0.5), 10 ** rng.uniform(0.0, 1.2)
    # The sigmoid passes the middle between floor and ceiling at `half`.
    beta = ((start - floor) / 2) ** (1 - alpha) * half**fall
    return {
        "power+floor": PowerLawWithFloor(rng.uniform(0.4, 0.7), exponent, 0.6 * floor).predict,
        "double-saturating": DoubleSaturatingLaw(
            (0.95 - floor) * shift**exponent, exponent, floor, shift
        ).predict,
        "sigmoidal": SigmoidalLaw(floor, start, alpha, beta, fall).predict,
        "broken": lambda x: (
            0.7 * floor
            + 0.6 * x**-first * (1 + (x / bend) ** (1 / sharpness)) ** (-second * sharpness)
        ),
        "stretched": lambda x: floor + (0.95 - floor) * np.exp(-((x / pace) ** stretch)),
    }


def foretell(images, error, asked):
    """Log errors that each contestant foretells after `asked` images."""
    log_x, scale = unit_free(images)
    there = np.log(asked / scale)
    foretold = {"fit_curve": np.log(fit_curve(images, error).predict(asked))}
    for name in ALONE:
        theta, _ = fit_vector(LAWS[name], log_x, np.log(error), np.ones(len(images)))
        foretold[name] = LAWS[name].log_error(theta, there)[0]
    return foretold


def simulated(curves, seed):
    """Root mean square log errors: by form that made the curves, by contestant, a list."""
    rng, misses = np.random.default_rng(seed), {}
    for _ in range(curves):
        for made, curve in draw_curves(rng).items():
            span = 10 ** rng.uniform(1.3, 3)
            images = np.geomspace(1, span, int(rng.integers(7, 25)))
            noise = np.exp(NOISE * rng.standard_normal(len(images)))
            error = np.minimum(curve(images) * noise, 1)
            asked = np.geomspace(span, 2 * span, 6)[1:]
            for name, log_error in foretell(images, error, asked).items():
                miss = np.sqrt(np.mean((log_error - np.log(curve(asked))) ** 2))
                misses.setdefault(made, {}).setdefault(name, []).append(miss)
    return misses


def published():
    """Absolute log errors for the paper's curves, by table and contestant."""
    four = ("imagenet", "cifar100", "pets", "birds")
    columns = {
        "5-shot": ("fewshot", [f"{name}_5shot" for name in four]),
        "10-shot": ("fewshot", [f"{name}_10shot" for name in four]),
        "fine-tuned": ("finetune", ["imagenet", "imagenet_v2", "imagenet_real"]),
    }
    misses = {}
    for title, (table, names) in columns.items():
        for _, runs in paper_results(table).groupby("trunk"):
            images = runs["images_seen"].to_numpy(float)
            for column in names:
                error = runs[column].to_numpy()
                for end in range(5, len(images)):
                    if images[end] <= 3.4 * images[end - 1]:
                        foretold = foretell(images[:end], error[:end], images[end : end + 1])
                        for name, log_error in foretold.items():
                            miss = float(np.abs(log_error - np.log(error[end]))[0])
                            misses.setdefault(title, {}).setdefault(name, []).append(miss)
    return misses


def from_csv(path):
    """Root mean square log errors for the curves of a file, by domain and contestant."""
    misses = {}
    for (title, _), curve in pd.read_csv(path).groupby(["domain", "curve"]):
        fitted, judged = (curve[curve["train"] == part] for part in (1, 0))
        points = (fitted["images"], fitted["error"], judged["images"])
        for name, log_error in foretell(*(p.to_numpy(float) for p in points)).items():
            miss = np.sqrt(np.mean((log_error - np.log(judged["error"])) ** 2))
            misses.setdefault(title, {}).setdefault(name, []).append(miss)
    return misses


def table_of(misses, total):
    """Medians as Markdown: a row a contestant."""
    names = list(next(iter(misses.values())))
    titles = [f"{made} ({len(m[names[0]])})" for made, m in misses.items()]
    lines = [
        f"| | {' | '.join(titles)} | {total} |",
        "|---|" + "---|" * (len(misses) + 1),
    ]
    for name in names:
        medians = [f"{np.median(m[name]):.2%}" for m in misses.values()]
        everything = np.concatenate([m[name] for m in misses.values()])
        lines.append(f"| {name} | {' | '.join(medians)} | {np.median(everything):.3%} |")
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--curves", type=int, default=300, help="of each form")
    add("--seed", type=int, default=0)
    add("--no-paper", action="store_true", help="leave the paper's tables out")
    add("--csv", type=Path, help="a file of other curves")
    add("--out", type=Path, help="also write what is printed, as Markdown")
    arguments = parser.parse_args()

    started = time.perf_counter()
    misses = simulated(arguments.curves, arguments.seed)
    ratios = [
        f"{made} {np.median(misses[made]['fit_curve']) / np.median(misses[made][made]):.2f}"
        for made in ALONE
    ]
    lines = ["Simulated; columns: the form that made the curves.", "", *table_of(misses, "all")]
    lines += ["", f"fit_curve / the form that made the curves: {', '.join(ratios)}."]
    if not arguments.no_paper:
        lines += ["", "The paper's tables.", "", *table_of(published(), "all")]
    if arguments.csv:
        lines += ["", f"{arguments.csv.name}.", "", *table_of(from_csv(arguments.csv), "all")]
    lines = [
        "# Extrapolation of learning curves",
        "",
        f"{cpu_name()}, {datetime.date.today()}; {arguments.curves:,} curves of each form, seed "
        f"{arguments.seed}; {time.perf_counter() - started:.0f} s.",
        "",
        f"    {shlex.join(['python', 'benchmarks/curve_extrapolation.py', *sys.argv[1:]])}",
        "",
        "Root mean square log error from one to two times the images seen, median over the curves.",
        "",
        *lines,
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
