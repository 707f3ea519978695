"""Fine-tuning at a higher resolution against training from scratch and a linear probe.

    python examples/fashion_mnist/prepare.py
    python examples/fine_tune/compare.py fashion-mnist.npz fashion-mnist-test.npz

A small ViT is trained at 16 pixels on all classes but three. It is then fine-tuned at 28 pixels
on 1,000 images of those three, by the protocol of VTAB-1k: rates are judged on 200 of them. The
comparisons are the same runs from random weights, at whichever rate is best on the test images,
and a linear probe of the trunk's features.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from keras_vit_scale import FewShot, FineTune, load_classifier
from keras_vit_scale.data import hold_out, hold_out_classes, open_source
from keras_vit_scale.models import architecture
from keras_vit_scale.runs import TrainConfig, fine_tune, model_file, train


def write(source, path):
    """A source as an .npz file, so that a run can name it."""
    images = np.stack([source[i][0] for i in range(len(source))])
    np.savez_compressed(path, images=images, labels=source.labels, class_names=source.class_names)
    return str(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", help="training images, of all classes")
    parser.add_argument("test", help="test images, of all classes")
    parser.add_argument("--classes", nargs="+", default=["pullover", "coat", "shirt"])
    parser.add_argument("--size", default="width=32,depth=3,mlp_dim=128,heads=2,patch_size=4")
    parser.add_argument("--trunk-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.03, 0.01])
    parser.add_argument("--out", type=Path, default=Path("fine-tune-study"))
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    upstream, training = hold_out_classes(open_source(arguments.train), arguments.classes)
    _, testing = hold_out_classes(open_source(arguments.test), arguments.classes)
    _, training = hold_out(training, arguments.images, stratified=True)
    names = ("upstream", "training", "test")
    up, down, test = (
        write(source, out / f"{name}.npz")
        for name, source in zip(names, (upstream, training, testing), strict=True)
    )

    trunk = out / "trunk"
    train(
        TrainConfig(
            arguments.size, up, steps=arguments.trunk_steps, image_size=16, batch_size=128,
            crop="shift", resize="none", peak=0.004, head_decay=0.3, timescale=1000.0,
        ),
        trunk,
    )  # fmt: skip

    recipe = FineTune(
        protocol="vtab",
        rates=tuple(arguments.rates),
        images=arguments.images,
        validation=arguments.images // 5,
        steps=arguments.steps,
        warmup="10%",
        image_size=28,
        batch_size=128,
    )
    rows = []
    for name, schedule in (("cosine", "cosine"), ("flat, averaged", "constant")):
        setting = dataclasses.replace(recipe, schedule=schedule, average=None)
        found = fine_tune(setting, trunk, down, out / schedule, test=test)
        rows.append((f"fine-tuned, {name}, rate {found['rate']:g}", found["test"]["accuracy"]))

    classifier = load_classifier(model_file(trunk))
    shape = architecture(classifier.model)
    scratch = {}
    for rate in recipe.rates:
        config = recipe.run("", shape, down, rate, held_out=False)
        folder = out / "scratch" / f"{rate:g}"
        train(dataclasses.replace(config, init=None, new_head=False), folder)
        scratch[rate] = load_classifier(model_file(folder)).evaluate(testing)["accuracy"]
    best = max(scratch, key=scratch.get)
    rows.append((f"from scratch, best rate {best:g}", scratch[best]))

    shots = int(np.bincount(training.labels).min())
    probe = FewShot(training, testing, classifier.transform, shots=[shots], seeds=[0])
    rows.append((f"linear probe at 16 pixels, {shots} shots", probe(classifier.model)[0].accuracy))

    print(f"\nAccuracy on {len(testing):,} test images of {', '.join(testing.class_names)}:")
    for name, accuracy in rows:
        print(f"  {name:40} {accuracy:.4f}")


if __name__ == "__main__":
    main()
