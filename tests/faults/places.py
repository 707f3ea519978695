"""Bad places and bad times: full, failing, read-only and oddly named folders, clocks that step
back, two processes in one folder, readers beside a writer, damaged files."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jobs import run_job
from kills import compare, undisturbed
from processes import Victim

FAKETIME = Path("/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@contextmanager
def small_disk(folder, size):
    """A file system of so many bytes."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def started(folder, backend, server=None, out=None, **changes):
    """A victim at the run's job, whose output folder may be elsewhere."""
    arguments = list(run_job(folder))
    if out is not None:
        arguments[arguments.index("--out") + 1] = out
    return Victim(folder, arguments, backend, server=server, **changes)


def full_disk(root, backend, twin, server=None):
    """The disk fills in training; the run says so, and goes on when there is space."""
    folder = root / "full"
    folder.mkdir()
    with small_disk(folder / "out", "240k"):
        first = started(folder, backend, server)
        if first.wait() != 2 or "No space left" not in first.told():
            return f"full disk: exit code {first.wait()}: {first.told()[-300:]}"
        if not list((folder / "out").glob("checkpoints/*/manifest.json")):
            return "full disk: no checkpoint was there before it was full"
        subprocess.run(["mount", "-o", "remount,size=50m", folder / "out"], check=True)
        if started(folder, backend, server).wait():
            return "full disk: did not go on"
        return compare(folder, twin)


def failing_disk(root, backend, twin, call="fsync", error="EIO", when=9):
    """The run's Nth call of a kind fails: exit code 2 with the reason; then it goes on."""
    folder = root / f"{call}-{error}"
    folder.mkdir()
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", os.devnull]
    injection = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}+"]
    first = Victim(folder, run_job(folder), backend, prefix=[*strace, *injection])
    if first.wait() != 2 or "error" not in first.told():
        return f"{call} {error}: exit code {first.wait()}: {first.told()[-300:]}"
    if started(folder, backend).wait():
        return f"{call} {error}: did not go on"
    return compare(folder, twin)


def unwritable(root, backend, server=None):
    """A folder that may not be written, where even root may not: told in a line, exit code 2."""
    folder = root / "unwritable"
    (folder / "out").mkdir(parents=True)
    subprocess.run(["chattr", "+i", folder / "out"], check=True)
    try:
        victim = started(folder, backend, server)
        code, told = victim.wait(), victim.told().strip().splitlines()
    finally:
        subprocess.run(["chattr", "-i", folder / "out"], check=True)
    plain = told and told[-1].startswith("keras-vit-scale: error:") and "out" in told[-1]
    return "" if code == 2 and plain else f"unwritable: exit code {code}: {told[-1:]}"


def odd_names(root, backend, twin, server=None):
    """Spaces, umlauts, signs and 200 letters in the path, killed and run again there."""
    folder = root / "odd"
    folder.mkdir()
    out = folder / "Läufe 走 100 % [a]" / ("x" * 200) / ("y" * 200) / "out"
    first = started(folder, backend, server, out=out)
    first.wait_for("begin", "save", times=3)
    first.kill()
    first.wait()
    if started(folder, backend, server, out=out).wait():
        return "odd names: did not go on"
    shutil.copytree(out, folder / "out")
    return compare(folder, twin)


def clock_back(root, backend, twin):
    """Killed; then the clock is three days earlier, on the other side of the earth."""
    folder = root / "clock"
    folder.mkdir()
    first = started(folder, backend, TZ="Pacific/Auckland")
    first.wait_for("begin", "save", times=3)
    first.kill()
    first.wait()
    changes = {"TZ": "America/Los_Angeles"}
    if FAKETIME.exists():
        changes |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "-3d", "DONT_FAKE_MONOTONIC": "1"}
    last = started(folder, backend, **changes)
    return compare(folder, twin) if last.wait() == 0 else f"clock: {last.told()[-300:]}"


def two_in_one(root, backend, twin, server=None):
    """The second refuses with the owner's name and exit code 2; the first ends as ever."""
    folder = root / "two"
    folder.mkdir()
    first = started(folder, backend, server)
    first.wait_for("begin", "training")
    first.kill(signal.SIGSTOP)
    second = started(folder, backend)
    code, told = second.wait(), second.told()
    first.kill(signal.SIGCONT)
    if code != 2 or f"Another process works in {folder}" not in told:
        return f"two in one: exit code {code}: {told[-300:]}"
    return compare(folder, twin) if first.wait() == 0 else first.told()


def damaged(root, backend, twin, seed=0, server=None):
    """A flipped bit in the newest checkpoint: the run says so, and goes on from the one before."""
    folder = root / "damaged"
    folder.mkdir()
    first = started(folder, backend, server)
    first.wait_for("end", "save", times=4)
    first.kill()
    first.wait()
    newest = sorted((folder / "out" / "checkpoints").glob("step-*/manifest.json"))[-1].parent
    flip(next(newest.glob("*.safetensors")), np.random.default_rng(seed))
    last = started(folder, backend, server)
    if last.wait() or f"{newest.name} cannot be restored" not in last.told():
        return f"damaged: {last.told()[-300:]}"
    return compare(folder, twin)


def flip(path, rng):
    """Flips one bit of the arrays in a safetensors file, and says where."""
    data = bytearray(path.read_bytes())
    first = 8 + int.from_bytes(data[:8], "little")
    place, bit = int(rng.integers(first, len(data))), int(rng.integers(8))
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return place, bit


def every_place(root, backend, seed=0):
    """All of the above; how many held, and what did not."""
    twin = undisturbed("run", root / "run-twin", backend)
    problems = [
        full_disk(root, backend, twin),
        failing_disk(root, backend, twin),
        failing_disk(root, backend, twin, "rename", "ENOSPC", 7),
        unwritable(root, backend),
        odd_names(root, backend, twin),
        clock_back(root, backend, twin),
        two_in_one(root, backend, twin),
        damaged(root, backend, twin, seed),
    ]
    return sum(not p for p in problems), len(problems), [p for p in problems if p]
