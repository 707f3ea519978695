"""What to train for each of several budgets, from the paper's results or from your study's.

    python examples/choose_for_a_budget.py
    python examples/choose_for_a_budget.py "1 A100 day" "1 A100 week" --images 1281167
    python examples/choose_for_a_budget.py "2e12 FLOPs" --study digits-study

Some seconds on two cores.
"""

import argparse

from keras_vit_scale.scaling import advise

COLUMNS = "{:20} {:>9} {:>12} {:>9} {:>18}  {}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("budgets", nargs="*", default=["1 H100 day", "8 H100 days", "64 H100 days"])
    parser.add_argument("--images", type=float, help="images in your data set")
    parser.add_argument("--study", help="folder of a study, in place of the paper's results")
    arguments = parser.parse_args()

    print(COLUMNS.format("budget", "size", "steps", "error", "90 % of a run", "within noise of it"))
    for budget in arguments.budgets:
        advice = advise(budget, arguments.study, images=arguments.images)
        low, high = advice.best.interval
        same = [plan.size for plan in advice.alternatives if advice.same(plan)]
        print(
            COLUMNS.format(
                budget, advice.best.size, f"{advice.best.steps:,}", f"{advice.best.error:.3f}",
                f"{low:.3f} to {high:.3f}", ", ".join(same) or "-",
            )
        )  # fmt: skip
    print(f"{advice.measure}; {advice.source}")


if __name__ == "__main__":
    main()
