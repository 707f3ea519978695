"""What it costs the training process to get batches from processes that read: memory beside pipes.

    python benchmarks/workers.py --out benchmarks/results/workers-cpu-2026-11-30.md

One process returns the same batch of 224 px, bytes, again and again, so that nothing but the way to
this one is measured: through memory that both have, as on Linux, or through a pipe, as elsewhere.
Milliseconds of this process's processor an image say how many images a second it can take at most,
however many processes read; all its threads count. Ways and rounds alternate.
"""

import argparse
import itertools
import statistics
import time

import numpy as np
from pages import add_out, publish

from keras_vit_scale.data import workers
from keras_vit_scale.data.shared_memory import AVAILABLE

SHAPE = (224, 224, 3)


class Batch:
    """A batch that is there already."""

    def __init__(self, images):
        self.batch = np.zeros((images, *SHAPE), np.uint8), np.zeros(images, np.int64)

    def __call__(self, step):
        return self.batch


def measured(way, images, batches):
    """Milliseconds an image, by the clock and of this process's processor."""
    workers.AVAILABLE = way == "memory"
    get = workers.Workers(Batch(images), 1, lambda step, batch: len(batch[1]))
    get(0)
    clock, busy = time.perf_counter(), time.process_time()
    for step in range(batches):
        if get(step) != images:
            raise ValueError("another batch came")
    count = images * batches / 1e3
    return (time.perf_counter() - clock) / count, (time.process_time() - busy) / count


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[32, 256, 1024], help="a batch")
    parser.add_argument("--batches", type=int, default=8, help="that are measured")
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    options = parser.parse_args()
    ways = ("memory", "pipe") if AVAILABLE else ("pipe",)
    results = {key: [] for key in itertools.product(options.images, ways)}
    for _ in range(options.rounds):
        for images, way in results:
            results[images, way].append(measured(way, images, options.batches))
    lines = [
        "| images a batch | through | ms an image | processor ms an image | images/s at most |",
        "|---:|---|---:|---:|---:|",
    ]
    for (images, way), of_one in results.items():
        clock, busy = (statistics.median(column) for column in zip(*of_one, strict=True))
        most = f"{1e3 / busy:,.0f}" if busy else "-"
        lines.append(f"| {images:,} | {way} | {clock:.3f} | {busy:.4f} | {most} |")
    how = f"Medians of {options.rounds} rounds of {options.batches} batches."
    publish("Batches from processes that read", lines, how, options.out)


if __name__ == "__main__":
    main()
