"""What a few labelled images are worth: the linear probe of a model, of random weights, of pixels.

    python examples/few_shot_probe.py
    python examples/few_shot_probe.py --model run/model.keras --data other-images/

Without a model it trains a small one on two thirds of scikit-learn's digits, and probes the rest.
About a minute on two cores.
"""

import argparse

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.data import (
    EvalTransform,
    TrainTransform,
    digits,
    eval_batches,
    hold_out,
    open_source,
    train_batches,
)
from keras_vit_scale.evaluation import FewShot


def small_model(classes):
    shape = kvs.ViTConfig(width=32, depth=3, mlp_dim=128, heads=2, patch_size=2)
    # At first the log-odds of one class among all, as of the paper's -10 for 29,593 classes.
    return kvs.ViT(shape, classes, image_size=8, head_bias=-np.log(classes - 1))


def trained_on(source, steps):
    model = small_model(len(source.class_names))
    schedule = kvs.ReciprocalSqrt(
        4e-3,
        warmup_steps=steps // 20,
        timescale=800,
        total_steps=steps,
        cooldown_steps=steps // 3,
    )
    optimizer = kvs.Adafactor(
        schedule, weight_decay=kvs.head_and_body(0.3, 0.03), global_clipnorm=1.0
    )
    model.compile(optimizer, kvs.SigmoidCrossEntropy())
    batches = train_batches(source, TrainTransform(8, crop="shift", flip=False), 64)
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def pixels(source, transform):
    """Values of the image itself as features, (N, H W 3)."""
    return np.concatenate([x.reshape(len(x), -1) for x, _ in eval_batches(source, transform, 64)])


def report(name, results):
    shots = sorted({r.shots for r in results})
    means = [np.mean([r.accuracy for r in results if r.shots == k]) for k in shots]
    print(
        f"{name:16}"
        + "".join(f"{k:>6} shots {mean:.3f}" for k, mean in zip(shots, means, strict=True))
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a run's model.keras")
    parser.add_argument("--data", help="images to probe, with --model")
    parser.add_argument("--steps", type=int, default=1200, help="of the training without --model")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10, 25])
    arguments = parser.parse_args()
    if (arguments.model is None) != (arguments.data is None):
        parser.error("--model and --data go together")

    keras.utils.set_random_seed(0)
    if arguments.model:
        classifier = kvs.load_classifier(arguments.model)
        models = {"model": classifier.model}
        images, transform = open_source(arguments.data), classifier.transform
        examples, test = hold_out(images, 0.5, stratified=True)
    else:
        upstream, downstream = hold_out(digits(), 597)
        examples, test = hold_out(downstream, 300, stratified=True)
        transform = EvalTransform(8, resize="none")
        models = {
            "trained": trained_on(upstream, arguments.steps),
            "random weights": small_model(10),
        }

    probe = FewShot(examples, test, transform, shots=arguments.shots)
    for name, model in models.items():
        report(name, probe(model))
    report("pixels", probe.probe(pixels(probe.train, transform), pixels(test, transform)))


if __name__ == "__main__":
    main()
