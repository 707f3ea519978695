"""Chooses a peak rate for every size of a study, on a split of the data that it does not use.

    python examples/choose_rates.py digits --steps 400

Every size is trained at every rate with two seeds; the rate with the smallest mean few-shot
error on the study's first task wins. A scaling law must not measure mistuning: a winner at the
edge of the grid is marked, since a better rate may lie beyond it. A quarter of an hour on two
cores for the digits.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

from keras_vit_scale.scaling import collect_results, load_config, run_study

#: Factors of two over two decades.
_RATES = [1e-3 * 2**i for i in range(7)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", help="a YAML file or a built-in study")
    parser.add_argument("--steps", type=int, required=True, help="length of every run")
    parser.add_argument("--sizes", nargs="+", help="only these sizes")
    parser.add_argument("--rates", type=float, nargs="+", default=_RATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()

    study = load_config(arguments.study)
    study = dataclasses.replace(
        study,
        sizes=tuple(arguments.sizes or study.sizes),
        durations=(arguments.steps,),
        seeds=tuple(arguments.seeds),
        # Other held-out images than the study's: its probe must not choose its rates.
        data=dataclasses.replace(study.data, split_seed=study.data.split_seed + 1),
    )
    errors = {size: {} for size in study.sizes}
    for rate in sorted(arguments.rates):
        recipe = dataclasses.replace(study.recipe, peak=rate, peaks={})
        with tempfile.TemporaryDirectory() as folder:
            run_study(dataclasses.replace(study, recipe=recipe), Path(folder))
            results = collect_results(folder)
        first = results["task"] == study.data.tasks()[0]
        shown = results[first & (results["shots"] == max(study.probe.shots))]
        for size, error in shown.groupby("size")["error"].mean().items():
            errors[size][rate] = error
            print(f"{size:>10}  peak {rate:<8g} error {error:.4f}", flush=True)
    print("\npeaks:")
    for size, by_rate in errors.items():
        best = min(by_rate, key=by_rate.get)
        edge = "" if min(by_rate) < best < max(by_rate) else "   # at the edge of the grid"
        print(f"  {size}: {best:g}{edge}")


if __name__ == "__main__":
    main()
