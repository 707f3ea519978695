"""One run, many training lengths: a trunk on the digits, cooled down from several points.

    python examples/one_trunk_many_lengths.py

The trunk trains with a reciprocal square root that has no end. At each length a copy of it is
cooled down to rate 0 and judged by the few-shot probe; the trunk itself goes on untouched. About
a minute on two cores.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.data import EvalTransform, TrainTransform, digits, hold_out, train_batches


def compile_with(model, schedule):
    model.compile(
        kvs.Adafactor(schedule, weight_decay=kvs.head_and_body(0.3, 0.03), global_clipnorm=1.0),
        kvs.SigmoidCrossEntropy(),
    )


def train(model, images, start, stop):
    batches = train_batches(
        images, TrainTransform(8, crop="shift", flip=False), 64, start=start, stop=stop
    )
    model.fit(batches, steps_per_epoch=stop - start, shuffle=False, verbose=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 300, 900])
    lengths = sorted(parser.parse_args().lengths)

    keras.utils.set_random_seed(0)
    upstream, downstream = hold_out(digits(), 597)
    examples, test = hold_out(downstream, 400)
    probe = kvs.FewShot(examples, test, EvalTransform(8, resize="none"), shots=[10])

    shape = kvs.ViTConfig(width=32, depth=3, mlp_dim=128, heads=2, patch_size=2)
    # The head's bias at first is the log-odds of one class among ten.
    trunk = kvs.ViT(shape, 10, image_size=8, head_bias=-2.2)
    forever = kvs.ReciprocalSqrt(4e-3, warmup_steps=20, timescale=800)
    compile_with(trunk, forever)

    done = 0
    for length in lengths:
        leave = length - round(0.3 * length)
        train(trunk, upstream, done, leave)
        done = leave
        with tempfile.TemporaryDirectory() as folder:
            # A saved model has its optimizer's state with it: the branch starts as the trunk is.
            trunk.save(Path(folder) / "trunk.keras")
            branch = keras.saving.load_model(Path(folder) / "trunk.keras")
        branch.optimizer.learning_rate = forever.with_cooldown(length, length - leave)
        train(branch, upstream, leave, length)
        error = 1 - np.mean([r.accuracy for r in probe(branch)])
        print(
            f"{length:>6} steps, the last {length - leave} of them cooldown: "
            f"10-shot error {error:.3f}"
        )


if __name__ == "__main__":
    main()
