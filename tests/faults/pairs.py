"""Checkpoints between backends: a process of one trains and saves, one of each other restores the
same bits and trains on.

    python pairs.py save|restore FOLDER       one process, of KERAS_BACKEND
"""

import json
import subprocess
import sys
from pathlib import Path

from processes import environment

BACKENDS = ("jax", "tensorflow", "torch")


def train(what, folder):
    """Three steps and a save, or a restore and three steps; prints digests, loss and step."""
    import hashlib

    import keras

    from keras_vit_scale import Adafactor, SigmoidCrossEntropy, ViT, ViTConfig
    from keras_vit_scale.data import TrainTransform, digits
    from keras_vit_scale.training import CheckpointStore
    from keras_vit_scale.training.callbacks.steps import steps_done
    from keras_vit_scale.training.checkpoints import training_state
    from keras_vit_scale.training.loop import train_steps

    keras.utils.set_random_seed(3 if what == "save" else 4)
    model = ViT(ViTConfig(12, 2, 14, 2, 4), 10, image_size=8, dropout=0.1)
    optimizer = Adafactor(1e-3, use_ema=True, ema_at_end=False, gradient_accumulation_steps=2)
    model.compile(optimizer, SigmoidCrossEntropy())
    store = CheckpointStore(folder)
    transform, stop = TrainTransform(8, crop="shift"), 3

    def digests():
        found = {}
        for name, variable in training_state(model).items():
            value = keras.ops.convert_to_numpy(variable.value)
            # Backends keep whole numbers in other widths.
            value = value.astype("int64") if value.dtype.kind in "iu" else value
            found[name] = hashlib.sha256(value.tobytes()).hexdigest()
        return found

    if what == "restore":
        store.restore(model)
        held, stop = digests(), 6
    loss = train_steps(model, digits(), transform, batch_size=8, seed=3, stop=stop)
    if what == "save":
        store.save(model, 3)
        store.wait()
        held = digests()
    print(json.dumps({"held": held, "loss": loss, "step": steps_done(model)}))


def process(what, folder, backend):
    """What a process of a backend prints."""
    done = subprocess.run(
        [sys.executable, __file__, what, str(folder)],
        capture_output=True, text=True, check=True, env=environment(backend),
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def every_pair(root):
    """Of the nine pairs, how many hold the same bits and train on; and what went wrong."""
    held, problems = 0, []
    for one in BACKENDS:
        saved = process("save", root / one, one)
        losses = {}
        for other in BACKENDS:
            found = process("restore", root / one, other)
            losses[other] = found["loss"]
            if found["held"] != saved["held"] or found["step"] != 6:
                problems.append(f"from {one} to {other}")
            held += found["held"] == saved["held"] and found["step"] == 6
        print(f"saved by {one}, losses of the next steps: {losses}", flush=True)
    return held, problems


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))
