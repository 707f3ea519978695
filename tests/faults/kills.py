"""`kill -9` at random moments of every phase; what goes on from there ends as its twin."""

import random
import signal
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from exact import differences, left_by, samples
from jobs import JOBS, PHASES, RECURRING
from processes import Victim, spans


@dataclass
class Figures:
    """What a campaign has reached."""

    kills: int = 0
    runs: int = 0
    exact: int = 0
    deaths: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self):
        deaths = ", ".join(f"{phase} {n}" for phase, n in sorted(self.deaths.items()))
        return f"{self.kills} kills ({deaths}); {self.exact} of {self.runs} runs ended EXACT"


def undisturbed(job, folder, backend, server=None, **changes):
    """The twin: folder, how long its phases took, what it left, and what its steps were given."""
    folder.mkdir(parents=True)
    victim = Victim(folder, JOBS[job](folder), backend, server=server, **changes)
    if (code := victim.wait()) != 0:
        raise RuntimeError(f"exit code {code}: {victim.told()}")
    taken = {phase: statistics.median(times) for phase, times in spans(victim).items()}
    # The first save of a run is not the rule; a life that goes on restores in about its time.
    return {"restore": taken.get("save", 0.1), **taken}, left_by(folder / "out"), samples(folder)


def compare(folder, twin):
    """What is not as the twin's, in words; nothing if all is."""
    _, left, batches = twin
    try:
        found = differences(samples(folder), batches)
    except AssertionError as error:
        return str(error)
    wrong = [f"batch of step {step}" for step in found] + differences(left_by(folder / "out"), left)
    return f"{folder}: {len(wrong)} things differ: {', '.join(wrong[:5])}" if wrong else ""


def kill_at_random(victim, phase, taken, rng):
    """Kills in a phase, or soon after; whether there was still somebody to kill."""
    if not victim.wait_for("begin", phase, times=rng.randint(1, 1 + (phase in RECURRING))):
        return False
    time.sleep(rng.random() * taken.get(phase, 1.0))
    if victim.process.poll() is not None:
        return False
    victim.kill()
    return victim.wait() == -signal.SIGKILL


def campaign(job, root, backend, seed, kills, server=None, say=lambda line: None, **changes):
    """Kills a job so often, in its phases in turn, over as many runs as that takes."""
    rng, figures = random.Random(f"{seed} {job}"), Figures()
    twin = undisturbed(job, root / f"{job}-twin", backend, server, **changes)
    while figures.kills < kills:
        folder = root / f"{job}-{figures.runs}"
        folder.mkdir()
        arguments = JOBS[job](folder)
        phases = PHASES[job][figures.runs % len(PHASES[job])]
        for phase in phases[: kills - figures.kills]:
            victim = Victim(folder, arguments, backend, server=server, **changes)
            if not kill_at_random(victim, phase, twin[0], rng):
                break
            figures.kills += 1
            figures.deaths[victim.phase()] += 1
        victim = Victim(folder, arguments, backend, server=server, **changes)
        code = victim.wait()
        problem = f"{folder}: exit code {code}: {victim.told()[-500:]}" if code else ""
        problem = problem or compare(folder, twin)
        figures.runs += 1
        figures.exact += not problem
        figures.problems += [problem] if problem else []
        say(f"{job} on {backend}: {figures}")
    return figures
