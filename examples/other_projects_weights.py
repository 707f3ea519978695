"""Weights of another project in, and out again for a third, with the same outputs.

    python examples/other_projects_weights.py
    python examples/other_projects_weights.py hf://timm/vit_base_patch16_224.augreg_in21k --out vit

Without a source it writes and reads a small model of random weights, and downloads nothing.
Some seconds on two cores.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_vit_scale as kvs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", help="folder, file, hf://, https:// or gs://")
    parser.add_argument("--out", type=Path, help="folder for the weights as timm's")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source
        if source is None:
            source = Path(folder) / "mu.npz"
            ours = kvs.ViT("mu/8", num_classes=5, image_size=32)
            kvs.save_weights_as(ours, source, format="big_vision")
        model = kvs.from_pretrained(source)
        print(f"{model.name}: {model.input_shape} to {model.output_shape}")

        out = arguments.out or Path(folder) / "timm"
        kvs.save_weights_as(model, out, format="timm")
        again = kvs.from_pretrained(out)
        images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:]))
        images = images.astype("float32")
        # Without the head: where it is new, it is zero.
        features, features_again = (
            keras.Model(m.inputs, m.get_layer("pooling").output).predict(images, verbose=0)
            for m in (model, again)
        )
        difference = np.abs(features - features_again).max()
        print(f"timm's {', '.join(sorted(p.name for p in out.iterdir()))}, read back: ", end="")
        print(f"features differ by {difference:.1e} at most")


if __name__ == "__main__":
    main()
