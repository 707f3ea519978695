"""Plants known faults in a copy of the package, one at a time, and sees whether tests notice.

    python tests/mutations/plant.py                 all faults of `planted.py`: half an hour
    python tests/mutations/plant.py optimizers ema  those whose file or words hold one of these
    python tests/mutations/plant.py --check         only whether each fault can still be planted

A fault that its tests let pass is a hole: add a test with an oracle of its own. Where the code of
a fault has changed, nothing is run until the table is mended. The exit code is 0 if all are caught.
"""

import argparse
import compileall
import multiprocessing
import os
import py_compile
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from planted import FAULTS

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("keras_vit_scale", "keras_vit_scale_command.py", "tests", "docs", "benchmarks",
          "examples", "README.md", "pyproject.toml")  # fmt: skip

#: What tests import, imported once: that takes longer than most tests.
LIBRARIES = ("keras", "optax", "scipy.stats", "scipy.ndimage", "pandas", "grain",
             "sklearn.linear_model", "matplotlib.pyplot", "tyro", "pydantic", "PIL.Image",
             "pytest")  # fmt: skip

#: Forked processes share what their parent has imported.
FORK = multiprocessing.get_context("fork")

#: Seconds after which a run is given up: a fault may make a loop endless.
LIMIT = 300


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("words", nargs="*", help="plant only faults with one of these words")
    options.add_argument("--check", action="store_true", help="plant nothing")
    options.add_argument("--no-baseline", action="store_true", help="trust that all tests pass")
    chosen = options.parse_args()
    faults = [f for f in FAULTS if not chosen.words or any(w in f.label for w in chosen.words)]
    stale = [fault for fault in faults if not can_be_planted(fault)]
    for fault in stale:
        print(f"stale    {fault.label}")
    if stale or chosen.check:
        print(f"{len(faults)} faults, {len(stale)} of which the code has moved away from")
        return 1 if stale else 0
    outcomes = FORK.Queue()
    for backend in sorted({fault.backend for fault in faults}):
        mine = [fault for fault in faults if fault.backend == backend]
        # Forked while this process has no library loaded yet, since each chooses its backend.
        process = FORK.Process(target=serve, args=(backend, mine, not chosen.no_baseline, outcomes))
        process.start()
        process.join()
    counts = Counter(outcomes.get() for _ in range(outcomes.qsize()))
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 0 if counts["caught"] == len(faults) else 1


def can_be_planted(fault) -> bool:
    """Whether the old text is there exactly once, and what the new one makes of it is Python."""
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        return False
    compile(text.replace(fault.old, fault.new), fault.file, "exec")
    return True


def serve(backend, faults, baseline, outcomes) -> None:
    """Plants faults in one process that has the libraries of a backend, forked for each."""
    os.environ |= {
        "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"
    }  # fmt: skip
    sys.dont_write_bytecode = True
    for library in LIBRARIES:
        __import__(library)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source, target = ROOT / name, copy / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        os.environ["PYTHONPATH"] = folder
        # By default Python tells by size and second whether a file has changed.
        compileall.compile_dir(
            copy, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )
        for tests in sorted({t for fault in faults for t in fault.tests}) if baseline else ():
            outcome, seconds, _ = outcome_of(copy, (tests,))
            print(f"{'passes' if outcome == 'missed' else 'FAILS':8} {seconds:4.0f} s  {tests}")
        for fault in faults:
            path = copy / fault.file
            whole = path.read_text(encoding="utf-8")
            path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
            outcome, seconds, noticed = outcome_of(copy, fault.tests)
            path.write_text(whole, encoding="utf-8")
            outcomes.put(outcome)
            print(f"{outcome:8} {seconds:4.0f} s  {fault.label}  {noticed}", flush=True)


def outcome_of(copy, tests) -> tuple[str, float, str]:
    """ "caught", "missed" or "error"; seconds; and the first test that failed."""
    began, log = time.monotonic(), copy / "log.txt"
    process = FORK.Process(target=run, args=(copy, tests, log))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    # Where pytest tells no result, 2 to 5, nothing was tested; other codes are deaths of a test.
    outcome = {0: "missed", **dict.fromkeys(range(2, 6), "error")}.get(process.exitcode, "caught")
    told = log.read_text(encoding="utf-8", errors="replace")
    noticed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", told, re.MULTILINE)
    if outcome == "error":
        print(told[-2000:])
    return outcome, time.monotonic() - began, noticed[1] if noticed else ""


def run(copy, tests, log) -> None:
    """Runs test files of the copy in this process, and ends it with pytest's exit code."""
    import pytest

    with open(log, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    # On JAX, which compiles, without what takes a while.
    slow = os.environ["KERAS_BACKEND"] != "jax"
    marks = ("-m", "not large" if slow else "not slow and not large")
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *marks, *tests])
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
