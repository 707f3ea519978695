"""The long part of the faults: what a machine can do to a run, done many times.

    python tests/faults/run.py --seed 0 --kills 100 --backend jax
    KERAS_BACKEND=torch python tests/faults/run.py --only operations

It prints a line for each kind of fault with the figure reached, and ends with 1 if any run did
not go on as it must. `docs/reliability.md` has the figures of the last time.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import operations
import pairs
import places
import stops
from jobs import JOBS
from kills import campaign
from processes import Server


def tell(line):
    """Says how far it is."""
    print(line, file=sys.stderr, flush=True)


def kills(arguments, root):
    """Kills, shared out among the jobs: half of them to the run, which has most phases."""
    shares = {"run": 0.4, "cooldown": 0.16, "study": 0.24, "fit": 0.2}
    problems, server = [], Server() if arguments.fork else None
    for job in arguments.jobs:
        wanted = round(arguments.kills * shares[job] / sum(shares[j] for j in arguments.jobs))
        figures = campaign(job, root, arguments.backend, arguments.seed, wanted, server, tell)
        print(f"kill -9, {job} on {arguments.backend}: {figures}", flush=True)
        problems += figures.problems
    if server is not None:
        server.close()
    return problems


def each_operation(arguments, root):
    """A kill, then an error, at each file operation of a save. On PyTorch, which can be forked;
    what writes knows no backend."""
    built = operations.model()
    made, problems = operations.killed_at_each(built, root / "kills")
    print(f"killed at each file operation: {sum(made.values())} kills, {made}", flush=True)
    told, harmless, more = operations.failing_at_each(built, root / "errors")
    print(f"errors: {told} told, {harmless} without harm", flush=True)
    return problems + more


def every_stop(arguments, root):
    """Signals in each phase."""
    held, slowest, problems = stops.stopped_in(root, arguments.backend, arguments.seed)
    print(f"signals: {held} of {len(stops.STOPS)} held, the slowest {slowest:.1f} s", flush=True)
    for name, stop in {
        "compiling": lambda: stops.long_in_cpp(root, arguments.backend, "compile"),
        "a long step": lambda: stops.long_in_cpp(root, arguments.backend, "step"),
        "a second signal": lambda: stops.twice(root, arguments.backend),
    }.items():
        code, took = stop()
        print(f"SIGTERM, {name}: exit code {code} after {took:.2f} s", flush=True)
        problems += [f"{name}: exit code {code}, {took:.1f} s"] * (code != 75 or took > 5)
    return problems


def every_place(arguments, root):
    """Places, clocks, owners and damage."""
    held, count, problems = places.every_place(root, arguments.backend, arguments.seed)
    print(f"places: {held} of {count} held", flush=True)
    return problems


def nine_pairs(arguments, root):
    """Saved by one backend, restored by another."""
    held, problems = pairs.every_pair(root)
    print(f"pairs of backends: {held} of 9 bit-equal, and trained on", flush=True)
    return problems


#: Kinds of faults, each a function of the arguments and a folder that returns what went wrong.
KINDS = {
    "kills": kills, "operations": each_operation, "stops": every_stop, "places": every_place,
    "pairs": nine_pairs,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch", choices=["jax", "tensorflow", "torch"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--fork", action="store_true",
        help="victims are forks of one that has imported everything: PyTorch alone, far faster",
    )  # fmt: skip
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    if arguments.fork and arguments.backend != "torch":
        parser.error("--fork is for --backend torch: the others have threads as soon as imported")
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
