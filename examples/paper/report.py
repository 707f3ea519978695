"""The paper's results, its laws and its figures, computed anew from the tables that it prints.

    KERAS_BACKEND=jax python examples/paper/report.py --out docs/paper_results

Writes README.md and pictures; the same text every time.
"""

import argparse
from pathlib import Path

import efficiency
import extrapolation
import figure2
import size_or_data
import tasks

SECTIONS = {
    "figure2": figure2,
    "extrapolation": extrapolation,
    "figure3": efficiency,
    "bottlenecks": size_or_data,
    "tasks": tasks,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("docs/paper_results"), help="folder to write")
    add("--resamples", type=int, default=1000, help="of the intervals; a tenth for hidden results")
    add("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    lines = [
        "# The paper's results, computed anew",
        "",
        "From the tables that *Scaling Vision Transformers* (Zhai et al., arXiv 2106.04560) "
        "prints: 262 "
        "few-shot and 258 fine-tuning results (`scaling.paper_results`, which says how compute is "
        f"derived). {arguments.resamples:,} resamples, seed 0. This page is written by",
        "",
        f"    python examples/paper/report.py --resamples {arguments.resamples}",
        "",
    ]
    for name in arguments.sections:
        lines += SECTIONS[name].section(arguments.out, arguments.resamples)
    page = arguments.out / "README.md"
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"Wrote {page} with {len(arguments.sections)} sections")


if __name__ == "__main__":
    main()
