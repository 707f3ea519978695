"""What saving takes from training, how fast a checkpoint is restored, and a run restarted. Linux.

    KERAS_BACKEND=jax python benchmarks/checkpointing.py --preset S/16 --batch 8

Steps with a save among them and steps without take turns, so that what else the machine does
slows both; their difference, of wall-clock and of processor time, is told as a share of `--every`
steps. Another process then restores, beside a plain read of the same files, and makes a step: it
tells the most memory that restoring took beyond the model's, and all the time since it was started.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from pages import add_out, publish

import keras_vit_scale as kvs
from keras_vit_scale.training import CheckpointStore


def make_model(arguments):
    """A compiled model, and a function that makes one step of it."""
    size = arguments.image_size
    model = kvs.ViT(arguments.preset, 1000, image_size=size)
    model.compile(kvs.Adafactor(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.zeros((arguments.batch, size, size, 3), "float32")
    labels = np.zeros(arguments.batch, "int32")
    return model, lambda: model.train_on_batch(images, labels)


def seconds(function):
    """Wall-clock and processor seconds of a call."""
    began, began_processor = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - began, time.process_time() - began_processor])


def read_all(folder):
    """Reads every file of a folder into one buffer; its bytes."""
    total, buffer = 0, bytearray(2**24)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def memory(what):
    """VmRSS, the memory the process has, or VmHWM, the most it had since `forget_peak`; in MB."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what)]
    return int(line.split()[1]) / 1024


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def saving(arguments, folder):
    """Rows about saving."""
    model, step = make_model(arguments)
    first = seconds(step)[0]
    store, blocked, differences, plain = CheckpointStore(folder), [], [], []

    def steps(save):
        if save:
            blocked.append(seconds(lambda: store.save(model, len(blocked)))[0])
        for _ in range(arguments.steps):
            step()
        store.wait()

    for _ in range(arguments.rounds):
        without, with_save = (seconds(lambda save=save: steps(save)) for save in (False, True))
        plain.append(without / arguments.steps)
        differences.append(with_save - without)
    a_step, more = np.median(plain, axis=0), np.median(differences, axis=0)
    shares = 100 * more / (arguments.every * a_step)
    return {
        "a step": f"{a_step[0]:.2f} s ({a_step[1]:.2f} s of processors)",
        "the first step": f"{first:.1f} s",
        "a save blocks training": f"{statistics.median(blocked):.3f} s",
        f"{arguments.steps} steps with a save take longer by": (
            f"{more[0]:.2f} s ({more[1]:.2f} s of processors)"
        ),
        f"that of {arguments.every} steps": f"{shares[0]:.2f} % ({shares[1]:.2f} %)",
    }


def restart(arguments, folder):
    """What a process that goes on measures of itself."""
    model, step = make_model(arguments)
    newest = sorted(Path(folder).glob("step-*"))[-1]
    megabytes = read_all(newest) / 1e6  # and into the cache
    forget_peak()
    before = memory("VmRSS")
    restoring = seconds(lambda: CheckpointStore(folder).restore(model))[0]
    more = memory("VmHWM") - before
    again = seconds(lambda: CheckpointStore(folder).restore(model))[0]
    raw = seconds(lambda: read_all(newest))[0]
    step()
    return {
        "a checkpoint": f"{megabytes:.0f} MB",
        "restoring": f"{restoring:.2f} s; again {again:.2f} s, {megabytes / again:.0f} MB/s",
        "reading the files, cached": f"{raw:.3f} s, {megabytes / raw:.0f} MB/s",
        "restoring needs beyond the model": f"{more:.0f} MB",
        "from the process' start to its first step's end": f"{time.time() - arguments.began:.1f} s",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="S/16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=50)
    add_out(parser)
    parser.add_argument("--restart", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.restart:
        print(json.dumps(restart(arguments, arguments.restart)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = saving(arguments, folder)
        asked = ["--preset", arguments.preset, "--image-size", str(arguments.image_size)]
        asked += ["--batch", str(arguments.batch), "--restart", folder]
        done = subprocess.run(
            [sys.executable, __file__, *asked, "--began", str(time.time())],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        rows |= json.loads(done.stdout.splitlines()[-1])
    heading = f"{arguments.preset}, {keras.backend.backend()}, batch {arguments.batch}"
    table = [f"| {heading} | |", "|---|---|", *(f"| {n} | {value} |" for n, value in rows.items())]
    how = (
        f"Medians of {arguments.rounds} rounds of {arguments.steps} steps without a save and with "
        "one; in brackets the share of processor time."
    )
    publish("Saving and restoring", table, how, arguments.out)


if __name__ == "__main__":
    main()
