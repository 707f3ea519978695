"""A process to be hurt: the command itself, which notes what it does as it does it.

    python victim.py JOURNAL train SIZE --data ... --out run
    python victim.py JOURNAL fit FOLDER
    python victim.py JOURNAL slow compile|step FOLDER
    python victim.py --serve          jobs of JSON on standard input, each in a fork

A line of the journal is one write, so that a kill cuts none: `begin PHASE TIME`,
`end PHASE TIME`, and for every batch that is handed to the step
`step NUMBER DIGEST-OF-IMAGES LABELS`. Labels are the samples' ids where the data say so.
"""

import functools
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

#: Step at which the file appears that begins a cooldown, where a job has one.
COOLDOWN_STEP = 23


class Journal:
    """Lines that are in the file as soon as they are written."""

    def __init__(self, path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.descriptor = os.open(path, flags, 0o644)
        self.started = False
        self.write("begin", "start-up", time.monotonic())

    def ready(self):
        """Ends the first phase, when another begins."""
        if not self.started:
            self.started = True
            self.write("end", "start-up", time.monotonic())

    def write(self, *words):
        os.write(self.descriptor, (" ".join(map(str, words)) + "\n").encode())

    def phase(self, owner, method, phase):
        """Notes when a method begins and ends."""
        function = getattr(owner, method)

        @functools.wraps(function)
        def noted(*args, **kwargs):
            self.ready()
            self.write("begin", phase, time.monotonic())
            try:
                return function(*args, **kwargs)
            finally:
                self.write("end", phase, time.monotonic())

        setattr(owner, method, noted)


def watch(journal):
    """Has the package tell the journal what it does."""
    from keras_vit_scale.runs import run
    from keras_vit_scale.scaling import report, study_run
    from keras_vit_scale.training import loop
    from keras_vit_scale.training.callbacks import Cooldown
    from keras_vit_scale.training.checkpoints import CheckpointStore

    journal.phase(CheckpointStore, "_write", "save")
    journal.phase(CheckpointStore, "restore", "restore")
    journal.phase(run, "train_steps", "training")
    journal.phase(run.Run, "_evaluate", "evaluation")
    journal.phase(run.Run, "_finish", "model")
    journal.phase(study_run.StudyRun, "_grow_trunk", "trunk")
    journal.phase(study_run.StudyRun, "_cool_down", "branch")
    journal.phase(report, "write_report", "report")
    loop.train_batches = noting_steps(loop.train_batches, journal)
    step_clock(Cooldown)


def noting_steps(train_batches, journal):
    """`train_batches` whose iterators note each batch when it is handed on."""
    import grain

    class Noted(grain.IterDataset):
        def __init__(self, parent, start):
            super().__init__(parent)
            self.start = start

        def __iter__(self):
            return NotedIterator(self._parents[0].__iter__(), self.start)

    class NotedIterator(grain.DatasetIterator):
        def __init__(self, batches, done):
            super().__init__()
            self.batches, self.done = batches, done

        def __next__(self):
            images, labels = next(self.batches)
            self.done += 1
            pixels = hashlib.blake2b(images.tobytes(), digest_size=8).hexdigest()
            journal.write("step", self.done, pixels, *labels.tolist())
            return images, labels

        def get_state(self):
            return self.batches.get_state()

        def set_state(self, state):
            self.batches.set_state(state)

    @functools.wraps(train_batches)
    def noted(*args, start=0, **options):
        return Noted(train_batches(*args, start=start, **options), start)

    return noted


def step_clock(cooldown):
    """Has a cooldown's file appear at a step, the same in every run, instead of at a time."""

    def now(self):
        if self.when_file is not None:
            # What another life has left appeared too early for this one.
            self.when_file.touch() if self.step >= COOLDOWN_STEP else self.when_file.unlink(True)
        return float(self.step)

    cooldown.now = now


def main(path, *arguments):
    """Does a job, and ends the process as the job would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's may be ignored
    import keras_vit_scale_command

    if arguments[0] in ("train", "study"):
        keras_vit_scale_command.leave_resumably()
    journal = Journal(path)
    if arguments[0] == "fit":
        from fitting import fit

        watch(journal)
        raise SystemExit(fit(journal, *arguments[1:]))
    if arguments[0] == "slow":
        from slow import train

        raise SystemExit(train(journal, *arguments[1:]))
    sys.argv = ["keras-vit-scale", *arguments]
    watch(journal)
    keras_vit_scale_command.main()


def serve():
    """Forks a process for each job, after the imports that take seconds: for PyTorch alone,
    which has no threads before its first computation."""
    import keras_vit_scale.cli
    import keras_vit_scale.scaling.report  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _be(job)
        print("pid", child, flush=True)
        _, status = os.waitpid(child, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


def _be(job):
    """Is the process of a job, to its end."""
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, replacement in ((0, nothing), (1, output), (2, output)):
        os.dup2(replacement, descriptor)
    os.chdir(Path(job["output"]).parent)
    code = 1
    try:
        main(*job["arguments"])
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
    # What the interpreter does at its end, whose own end would be that of the server's too.
    threading._shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main(*sys.argv[1:])
