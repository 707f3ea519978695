"""Does a law fitted without the largest size predict it? Any study with its results can be asked.

    python examples/hide_the_largest_size.py examples/fashion_mnist --figure hidden.png

The law is fitted to the frontier of the other sizes. It is then asked for the errors of the
largest size where that one is on the frontier of all: there the law, which describes the best
result for an amount of compute, says something about it.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from keras_vit_scale.scaling import fit_law, pareto_frontier
from keras_vit_scale.scaling.figure import draw_frontier
from keras_vit_scale.scaling.results import study_points


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="folder with a study's results.csv")
    parser.add_argument("--task", help="the probed data set; by default the study's first")
    parser.add_argument("--shots", type=int, help="by default the most")
    parser.add_argument("--figure", type=Path, help="draw points and law to this file")
    arguments = parser.parse_args()

    results = pd.read_csv(arguments.study / "results.csv")
    task = arguments.task or results["task"].iloc[0]
    shots = arguments.shots or int(results["shots"].max())
    points = study_points(results, task, shots)
    if points.empty:
        known = sorted(set(zip(results["task"], results["shots"], strict=True)))
        parser.error(f"no results for {task!r} with {shots} shots; there are {known}")
    flops, error = points["flops"].to_numpy(float), points["error"].to_numpy(float)
    largest = points["size"].iloc[-1]
    hidden = (points["size"] == largest).to_numpy()

    others = pareto_frontier(flops[~hidden], error[~hidden])
    law = fit_law(flops[~hidden][others], error[~hidden][others])
    print(f"Law without {largest}, {shots}-shot error ({task}): {law}")
    print(f"  its {law.points} points lie {law.rms_log_error:.1%} off (rms)")
    asked = [i for i in pareto_frontier(flops, error) if hidden[i]]
    print(f"{largest} on the frontier of all sizes:")
    print(f"  {'steps':>8} {'FLOPs':>9} {'measured':>9} {'predicted':>9} {'off':>7}")
    for i in asked:
        predicted = law.predict(flops[i])
        print(
            f"  {points['steps'].iloc[i]:>8,} {flops[i]:>9.3g} {error[i]:>9.4f} "
            f"{predicted:>9.4f} {predicted / error[i] - 1:>+7.1%}"
        )
    if asked:
        off = np.log(law.predict(flops[asked]) / error[asked])
        reach = flops[asked].max() / flops[~hidden][others].max()
        print(f"  {np.sqrt(np.mean(off**2)):.1%} off (rms), up to {reach:.3g} times the compute")
    else:
        print("  nowhere: train it for longer")
    if arguments.figure is not None:
        title = f"{shots}-shot error ({task}); law without {largest}"
        ax = draw_frontier(flops, error, points["size"], law, error_label=title, core_days=True)
        ax.figure.savefig(arguments.figure, dpi=150)


if __name__ == "__main__":
    main()
