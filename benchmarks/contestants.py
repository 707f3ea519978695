"""The contestants of train_step.py, each measured alone in the process that runs this file.

    python benchmarks/contestants.py '{"contestant": "timm", ...}'

train_step.py writes the settings and reads the last line that is printed, a JSON object: the
seconds to the first step and of later steps, the memory, the device and the versions. An
environment that lacks a contestant's packages gives `{"missing": ...}` instead. This file imports
keras_vit_scale for ours alone, so that a peer's environment need not have it.

Every contestant gets the same work: random images and labels from the host's memory at each step,
logits of a class token, softmax cross-entropy, gradients and an update by its framework's AdamW,
without dropout. What stays different is theirs: the form of GELU (ours is tanh's, the peers' is
exact), variables apart or stacked, and what each framework compiles.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from devices import FRAMEWORKS, host_memory, product_rate

RATE, DECAY = 1e-4, 1e-4

#: Steps after the first that are not timed: allocators and caches settle.
WARM_UP = 2


class Clock:
    """Seconds to the first step, and seconds a step of each window of steps after it."""

    def __init__(self, framework, steps, windows):
        self.framework = framework
        self.steps = steps
        self.total = 1 + WARM_UP + steps * windows
        self.done = 0
        self.windows = []

    def start(self):
        """To be called with everything imported and nothing built."""
        self.memory = host_memory()
        self.mark = time.perf_counter()

    def step_done(self, value):
        """Counts a step that yields `value`; waits for the device where a window ends."""
        self.done += 1
        timed = self.done - 1 - WARM_UP
        if self.done != 1 and (timed < 0 or timed % self.steps):
            return
        self.framework.wait(value)
        now = time.perf_counter()
        if self.done == 1:
            self.first = now - self.mark
        elif timed > 0:
            self.windows.append((now - self.mark) / self.steps)
        self.mark = now


def batch(s):
    """Images (B, H, W, 3) between -1 and 1 and labels (B,)."""
    rng = np.random.default_rng(0)
    images = 2 * rng.random((s.batch_size, s.image_size, s.image_size, 3), dtype="float32") - 1
    return images, rng.integers(0, s.classes, s.batch_size, dtype="int32")


def fit(model, s, clock):
    """Trains a Keras model as its users do, through `fit`."""
    import keras

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            clock.step_done(logs["loss"])

    def forever():
        images, labels = batch(s)
        while True:
            yield images, labels

    model.compile(
        keras.optimizers.AdamW(RATE, weight_decay=DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(forever(), steps_per_epoch=clock.total, shuffle=False, verbose=0, callbacks=[Steps()])
    return model.count_params()


def ours(s, clock):
    import keras

    import keras_vit_scale as kvs

    keras.config.set_dtype_policy(s.dtype)
    clock.start()
    shape = kvs.ViTConfig(s.width, s.depth, s.mlp_dim, s.heads, s.patch_size)
    options = {"pooling": "token", **s.options}
    return fit(kvs.ViT(shape, s.classes, image_size=s.image_size, **options), s, clock)


def keras_hub(s, clock):
    import keras
    import keras_hub

    keras.config.set_dtype_policy(s.dtype)
    clock.start()
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(s.image_size, s.image_size, 3),
        patch_size=s.patch_size,
        num_layers=s.depth,
        num_heads=s.heads,
        hidden_dim=s.width,
        mlp_dim=s.mlp_dim,
    )
    task = keras_hub.models.ViTImageClassifier(backbone, s.classes)
    # The task's own `fit` refuses a generator; its layers as a plain model take Keras' own.
    return fit(keras.Model(task.input, task.output), s, clock)


def timm(s, clock, compiled=False):
    import torch
    from timm.models.vision_transformer import VisionTransformer

    device = clock.framework.device
    clock.start()
    model = VisionTransformer(
        s.image_size, s.patch_size, num_classes=s.classes, embed_dim=s.width, depth=s.depth,
        num_heads=s.heads, mlp_ratio=s.mlp_dim / s.width,
    ).to(device).train()  # fmt: skip
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    images, labels = batch(s)
    images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(labels.astype("int64"))
    half = s.dtype == "mixed_bfloat16"
    for _ in range(clock.total):
        x, y = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        clock.step_done(loss)
    return sum(p.numel() for p in model.parameters())


def timm_compiled(s, clock):
    return timm(s, clock, compiled=True)


def flax(s, clock):
    import jax
    import jax.numpy as jnp
    import optax
    from transformers import FlaxViTForImageClassification, ViTConfig

    clock.start()
    config = ViTConfig(
        hidden_size=s.width, num_hidden_layers=s.depth, num_attention_heads=s.heads,
        intermediate_size=s.mlp_dim, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-6, image_size=s.image_size, patch_size=s.patch_size,
        num_labels=s.classes,
    )  # fmt: skip
    half = s.dtype == "mixed_bfloat16"
    model = FlaxViTForImageClassification(config, dtype=jnp.bfloat16 if half else jnp.float32)
    optimizer = optax.adamw(RATE, weight_decay=DECAY)

    def loss_of(parameters, images, labels):
        logits = model(images, params=parameters).logits.astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def train_step(parameters, state, images, labels):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, images, labels)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    train_step = jax.jit(train_step, donate_argnums=(0, 1))
    parameters = model.params
    count = sum(p.size for p in jax.tree.leaves(parameters))
    state = optimizer.init(parameters)
    images, labels = batch(s)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    for _ in range(clock.total):
        parameters, state, loss = train_step(parameters, state, images, labels)
        clock.step_done(loss)
    return count


class Contestant(NamedTuple):
    """How one is measured, on which framework (`None`: Keras' backend), and what it needs."""

    measure: Callable
    framework: str | None
    packages: tuple[str, ...]


CONTESTANTS = {
    "ours": Contestant(ours, None, ("keras",)),
    "keras_hub": Contestant(keras_hub, None, ("keras", "keras-hub")),
    "timm": Contestant(timm, "torch", ("timm",)),
    "timm_compiled": Contestant(timm_compiled, "torch", ("timm",)),
    "flax": Contestant(flax, "jax", ("flax", "optax", "transformers<5")),
}


def main():
    s = SimpleNamespace(**json.loads(sys.argv[1]))
    contestant = CONTESTANTS[s.contestant]
    name = contestant.framework or s.backend
    try:
        framework = FRAMEWORKS[name]()
        clock = Clock(framework, s.steps, s.windows)
        device = framework.name()
        parameters = contestant.measure(s, clock)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    memory = host_memory()
    peak = framework.peak_memory()
    if peak is None and memory:
        peak = memory["VmHWM"]
        added = peak - clock.memory["VmRSS"]
    else:
        added = peak
    half = s.dtype == "mixed_bfloat16"
    packages = [name, *(package.partition("<")[0] for package in contestant.packages)]
    print(
        json.dumps(
            {
                "device": device,
                "versions": {package: metadata.version(package) for package in packages},
                "parameters": parameters,
                "first": clock.first,
                "windows": clock.windows,
                "peak_memory": peak,
                "added_memory": added,
                "product_rate": product_rate(
                    framework, s.matrix, "bfloat16" if half else "float32"
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
