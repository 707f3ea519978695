"""What one process of several holds at most while a sharded model is created, loaded and restored.

    python born.py FOLDER

Run in each process of a `Job`. Writes FOLDER/PROCESS.json: bytes of the model, of the share
of it that the process has, of the model with its optimizer's state, and the most memory beyond
what it had before, phase by phase.
"""

import gc
import json
import math
import sys
from pathlib import Path

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale import distribution
from keras_vit_scale.processes import is_first, meet, place
from keras_vit_scale.training import CheckpointStore
from keras_vit_scale.training.checkpoints.state import training_state

SHAPE = kvs.ViTConfig(width=1024, depth=16, mlp_dim=4096, heads=16, patch_size=16)


def memory(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


class Peak:
    """The most that is held within the context, beyond `before`."""

    def __init__(self, before):
        self.before = before

    def __enter__(self):
        gc.collect()  # Keras' models are cycles, which Python may let go of later
        Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *_):
        self.bytes = memory("VmHWM") - self.before


def compiled():
    model = kvs.ViT(SHAPE, 8, image_size=64)
    model.compile(kvs.Momentum(1e-3), kvs.SigmoidCrossEntropy())
    return model


def main(folder):
    told: dict[str, int] = {}
    distribution.initialize()
    file = folder / "weights" / "model.safetensors"
    if is_first():
        # Another project's file, which this one process writes without a layout.
        file.parent.mkdir()
        kvs.save_weights_as(kvs.ViT(SHAPE, 8, image_size=64), file, format="timm")
    meet("written")
    keras.utils.set_random_seed(1)  # writing has drawn from the first process' own
    with distribution.fully_sharded():
        kvs.ViT("mu/8", 8, image_size=32)  # what the first model brings that is no model's
        before = memory("VmRSS")
        with Peak(before) as created:
            model = kvs.ViT(SHAPE, 8, image_size=64)
        table = distribution.describe(model)
        told["model"] = int(table["bytes"].iloc[-1])
        told["share"] = int(table["bytes_a_device"].iloc[-1])
        del model
        with Peak(before) as loaded:
            model = kvs.from_pretrained(file)
        model.compile(kvs.Momentum(1e-3, momentum=0.0), kvs.SigmoidCrossEntropy())
        store = CheckpointStore(folder / "checkpoints")
        state = training_state(model)
        told["state"] = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in state.values())
        with Peak(before) as saved:
            store.save(model, 0)
            store.wait()
        meet("saved")
        with Peak(before) as restored:
            store.restore(model)
    for name, phase in [
        ("created", created), ("loaded", loaded), ("saved", saved), ("restored", restored)
    ]:  # fmt: skip
        told[name] = phase.bytes
    Path(folder, f"{place()[0]}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
