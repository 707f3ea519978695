"""Ways from a file to a model, each measured alone in the process that runs this file.

    python benchmarks/loaders.py '{"contestant": "timm", "form": "timm", ...}'

load_weights.py writes the settings and reads the last line that is printed, a JSON object: seconds
until the model could predict, seconds of the first prediction, and memory. An environment that
lacks a contestant's packages gives `{"missing": ...}` instead. This file imports keras_vit_scale
for ours alone, so that a peer's environment need not have it. With `"write": true` a contestant
writes the file of a form instead of reading it.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from devices import FRAMEWORKS, host_memory


class Ours:
    packages = ("keras",)
    framework = None

    def __init__(self, s):
        import keras_vit_scale

        self.kvs = keras_vit_scale

    def write(self, s):
        shape = self.kvs.ViTConfig(s.width, s.depth, s.mlp_dim, s.heads, s.patch_size)
        npz = s.form == "npz"
        model = self.kvs.ViT(
            shape, s.classes, image_size=s.image_size, pooling="token",
            gelu="tanh" if npz else "exact",
            epsilon=1e-12 if s.form == "transformers" else 1e-6,
        )  # fmt: skip
        self.kvs.save_weights_as(model, s.path, format="big_vision" if npz else s.form)

    def load(self, s):
        # Heads are written into no weight of an .npz file; sizes of presets imply them.
        return self.kvs.from_pretrained(s.path, heads=s.heads if s.form == "npz" else None)

    def predict(self, model, images):
        return model(images, training=False)

    def values(self, model):
        return [weight.value for weight in model.weights]


class KerasHub(Ours):
    packages = ("keras", "keras-hub")

    def __init__(self, s):
        import keras_hub

        self.models = keras_hub.models

    def write(self, s):
        backbone = self.models.ViTBackbone(
            image_shape=(s.image_size, s.image_size, 3), patch_size=s.patch_size,
            num_layers=s.depth, num_heads=s.heads, hidden_dim=s.width, mlp_dim=s.mlp_dim,
        )  # fmt: skip
        self.models.ViTImageClassifier(backbone, s.classes).save_to_preset(s.path)

    def load(self, s):
        return self.models.ViTImageClassifier.from_preset(s.path)


class Timm:
    packages = ("timm",)
    framework = "torch"

    def __init__(self, s):
        import timm.models.vision_transformer

        self.timm = timm

    def load(self, s):
        if s.form == "timm":
            return self.timm.create_model(f"local-dir:{s.path}", pretrained=True).eval()
        model = self.timm.models.vision_transformer.VisionTransformer(
            s.image_size, s.patch_size, num_classes=s.classes, embed_dim=s.width, depth=s.depth,
            num_heads=s.heads, mlp_ratio=s.mlp_dim / s.width,
            # In big_vision's files the [class] token has no position.
            no_embed_class=True,
        )  # fmt: skip
        self.timm.models.load_checkpoint(model, s.path)
        return model.eval()

    def predict(self, model, images):
        import torch

        with torch.inference_mode():
            return model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))

    def values(self, model):
        return list(model.parameters())


class Transformers(Timm):
    packages = ("transformers", "torch")

    def __init__(self, s):
        from transformers import ViTForImageClassification

        self.model = ViTForImageClassification

    def load(self, s):
        return self.model.from_pretrained(s.path).eval()


CONTESTANTS = {
    "ours": Ours, "keras_hub": KerasHub, "timm": Timm, "transformers": Transformers,
}  # fmt: skip


def bytes_below(path: Path) -> int:
    """Reads every file once, so that none waits for the disk later; returns their bytes."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(len(p.read_bytes()) for p in files)


def measure(s):
    contestant = CONTESTANTS[s.contestant]
    name = contestant.framework or s.backend
    framework = FRAMEWORKS[name]()
    contestant = contestant(s)
    before = host_memory()
    start = time.perf_counter()
    model = contestant.load(s)
    framework.wait(contestant.values(model)[-1])
    ready = time.perf_counter()
    after = host_memory()
    images = np.zeros((1, s.image_size, s.image_size, 3), "float32")
    framework.wait(contestant.predict(model, images))
    first = time.perf_counter()
    weights = sum(4 * int(np.prod(tuple(value.shape))) for value in contestant.values(model))
    packages = [name, *contestant.packages]
    return {
        "device": framework.name(),
        "versions": {package: metadata.version(package) for package in packages},
        "weights": weights,
        "ready": ready - start,
        "first": first - ready,
        "both": first - start,
        # Of the most that loading added, what the model itself does not account for.
        "beyond": (after["VmHWM"] - before["VmRSS"] - weights) / weights if before else None,
    }


def main():
    s = SimpleNamespace(**json.loads(sys.argv[1]))
    try:
        if s.write:
            contestant = CONTESTANTS[s.contestant](s)
            contestant.write(s)
            result = {"bytes": bytes_below(Path(s.path))}
        else:
            result = measure(s)
    except ImportError as error:
        result = {"missing": str(error)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
