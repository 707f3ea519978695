"""Somebody's own `fit` with `Checkpoints`: a metric in the compiled step notes which samples
it trained on, in order, so that the log tells the samples of each step."""

import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_vit_scale import ReciprocalSqrt, ViT, ViTConfig
from keras_vit_scale.data import ArraySource, TrainTransform, train_batches
from keras_vit_scale.optimizers import AdamW
from keras_vit_scale.training import Checkpoints, CSVLog, Stopped, Stopping
from keras_vit_scale.training.callbacks.steps import StepCounter

SAMPLES, STEPS, EPOCHS = 97, 13, 4
#: Below 2**24 when multiplied by what it multiplies, so that float32 holds every value.
PRIME = 16381


class Trained(keras.metrics.Metric):
    """A number that follows from the labels since the epoch began, and from their order."""

    def __init__(self, name="trained"):
        super().__init__(name=name, dtype="float32")
        self.total = self.add_variable((), "zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.cast(ops.reshape(y_true, (-1,)), "float32")
        places = ops.arange(1, 1 + labels.shape[0], dtype="float32")
        seen = ops.sum(ops.mod(labels * places, PRIME))
        self.total.assign(ops.mod(self.total * 31.0 + seen, PRIME))

    def result(self):
        return ops.convert_to_tensor(self.total)


class Noting(StepCounter):
    """Tells the journal of each step that is done."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def on_train_batch_end(self, batch, logs=None):
        self.journal.write("trained", self.step)


def source():
    """Images, each a class of its own."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (SAMPLES, 8, 8, 3), dtype="uint8")
    return ArraySource(images, np.arange(SAMPLES))


def fit(journal, folder):
    """Mixed precision with a scaled loss, accumulated gradients, averages, dropout, shifts."""
    keras.utils.set_random_seed(13)
    folder = Path(folder)
    shape = ViTConfig(width=6, depth=2, mlp_dim=7, heads=2, patch_size=4)
    model = ViT(
        shape, SAMPLES, image_size=8, dropout=0.1, stochastic_depth=0.2, dtype="mixed_bfloat16"
    )
    schedule = ReciprocalSqrt(0.01, warmup_steps=3, timescale=9)
    optimizer = AdamW(
        schedule, use_ema=True, ema_momentum=0.7, ema_at_end=False, gradient_accumulation_steps=2
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0),
        loss, metrics=[Trained()],
    )  # fmt: skip
    batches = train_batches(source(), TrainTransform(8, crop="shift"), 7, seed=3)
    journal.ready()
    with Stopping() as stopping:
        checkpoints = Checkpoints(
            folder / "checkpoints", batches, 4, steps_per_epoch=STEPS, stopping=stopping
        )
        journal.write("begin", "training", time.monotonic())
        callbacks = [Noting(journal), CSVLog(folder / "log.csv", every=1), checkpoints]
        try:
            model.fit(checkpoints.data, epochs=EPOCHS, verbose=0, callbacks=callbacks)
        except Stopped as stop:
            return stop.exit_code
        journal.write("end", "training", time.monotonic())
    return 0
