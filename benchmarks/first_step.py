"""Time to the first training step and after it, scanned blocks beside unrolled ones.

    python benchmarks/first_step.py --backend jax --depth 24 --width 192

Each form runs in a process of its own, in turn, `--rounds` times; the ratios of a round are what
to quote, since machines are noisy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def measure(arguments):
    import keras
    import numpy as np

    import keras_vit_scale as kvs

    shape = kvs.ViTConfig(arguments.width, arguments.depth, 4 * arguments.width, 3, 16)
    model = kvs.ViT(shape, 10, image_size=arguments.image_size, unroll=arguments.form == "unrolled")
    model.compile(kvs.Adafactor(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    size = arguments.image_size
    images = np.zeros((arguments.batch_size, size, size, 3), "float32")
    labels = np.zeros(arguments.batch_size, "int32")
    start = time.perf_counter()
    model.train_on_batch(images, labels)
    first = time.perf_counter() - start
    later = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        later.append(time.perf_counter() - start)
    print(json.dumps({"first": first, "later": statistics.median(later)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="jax", choices=["jax", "tensorflow", "torch"])
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=24)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--form", choices=["scanned", "unrolled"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.form:
        measure(arguments)
        return
    environment = {**os.environ, "KERAS_BACKEND": arguments.backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ratios = {"first": [], "later": []}
    for turn in range(arguments.rounds):
        seconds = {}
        for form in ("scanned", "unrolled"):
            done = subprocess.run(
                [sys.executable, *sys.argv, "--form", form],
                capture_output=True, text=True, check=True, env=environment,
            )  # fmt: skip
            seconds[form] = json.loads(done.stdout.splitlines()[-1])
        for what, values in ratios.items():
            values.append(seconds["unrolled"][what] / seconds["scanned"][what])
            print(
                f"round {turn + 1}, {what} step: scanned {seconds['scanned'][what]:.2f} s, "
                f"unrolled {seconds['unrolled'][what]:.2f} s, ratio {values[-1]:.2f}",
                flush=True,
            )
    for what, values in ratios.items():
        print(f"{what} step: unrolled / scanned = {statistics.median(values):.2f} (median)")


if __name__ == "__main__":
    main()
