"""The paper's pre-training recipe on one's own images: one run in one folder, which goes on.

    sudo apt-get install dataset-fashion-mnist
    python examples/fashion_mnist/prepare.py
    python examples/train_from_scratch.py fashion-mnist.npz fashion-mnist-test.npz --out run

Interrupt it and give the same command again: it goes on from its last checkpoint and ends the
same. Any data set does in place of Fashion-MNIST: a folder with a folder of images a class, an
.npz file, "digits", "tfds:NAME@SPLIT". The sizes are for two CPU cores: about four minutes.
"""

import argparse
from pathlib import Path

import pandas as pd

from keras_vit_scale.data import open_source
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.runs import TrainConfig, train


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="images to train on")
    parser.add_argument("test", help="images to judge the result on")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder of the run")
    parser.add_argument("--steps", default="5 epochs", help="how long, as any duration")
    parser.add_argument("--size", default="width=32,depth=3,mlp_dim=128,heads=2,patch_size=7")
    parser.add_argument("--image-size", type=int, default=28)
    arguments = parser.parse_args()

    config = TrainConfig(
        arguments.size,
        arguments.data,
        steps=arguments.steps,
        validation=0.02,  # held out of the training images
        evaluate_every="20%",
        image_size=arguments.image_size,
        batch_size=128,
        crop="shift",  # small pictures: no inception crop
        resize="none",
        peak=4e-3,  # small models want a higher rate than g/14's 8e-4
        timescale=1000,
        cooldown=0.3,
        # The paper's are 3.0 and 0.03, for runs a hundred times as long.
        head_decay=0.3,
        body_decay=0.03,
        checkpoint_every=200,
        log_every=100,
    )
    results = train(config, arguments.out)
    print(pd.read_csv(arguments.out / "log.csv").tail(3).to_string(index=False))
    print(
        f"{results['steps']:,} steps, {results['images_seen']:,} images, "
        f"{results['flops']:.2e} FLOPs"
    )

    classifier = load_classifier(arguments.out / "model.keras")
    judged = classifier.evaluate(open_source(arguments.test))
    print(f"Accuracy on the test images: {judged['accuracy']:.4f}")


if __name__ == "__main__":
    main()
