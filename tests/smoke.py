"""An installed package does its main things: a check of wheels, which needs no test tool.

    python tests/smoke.py

Run it from elsewhere than the repository, or it tests the checkout: it says which package it found.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.scaling import fit_frontier, paper_results


def train_save_load(folder):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (24, 16, 16, 3)).astype("float32")
    labels = rng.integers(0, 3, 24)
    model = kvs.ViT("mu/8", num_classes=3, image_size=16)
    model.compile(
        kvs.Adafactor(kvs.ReciprocalSqrt(1e-3, warmup_steps=2, total_steps=9, cooldown_steps=3)),
        kvs.SigmoidCrossEntropy(),
        metrics=["accuracy"],
    )
    model.fit(images, labels, batch_size=8, epochs=3, verbose=0)
    model.evaluate(images, labels, verbose=0)
    before = model.predict(images, verbose=0)
    model.save(folder / "vit.keras")
    kvs.save_weights_as(model, folder / "vit.npz", format="big_vision")
    for loaded in (
        keras.saving.load_model(folder / "vit.keras"),
        kvs.from_pretrained(folder / "vit.npz"),
    ):
        np.testing.assert_allclose(loaded.predict(images, verbose=0), before, atol=1e-5)


def main():
    with tempfile.TemporaryDirectory() as folder:
        train_save_load(Path(folder))
    results = paper_results("fewshot")
    fit_frontier(results["flops"], results["imagenet_10shot"], results["trunk"], resamples=20)
    done = subprocess.run(
        [Path(sys.executable).with_name("keras-vit-scale"), "models"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "G/14" in done.stdout
    print(
        f"keras_vit_scale {kvs.__version__} in {Path(kvs.__file__).parent}, keras "
        f"{keras.__version__} on {keras.backend.backend()}, Python {sys.version.split()[0]}"
    )


if __name__ == "__main__":
    main()
