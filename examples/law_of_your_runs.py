"""A law of the results in a CSV file, asked for what more compute would bring.

    python examples/law_of_your_runs.py
    python examples/law_of_your_runs.py yours.csv --compute flops --figure law.png

What `keras-vit-scale law fit` does, in the parts that it is made of. Without a file it takes
`runs.csv` beside it: invented results of three models. Some seconds on two cores.
"""

import argparse
from pathlib import Path

from keras_vit_scale.scaling import draw_frontier, fit_frontier, read_groups


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", default=Path(__file__).parent / "runs.csv")
    parser.add_argument("--compute", default="gpu_hours", help="column of compute, in any unit")
    parser.add_argument("--accuracy", default="top1", help="column of accuracies")
    parser.add_argument("--trunk", default="run", help="column of what shares a run")
    parser.add_argument("--size", default="model", help="column of sizes")
    parser.add_argument("--percent", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--figure", type=Path, help="draw results and law to this file")
    arguments = parser.parse_args()

    groups = read_groups(
        arguments.results,
        arguments.compute,
        accuracy=arguments.accuracy,
        percent=arguments.percent,
        trunk=arguments.trunk,
        size=arguments.size,
    )
    for name, points in groups.items():
        compute, error = points["compute"], points["error"]
        fit = fit_frontier(compute, error, points["trunk"], points["size"])
        print(f"{name}: {fit.law}")
        for warning in fit.warnings:
            print(f"  beware: {warning}")
        most = compute.max()
        for times in (1, 2, 4, 10):
            low, high = fit.interval(times * most)
            print(
                f"  {times:>2} times the most compute: error {fit.predict(times * most):.3f}, "
                f"90 % {low:.3f} to {high:.3f}"
            )
        if arguments.figure is not None:
            ax = draw_frontier(
                compute, error, points["size"], fit,
                compute_label=arguments.compute, trunks=points["trunk"],
            )  # fmt: skip
            ax.figure.savefig(arguments.figure, dpi=150)


if __name__ == "__main__":
    main()
