"""Signals and limits in every phase: the exit code, in time, and the end as the twin's."""

import random
import signal
import time
from pathlib import Path

from jobs import JOBS
from kills import compare, undisturbed
from processes import Victim

#: Seconds that a victim has from a signal on, and those that the machine may take besides.
GRACE, MARGIN = 25.0, 2.0
CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}

#: Jobs, their phases and the signals that come there.
STOPS = (
    ("run", "start-up", signal.SIGTERM), ("run", "start-up", signal.SIGINT),
    ("run", "training", signal.SIGTERM), ("run", "training", signal.SIGINT),
    ("run", "evaluation", signal.SIGTERM), ("run", "save", signal.SIGTERM),
    ("run", "restore", signal.SIGTERM), ("run", "model", signal.SIGTERM),
    ("cooldown", "training", signal.SIGTERM), ("fit", "training", signal.SIGTERM),
    ("study", "trunk", signal.SIGTERM), ("study", "branch", signal.SIGINT),
    ("study", "report", signal.SIGTERM),
)  # fmt: skip


def stopped_in(root, backend, seed, stops=STOPS, server=None, say=print):
    """Stops each job in each phase and lets it go on; how often that held, and what did not."""
    rng, twins, held, slowest, problems = random.Random(f"{seed} stops"), {}, 0, 0.0, []
    for i, (job, phase, number) in enumerate(stops):
        if job not in twins:
            twins[job] = undisturbed(job, root / f"{job}-twin", backend, server)
        folder = root / f"{i}-{job}-{phase}"
        folder.mkdir()
        arguments = JOBS[job](folder)
        name = f"{signal.Signals(number).name} in {phase} of {job}"
        if phase == "restore":
            victim = Victim(folder, arguments, backend, server=server)
            victim.wait_for("begin", "evaluation")
            victim.kill()
            victim.wait()
        code, took = stop(Victim(folder, arguments, backend, server=server), phase, number,
                          twins[job][0], rng)  # fmt: skip
        last = Victim(folder, arguments, backend, server=server)
        # When all is done and Python ends, a signal changes nothing any more.
        right = {CODES[number]} | ({0} if phase in ("model", "report") else set())
        if code not in right or took > GRACE + MARGIN:
            problems.append(f"{name}: exit code {code} after {took:.1f} s")
        elif last.wait() != 0:
            problems.append(f"{name}: then {last.told()[-300:]}")
        elif problem := compare(folder, twins[job]):
            problems.append(f"{name}: {problem}")
        else:
            held += 1
        last.wait()
        slowest = max(slowest, took)
        say(f"{name}: exit code {code} after {took:.2f} s")
    return held, slowest, problems


def stop(victim, phase, number, taken, rng):
    """Exit code and seconds after a signal somewhere in a phase."""
    if phase == "start-up":
        # Not before Python itself has started and the handlers are there.
        victim.wait_until(lambda: bool(victim.lines()))
        time.sleep(0.2)
    else:
        victim.wait_for("begin", phase)
    time.sleep(0.5 * rng.random() * taken.get(phase, 0.1))
    began = time.monotonic()
    victim.kill(number)
    return victim.wait(), time.monotonic() - began


def long_in_cpp(root, backend, what):
    """SIGTERM while a step compiles or computes for long; exit code and seconds."""
    folder = Path(root, f"slow-{what}")
    folder.mkdir()
    changes = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_FLAGS": ""}
    victim = Victim(folder, ("slow", what, folder / "out"), backend, **changes)
    victim.wait_for("begins", "1" if what == "compile" else "2")
    time.sleep(1.0)
    began = time.monotonic()
    victim.kill(signal.SIGTERM)
    return victim.wait(), time.monotonic() - began


def twice(root, backend):
    """A second signal while the first's step is under way; exit code and seconds from it."""
    folder = Path(root, "twice")
    folder.mkdir()
    victim = Victim(folder, ("slow", "step", folder / "out"), backend)
    victim.wait_for("begins", "2")
    victim.kill(signal.SIGTERM)
    victim.wait_until(lambda: "stopping after this step" in victim.told())
    began = time.monotonic()
    victim.kill(signal.SIGTERM)
    return victim.wait(), time.monotonic() - began
