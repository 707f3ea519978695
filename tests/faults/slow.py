"""Training in which a backend is long in C++, where no signal handler of Python's can run:
a first step that is compiled for long, or a step that takes long."""

import time

import keras
import numpy as np

from keras_vit_scale import ViT, ViTConfig
from keras_vit_scale.data import ArraySource, TrainTransform, train_batches
from keras_vit_scale.training import Checkpoints, Stopped, Stopping
from keras_vit_scale.training.callbacks.steps import StepCounter

GRACE = 3.0


class Products(keras.layers.Layer):
    """Products of large matrices, of which the first step has none."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def build(self, shape):
        self.kernel = self.add_weight((2048, 2048), "orthogonal", name="kernel", trainable=False)

    def call(self, x):
        y = keras.ops.tile(x[:, :1], (1, 2048)) + self.kernel[: x.shape[0] or 1, :]
        y = keras.ops.tile(y[:1], (2048, 1))
        for _ in range(self.count):
            y = keras.ops.matmul(y, self.kernel)
        return x + 0 * keras.ops.mean(y)


class Noting(StepCounter):
    """Tells the journal of each step that begins."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def between_steps(self, logs):
        self.recount()
        self.journal.write("begins", self.step + 1, time.monotonic())


def build(what):
    if what == "compile":
        shape = ViTConfig(width=48, depth=16, mlp_dim=96, heads=3, patch_size=4)
        model = ViT(shape, 10, image_size=8, unroll=True)
    else:
        count = {"jax": 60, "tensorflow": 60, "torch": 60}[keras.backend.backend()]
        layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), Products(count)]
        model = keras.Sequential([*layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile="auto" if what == "step" else True)
    return model


def train(journal, what, folder):
    """Three steps, each saved."""
    keras.utils.set_random_seed(13)
    model = build(what)
    images = np.random.default_rng(5).integers(0, 256, (40, 8, 8, 3), dtype="uint8")
    data = ArraySource(images, np.arange(40) % 10)
    batches = train_batches(data, TrainTransform(8, crop="shift"), 4)
    journal.ready()
    with Stopping(grace=GRACE) as stopping:
        checkpoints = Checkpoints(folder, batches, 1, steps_per_epoch=3, stopping=stopping)
        callbacks = [Noting(journal), checkpoints]
        try:
            model.fit(checkpoints.data, epochs=1, verbose=0, callbacks=callbacks)
        except Stopped as stop:
            return stop.exit_code
    return 0
