"""Six kinds of clothes to train on and four others to judge by, as the ablations use them."""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_vit_scale import FewShot, load_classifier
from keras_vit_scale.data import Source, hold_out_classes, open_source
from keras_vit_scale.evaluation import Classifier, extract_features
from keras_vit_scale.runs import TrainConfig, model_file, train

#: Kinds of clothes that no run learns.
HELD_OUT = ("dress", "coat", "shirt", "sneaker")

SIZE = "width=32,depth=3,mlp_dim=128,heads=2,patch_size=7"


def options(doc: str, *, seeds: list[int], shots: int, out: str) -> argparse.ArgumentParser:
    """What every ablation can be told; the first line of its page says what it is."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("train", help="training images, of all classes")
    parser.add_argument("test", help="test images, of all classes")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT)
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--shots", type=int, default=shots)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


class Clothes:
    """Fashion-MNIST, divided by class.

    Args:
        train: The training images, an .npz file, a folder or another name for `open_source`.
        test: The test images.
        out: Folder in which the images to train on are written, so that a run can name them.
        held_out: Classes for the few-shot probe.
        shots: Examples a class of the probe.
    """

    def __init__(self, train: str, test: str, out: Path, held_out=HELD_OUT, shots: int = 5):
        upstream, self.examples = hold_out_classes(open_source(train), held_out)
        self.upstream_test, self.downstream_test = hold_out_classes(open_source(test), held_out)
        self.shots = shots
        out.mkdir(parents=True, exist_ok=True)
        self.data = str(out / "upstream.npz")
        if not Path(self.data).exists():
            write(upstream, self.data)

    @classmethod
    def named(cls, arguments: argparse.Namespace) -> "Clothes":
        """As the options of `options` say."""
        return cls(
            arguments.train, arguments.test, arguments.out, arguments.held_out, arguments.shots
        )

    def config(self, steps: int, **settings) -> TrainConfig:
        """A run on the six kinds, of a small ViT unless `settings` say otherwise."""
        settings = {
            "size": SIZE, "image_size": 28, "batch_size": 64, "crop": "shift", "max_shift": 2,
            "resize": "none", "peak": 4e-3, "warmup": "5%", "timescale": steps / 4,
            "checkpoint_every": steps, "head_decay": 0.3, **settings,
        }  # fmt: skip
        return TrainConfig(data=self.data, steps=steps, **settings)

    def trained(self, config: TrainConfig, folder: Path) -> dict[str, float]:
        """Accuracies of a run, which is trained first if need be."""
        train(config, folder)
        return self.judge(folder)

    def judge(self, folder: Path) -> dict[str, float]:
        """Accuracies of a finished run: upstream, and few-shot of the other kinds."""
        found = self.judge_model(load_classifier(model_file(folder)))
        keras.utils.clear_session()
        return found

    def judge_model(self, classifier: Classifier) -> dict[str, float]:
        """The same of a model with its preprocessing."""
        model, transform = classifier.model, classifier.transform
        logits = extract_features(model, self.upstream_test, transform, 500)
        # Ten choices of the examples: one alone moves the accuracy by several points.
        probe = FewShot(
            self.examples, self.downstream_test, transform, shots=[self.shots], seeds=range(10),
            batch_size=500,
        )  # fmt: skip
        few = [result.accuracy for result in probe(model)]
        return {
            "upstream": float((logits.argmax(1) == self.upstream_test.labels).mean()),
            "few-shot": float(np.mean(few)),
        }


def write(source: Source, path: str) -> None:
    """Writes a source as an .npz file."""
    images = np.stack([source[i][0] for i in range(len(source))])
    np.savez_compressed(path, images=images, labels=source.labels, class_names=source.class_names)
