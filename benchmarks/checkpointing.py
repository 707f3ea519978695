"""What saving takes from training, and how fast a checkpoint is restored.

    KERAS_BACKEND=jax python benchmarks/checkpointing.py --preset S/16 --batch 8

A save blocks training while the state is copied; the rest is written by a thread beside it, whose
processor time is what it can take from training at most. Both are told as shares of `--every`
steps. Restoring is told beside a plain read of the same files.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.training import CheckpointStore


def make_model(arguments):
    model = kvs.ViT(arguments.preset, 1000, image_size=arguments.image_size)
    model.compile(kvs.Adafactor(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def seconds(function, times=1):
    """Wall-clock and processor seconds of calls, of each the median."""
    wall, processor = [], []
    for _ in range(times):
        began, began_processor = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_processor)
    return statistics.median(wall), statistics.median(processor)


def read_all(folder):
    """Reads every file of a folder into one buffer; its bytes."""
    total, buffer = 0, bytearray(2**24)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def peak():
    """The most memory that the process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="S/16")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--every", type=int, default=50)
    arguments = parser.parse_args()
    size = arguments.image_size
    images = np.zeros((arguments.batch, size, size, 3), "float32")
    labels = np.zeros(arguments.batch, "int32")

    model = make_model(arguments)
    began = time.perf_counter()
    model.train_on_batch(images, labels)
    first = time.perf_counter() - began
    step, step_processor = seconds(lambda: model.train_on_batch(images, labels), arguments.steps)
    with tempfile.TemporaryDirectory() as folder:
        store, blocked, wall, processor = CheckpointStore(folder), [], [], []
        for number in range(arguments.saves):
            began, began_processor = time.perf_counter(), time.process_time()
            store.save(model, number)
            blocked.append(time.perf_counter() - began)
            store.wait()
            wall.append(time.perf_counter() - began)
            processor.append(time.process_time() - began_processor)
        newest = sorted(Path(folder).glob("step-*"))[-1]
        raw, _ = seconds(lambda: read_all(newest), 3)
        megabytes = read_all(newest) / 1e6
        before = peak()
        restoring, _ = seconds(lambda: store.restore(model), 3)
        more = peak() - before
    kept, spent = statistics.median(blocked), statistics.median(processor)
    rows = {
        "a step": f"{step:.3f} s ({step_processor:.3f} s of processors)",
        "the first step": f"{first:.2f} s",
        "a checkpoint": f"{megabytes:.0f} MB",
        "a save blocks training": f"{kept:.3f} s",
        f"that of {arguments.every} steps": f"{100 * kept / (arguments.every * step):.2f} %",
        "a save, to the disk": f"{statistics.median(wall):.2f} s ({spent:.2f} s of processors)",
        f"its processor time of that of {arguments.every} steps": (
            f"{100 * spent / (arguments.every * step_processor):.2f} %"
        ),
        "restoring": f"{restoring:.2f} s, {megabytes / restoring:.0f} MB/s",
        "reading the files (cached)": f"{raw:.3f} s, {megabytes / raw:.0f} MB/s",
        "restoring needs more memory": f"{more:.0f} MB",
        "restored to a step's end, compiled": f"{restoring + step:.2f} s",
    }
    print(
        f"| {arguments.preset}, {keras.backend.backend()}, batch {arguments.batch} | |\n|---|---|"
    )
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
