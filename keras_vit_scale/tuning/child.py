"""A trial in a process of its own, so that its memory is returned whatever becomes of it.

The parent writes the job to standard input and keeps that open: where it ends, the search has
ended, and the trial saves its present step and leaves.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from keras_vit_scale.children import child_environment
from keras_vit_scale.training.stopping import INTERRUPTED, RESUMABLE, Stopped, Stopping
from keras_vit_scale.tuning.trial import Job, run_job

#: Exit code of a trial that failed, whose log ends with why.
FAILED = 1


class TrialError(Exception):
    """A trial that failed in its process."""


class LeftError(Exception):
    """A trial whose process was asked to leave, and that goes on when the search does."""


def run_in_process(job: Job) -> None:
    """Does a trial in another process; the results are in its folder.

    Raises:
        TrialError: If it failed or was killed, saying how.
        LeftError: If it was asked to leave.
        ValueError: If a callback cannot be sent to another process.
    """
    try:
        message = pickle.dumps(job)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            "Callbacks of trials in processes of their own must be such as `pickle` can send; with "
            f"processes=False trials have none. Received: {error}"
        ) from error
    folder = Path(job.folder)
    with (folder / "process.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(),
        )
        with process:  # whose end closes standard input, and waits
            stdin: Any = process.stdin
            try:
                stdin.write(message)
                stdin.flush()
            except BrokenPipeError:
                pass  # dead already: its log says why
            process.wait()
    if process.returncode in (RESUMABLE, INTERRUPTED):
        raise LeftError(f"The process of {folder} was asked to leave; the same search goes on.")
    if process.returncode:
        lines = (folder / "process.log").read_text(encoding="utf-8").strip().splitlines()[-40:]
        if process.returncode != FAILED:
            killed = f"The trial's process ended with {process.returncode}"
            if process.returncode < 0:
                killed = f"The trial's process was killed by signal {-process.returncode}"
            if process.returncode == -signal.SIGKILL:
                killed += ", as the kernel does where memory is short"
            lines.append(killed)
        raise TrialError("\n".join(lines))


def main() -> int:
    """Does the job that standard input holds."""
    job = pickle.load(sys.stdin.buffer)
    with Stopping() as stopping:

        def leave_with_the_search():
            # Not through `sys.stdin`, whose lock a thread must not hold when Python ends.
            while os.read(sys.stdin.fileno(), 1):
                pass
            stopping.request("the end of the search")

        threading.Thread(target=leave_with_the_search, daemon=True).start()
        try:
            run_job(job, stopping)
        except Stopped as stop:
            print(stop, file=sys.stderr)
            return stop.exit_code
        except Exception:
            traceback.print_exc()
            return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
