"""The long part of the faults: what a machine can do to a run, done many times.

    python tests/faults/run.py --seed 0 --kills 100 --backend jax
    python tests/faults/run.py --only operations errors

It prints a line for each kind of fault with the figure reached, and ends with 1 if any run did
not go on as it must. `docs/reliability.md` has the figures of the last time.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from jobs import JOBS
from kills import campaign


def tell(line):
    """Says how far it is."""
    print(line, file=sys.stderr, flush=True)


def kills(arguments, root):
    """Kills, shared out among the jobs: half of them to the run, which has most phases."""
    shares = {"run": 0.4, "cooldown": 0.16, "study": 0.24, "fit": 0.2}
    problems = []
    for job in arguments.jobs:
        wanted = round(arguments.kills * shares[job] / sum(shares[j] for j in arguments.jobs))
        figures = campaign(job, root, arguments.backend, arguments.seed, wanted, say=tell)
        print(f"kill -9, {job} on {arguments.backend}: {figures}", flush=True)
        problems += figures.problems
    return problems


#: Kinds of faults, each a function of the arguments and a folder that returns what went wrong.
KINDS = {"kills": kills}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch", choices=["jax", "tensorflow", "torch"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for kind in arguments.only:
            began = time.monotonic()
            root = Path(folder, kind)
            root.mkdir()
            problems += KINDS[kind](arguments, root)
            print(f"{kind}: {time.monotonic() - began:.0f} s", flush=True)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
