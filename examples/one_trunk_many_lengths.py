"""One run, many training lengths: a trunk on the digits, cooled down from several points.

    python examples/one_trunk_many_lengths.py

The trunk trains with a reciprocal square root that has no end, and keeps its checkpoints. For each
length a branch leaves it, is cooled down to rate 0 and judged by the few-shot probe; the trunk
itself is never touched. Every run is a folder: interrupted, the script goes on where it was if it
is told the same `--out`. About a minute on two cores.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.data import EvalTransform, digits, hold_out
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.runs import TrainConfig, branch, train


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 300, 900])
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp())
    leave = {length: length - round(0.3 * length) for length in sorted(options.lengths)}

    # The trunk holds out the images of the probe, as `hold_out` does with its seed.
    _, downstream = hold_out(digits(), 597, seed=0)
    examples, test = hold_out(downstream, 400)
    probe = kvs.FewShot(examples, test, EvalTransform(8, resize="none"), shots=[10])

    every = math.gcd(*leave.values())
    config = TrainConfig(
        "width=32,depth=3,mlp_dim=128,heads=2,patch_size=2",
        "digits",
        steps=max(leave.values()),
        cooldown=0,
        validation=597,
        image_size=8,
        batch_size=64,
        seed=0,
        crop="shift",
        flip=False,
        resize="none",
        peak=4e-3,
        warmup=20,
        timescale=800,
        head_decay=0.3,
        checkpoint_every=every,
        keep_every=every,
    )
    train(config, out / "trunk")

    for length, step in leave.items():
        folder = out / f"{length} steps"
        results = branch(out / "trunk", folder, at=step, cooldown=length - step)
        model = load_classifier(folder / "model.keras").model
        error = 1 - np.mean([r.accuracy for r in probe(model)])
        own = results["branch"]["flops"] / results["flops"]
        print(
            f"{length:>6} steps, the last {length - step} of them cooldown: "
            f"10-shot error {error:.3f}, {own:.0%} of the compute its own"
        )


if __name__ == "__main__":
    main()
