"""Trains one model on devices that a CPU pretends to be, laid out as told, and writes what came.

    python train_on.py OUT LAYOUT ...

LAYOUT is a mesh such as "data=4,model=2", or "one" device without any; "+full" shards fully,
"+shards2" over two of its rows; "+all" trains with dropout, averages and accumulated gradients. It
is a process of its own because JAX counts its devices when it starts. Writes OUT/LAYOUT.npz.
"""

import contextlib
import math
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale.data import ArraySource, EvalTransform
from keras_vit_scale.distribution import MeshParallel, describe, make_mesh, parse_mesh
from keras_vit_scale.evaluation import extract_features
from keras_vit_scale.sharding import assign_shares

STEPS, BATCH = 20, 8
SHAPE = kvs.ViTConfig(width=40, depth=3, mlp_dim=44, heads=4, patch_size=4)


def layout_of(mesh, options):
    if mesh == "one":
        return contextlib.nullcontext()
    sizes = parse_mesh(mesh)
    devices = keras.distribution.list_devices()[: math.prod(sizes.values())]
    shards = (int(option.removeprefix("shards")) for option in options if "shards" in option)
    return MeshParallel(
        make_mesh(**sizes, devices=devices),
        fully_sharded="full" in options,
        shards=next(shards, None),
        min_size=64,
    )


def train(mesh, *options):
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(STEPS * BATCH, 12, 16, 3)).astype("float32")
    labels, ones = rng.integers(0, 7, STEPS * BATCH), np.ones(BATCH, "float32")
    drops, more = {}, {}
    if "all" in options:
        drops = {"dropout": 0.1, "stochastic_depth": 0.1, "seed": 3}
        more = {"use_ema": True, "ema_at_end": False, "gradient_accumulation_steps": 2}
    with layout_of(mesh, options):
        model = kvs.ViT(SHAPE, 7, image_size=(12, 16), head_bias=-2.0, **drops)
        decay = kvs.head_and_body(3.0, 0.03)
        optimizer = kvs.Adafactor(1e-3, weight_decay=decay, global_clipnorm=1.0, **more)
        model.compile(optimizer, kvs.SigmoidCrossEntropy())
        losses = [
            # Keras 3.12 cannot lay out weights of examples that are not there.
            model.train_on_batch(images[i : i + BATCH], labels[i : i + BATCH], ones)
            for i in range(0, len(images), BATCH)
        ]
        table = describe(model)
        told = {
            "losses": losses,
            "logits": model.predict_on_batch(images[:BATCH]),
            "bytes": table["bytes"].iloc[-1],
            "bytes_a_device": table["bytes_a_device"].iloc[-1],
            **{f"weights/{v.path}": np.asarray(v.value) for v in model.variables},
            **{f"optimizer/{v.path}": as_float(v) for v in optimizer.variables},
            "features": features(model),
        }
        if mesh != "one":
            # The same model in another mesh, for which its function is compiled anew.
            with layout_of(f"data={math.prod(parse_mesh(mesh).values())}", ()):
                told["features elsewhere"] = features(model)
        for variable in model.variables:
            values = rng.normal(size=variable.shape).astype(variable.dtype)
            assign_shares(variable, values.__getitem__)
            np.testing.assert_array_equal(np.asarray(variable.value), values)
        return told


def features(model):
    images = np.random.default_rng(1).integers(0, 256, (11, 12, 16, 3), dtype=np.uint8)
    return extract_features(model, ArraySource(images, [0] * 11), EvalTransform((12, 16)), 5)


def as_float(variable):
    """Without bfloat16, which a file of NumPy does not know."""
    value = np.asarray(variable.value)
    return value.astype("float32") if value.dtype.kind == "V" else value


if __name__ == "__main__":
    out, *layouts = sys.argv[1:]
    for text in layouts:
        np.savez(Path(out, f"{text}.npz"), **train(*text.split("+")))
