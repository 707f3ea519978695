"""What it costs that an optimizer may skip a batch whose gradient is not finite.

    KERAS_BACKEND=jax python benchmarks/skip_nonfinite.py --preset S/16 --batch 8

Two models of one shape, one with `skip_nonfinite` and one without, make steps in turns in one
process, so that what else the machine does slows both. The ratios of a round, of wall-clock and of
processor time, are what to quote.
"""

import argparse
import time

import keras
import numpy as np
from pages import add_out, publish

import keras_vit_scale as kvs

OPTIMIZERS = {"adafactor": kvs.Adafactor, "adamw": kvs.AdamW, "momentum": kvs.Momentum}


def stepper(arguments, skip):
    """A function that makes one step of a model of its own."""
    size = arguments.image_size
    model = kvs.ViT(arguments.preset, 1000, image_size=size)
    optimizer = OPTIMIZERS[arguments.optimizer](1e-3, skip_nonfinite=skip)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.zeros((arguments.batch, size, size, 3), "float32")
    labels = np.zeros(arguments.batch, "int32")
    return lambda: model.train_on_batch(images, labels)


def seconds(step, steps):
    """Wall-clock and processor seconds of a step."""
    began, began_processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    taken = time.perf_counter() - began, time.process_time() - began_processor
    return np.array(taken) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="S/16")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adafactor")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    arguments = parser.parse_args()
    contestants = [stepper(arguments, skip) for skip in (False, True)]
    for step in contestants:
        step()
        step()
    rounds = np.array(
        [[seconds(step, arguments.steps) for step in contestants] for _ in range(arguments.rounds)]
    )
    ratios = rounds[:, 1] / rounds[:, 0]
    table = [
        "| | without | with `skip_nonfinite` | ratio (range of the rounds) |",
        "|---|---|---|---|",
    ]
    for i, name in enumerate(("a step", "its processor time")):
        without, skipping = np.median(rounds[:, :, i], axis=0)
        table.append(
            f"| {name} | {without:.3f} s | {skipping:.3f} s | {np.median(ratios[:, i]):.3f} "
            f"({ratios[:, i].min():.3f} to {ratios[:, i].max():.3f}) |"
        )
    how = (
        f"{arguments.preset}, {arguments.image_size} pixels, batch {arguments.batch}, "
        f"{arguments.optimizer}; medians of {arguments.rounds} rounds of {arguments.steps} steps."
    )
    publish("The cost of skipping what is not finite", table, how, arguments.out)


if __name__ == "__main__":
    main()
