"""Advice on the paper's tables, with results hidden: how good is the size that it names?

    python benchmarks/advice.py

For budgets over the range of a table, results near the budget (within a factor of 1.5), or all
above a half or a fifth of it, are hidden. Each method then names a size. What that size really
reaches with the budget is read off its own measured results, log-linearly between them; so is what
the best size reaches. Only sizes whose measured runs enclose the budget can be named.
"""

import argparse
import datetime
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from devices import cpu_name
from peers import command

from keras_vit_scale.scaling import fit_curve, fit_joint_law, fit_surface, paper_results
from keras_vit_scale.scaling.basis import PAPER_TASKS

TASKS = ("imagenet_10shot", "imagenet", "cifar100_10shot", "birds_10shot")
HIDDEN = {
    "within 1.5x": lambda flops, budget: np.abs(np.log(flops / budget)) < np.log(1.5),
    "above half": lambda flops, budget: flops >= budget / 2,
    "above a fifth": lambda flops, budget: flops >= budget / 5,
}


def surface(seen, asked):
    """The error surface, which `advise` uses."""
    fitted = fit_surface(
        seen["size"], seen["forward"], seen["parameters"], seen["images_seen"], seen["error"],
        seen["images_in_dataset"],
    )  # fmt: skip
    return fitted.predict(
        asked["size"], asked["forward"], asked["parameters"], asked["images_seen"], 3e9
    )[0]


def joint(seen, asked):
    """The joint law in parameters and images."""
    seen = most_data(seen)
    law = fit_joint_law(seen["parameters"], seen["images_seen"], seen["error"])
    return np.log(law.predict(asked["parameters"], asked["images_seen"]))


def curves(seen, asked):
    """A learning curve for each size; sizes without one are not named."""
    seen, found = most_data(seen), []
    for row in asked.itertuples():
        runs = seen[seen["size"] == row.size_]
        try:
            found.append(
                np.log(fit_curve(runs["images_seen"], runs["error"]).predict(row.images_seen))
            )
        except ValueError:
            found.append(np.inf)
    return np.array(found)


def most_data(table):
    """Of each size and duration the result with the largest data set."""
    return table.sort_values("images_in_dataset").groupby(["size", "steps"], as_index=False).tail(1)


def judge(table, method, hidden, budgets):
    """Log ratios of the error of the named size to the best, and of predicted to real error."""
    real = {size: runs.sort_values("flops") for size, runs in most_data(table).groupby("size")}
    lost, off = [], []
    for budget in np.geomspace(table["flops"].min() * 3, table["flops"].max() * 0.9, budgets):
        asked = []
        for size, runs in real.items():
            if runs["flops"].iloc[0] <= budget <= runs["flops"].iloc[-1]:
                reached = np.interp(np.log(budget), np.log(runs["flops"]), np.log(runs["error"]))
                forward, n = runs["forward"].iloc[0], runs["parameters"].iloc[0]
                asked.append((size, forward, n, budget / 3 / forward, reached))
        seen = table[~hidden(table["flops"], budget)]
        if len(asked) < 2 or len(seen) < 20:
            continue
        columns = ["size", "forward", "parameters", "images_seen", "reached"]
        asked = pd.DataFrame(asked, columns=columns)
        asked["size_"] = asked["size"]
        expected = method(seen, asked)
        named = int(np.argmin(expected))
        if np.isfinite(expected[named]):
            lost.append(asked["reached"][named] - asked["reached"].min())
            off.append(expected[named] - asked["reached"][named])
    return np.array(lost), np.array(off)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=list(PAPER_TASKS), default=TASKS, metavar="TASK",
        help="columns of the paper's tables")  # fmt: skip
    add("--budgets", type=int, default=25, help="over the range of a table")
    add("--out", type=Path, help="also write what is printed, as Markdown")
    arguments = parser.parse_args()
    lines = [
        "| error | hidden | method | budgets | lost, mean | lost, most | prediction off, rms |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for task in arguments.tasks:
        table = paper_results(PAPER_TASKS[task][0])
        table = table.assign(
            size=table["model"], error=table[task],
            forward=table["flops"] / table["images_seen"] / 3,
        )  # fmt: skip
        for name, hidden in HIDDEN.items():
            for method in (surface, curves, joint):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    lost, off = judge(table, method, hidden, arguments.budgets)
                if not len(lost):
                    raise SystemExit(f"No budget of {task} can be judged: give more --budgets")
                lines.append(
                    f"| {task} | {name} | {method.__name__} | {len(lost)} | {lost.mean():.1%} | "
                    f"{lost.max():.1%} | {np.sqrt(np.mean(off**2)):.1%} |"
                )
                print(lines[-1], flush=True)
    if arguments.out:
        heading = [
            "# Advice on hidden results of the paper", "",
            f"{cpu_name()}, {datetime.date.today()}.", "", f"    {command()}", "",
            "`lost`: by how much the error of the named size exceeds the best size's.", "",
        ]  # fmt: skip
        arguments.out.write_text("\n".join([*heading, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
