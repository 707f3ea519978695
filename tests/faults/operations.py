"""A save that is killed, or refused by the system, at each of its file operations.

strace does it to a process that saves its second and third checkpoint: SIGKILL or an error at the
Nth call of a kind, for every N there is. Another process then restores. What writes is all in one
thread here, since strace counts each thread's calls apart; the order of operations is the same.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

#: Calls that writing, renaming and deleting files are made of.
CALLS = ("openat", "write", "fsync", "rename", "unlink", "unlinkat", "mkdir", "rmdir", "lseek")
#: What each may fail with, as a full or dying disk has it.
ERRORS = {
    "openat": ("ENOSPC", "EIO"), "write": ("ENOSPC", "EIO"), "fsync": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC"), "mkdir": ("ENOSPC",), "unlink": ("EIO",),
}  # fmt: skip


def model():
    """A small model in training, the same in every process."""
    import keras

    from keras_vit_scale import Adafactor, ViT, ViTConfig

    keras.utils.set_random_seed(3)
    built = ViT(ViTConfig(6, 1, 7, 2, 4), 10, image_size=8, dropout=0.1)
    built.compile(Adafactor(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return built


def digest(built):
    """Of all that the model's training depends on."""
    import hashlib

    import keras

    from keras_vit_scale.training.checkpoints import training_state

    found = hashlib.sha256()
    for name, variable in sorted(training_state(built).items()):
        found.update(name.encode() + keras.ops.convert_to_numpy(variable).tobytes())
    return found.hexdigest()


def change(built, step):
    """Gives the model's weights what they have at a step."""
    for variable in built.trainable_variables:
        variable.assign(variable + step)


def save_two(built, folder, go):
    """Saves step 1; when told to, steps 2 and 3, of which the third deletes the first."""
    from keras_vit_scale.training import CheckpointStore

    store = CheckpointStore(folder)
    for step in (1, 2, 3):
        if step == 2:
            go()
        change(built, step)
        store.save(built, step, name="best" if step == 3 else None)
        store.wait()


class Inline:
    """What a thread or a pool of threads is told to do, done at once."""

    def __init__(self, *_, target=None, args=(), **options):
        self.target, self.args = target, args

    def start(self):
        self.target(*self.args)

    def join(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, function, *values):
        return [function(*each) for each in zip(*values, strict=True)]


def in_a_fork(function):
    """What a function returned or raised in a fork of this process, as JSON has it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            told = {"returned": function()}
        except BaseException as error:
            told = {"raised": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)


def restored(built, folder):
    """Step and digest of what a new process restores."""

    def restore():
        import warnings

        from keras_vit_scale.training import CheckpointStore

        warnings.simplefilter("ignore")
        return CheckpointStore(folder).restore(built).step, digest(built)

    told = in_a_fork(restore)
    if "raised" in told:
        raise RuntimeError(told["raised"])
    return tuple(told["returned"])


class Saver:
    """A fork of this process that saves, under strace from its second save on."""

    def __init__(self, built, folder, expression, output=os.devnull):
        self.told, writing = os.pipe()
        waiting, self.go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._save(built, folder, waiting, writing)
        os.close(writing)
        os.close(waiting)
        os.read(self.told, 1)  # saved once
        self.strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(output), "-p", str(self.pid), "-e", expression],
            stderr=subprocess.DEVNULL,
        )
        while "TracerPid:\t0" in Path(f"/proc/{self.pid}/status").read_text():
            if self.strace.poll() is not None:
                raise RuntimeError("strace may not trace here")
            time.sleep(0.001)

    @staticmethod
    def _save(built, folder, waiting, writing):
        from keras_vit_scale.training.checkpoints import chunks, store

        store.Thread = chunks.ThreadPoolExecutor = Inline

        def go():
            os.write(writing, b".")
            os.read(waiting, 1)

        try:
            save_two(built, folder, go)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        os._exit(0)

    def end(self):
        """Lets it save; its exit code, and what it raised."""
        os.write(self.go, b"!")
        _, status = os.waitpid(self.pid, 0)
        self.strace.wait()
        with os.fdopen(self.told) as pipe:
            told = pipe.read()
        os.close(self.go)
        return os.waitstatus_to_exitcode(status), told


def digests(built):
    """Of the model at steps 1, 2 and 3, as `save_two` has it."""

    def found():
        result = {}
        for step in (1, 2, 3):
            change(built, step)
            result[step] = digest(built)
        return result

    return {int(step): value for step, value in in_a_fork(found)["returned"].items()}


def counted(built, folder, calls):
    """How many calls of each kind the saves make."""
    output = folder.with_suffix(".strace")
    saver = Saver(built, folder, f"trace={','.join(calls)}", output)
    if (ended := saver.end()) != (0, ""):
        raise RuntimeError(f"The saves failed by themselves: {ended}")
    lines = re.findall(r"^\d+ +(\w+)\(", output.read_text(), re.MULTILINE)
    return {call: lines.count(call) for call in calls}


def killed_at_each(built, root, calls=CALLS, every=1):
    """Kills at the Nth call of each kind, for every N there is, or each `every`th of them.

    Returns:
        How many kills there were by kind of call, and what went wrong.
    """
    expected, kills, problems = digests(built), {}, []
    for call, count in counted(built, root / "counted", calls).items():
        for number in range(1, count + 1, every):
            folder = root / f"{call}-{number}"
            code, _ = Saver(built, folder, f"inject={call}:signal=KILL:when={number}").end()
            step, found = restored(built, folder)
            if code != -signal.SIGKILL:
                problems.append(f"{call} {number}: exit code {code}")
            if found != expected[step]:
                problems.append(f"{call} {number}: step {step} is not what was saved")
            kills[call] = kills.get(call, 0) + 1
            shutil.rmtree(folder)
    return kills, problems


def failing_at_each(built, root, errors=None, every=1):
    """The same with an error of the system, which the save must tell, or do without harm.

    Returns:
        Errors that were told and errors that did no harm, and what went wrong.
    """
    errors = errors or ERRORS
    expected, told, harmless, problems = digests(built), 0, 0, []
    counts = counted(built, root / "counted", tuple(errors))
    cases = [
        (call, name, number)
        for call, names in errors.items()
        for name in names
        for number in range(1, counts[call] + 1, every)
    ]
    for call, name, number in cases:
        folder, case = root / f"{call}-{name}-{number}", f"{call} {name} {number}"
        code, said = Saver(built, folder, f"inject={call}:error={name}:when={number}").end()
        step, found = restored(built, folder)
        if found != expected[step]:
            problems.append(f"{case}: step {step} is not what was saved")
        if code == 0 and step != 3:
            problems.append(f"{case}: a failed save was not told")
        if code != 0 and "OSError" not in said:
            problems.append(f"{case}: told as {said}")
        told, harmless = told + (code != 0), harmless + (code == 0)
        shutil.rmtree(folder)
    return told, harmless, problems
