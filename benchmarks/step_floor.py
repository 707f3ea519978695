"""Where the time of a training step goes: its matrix products alone, forward, backward, update.

    KERAS_BACKEND=jax python benchmarks/step_floor.py --preset L/16 --batch 8

The floor is the time of the step's matrix products and nothing else, but for the few of the
pooling: for each product of the forward pass the three of training (the product itself, and the
gradients of both its factors), of the same shapes, as the backend multiplies. Beside it stand the
forward pass (`predict_on_batch`) and the whole step (`train_on_batch`) with plain SGD and with an
optimizer that keeps state, in turns, round after round; the last column is the median of the ratios
to the floor of the round. A gap between the floor and a step is what is left to gain; between two
steps, what the optimizer takes.

CPU seconds are counted with those of the clock: machines that others use lend no clock.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from devices import cpu_name
from keras import ops

import keras_vit_scale as kvs
from keras_vit_scale.models import preset

CLASSES = 1000


def products(config, batch, image_size):
    """Shapes (x, w) of the products of one forward pass, each with how often it is done."""
    tokens = (image_size // config.patch_size) ** 2
    rows, width, mlp = batch * tokens, config.width, config.mlp_dim
    heads, size = batch * config.heads, config.width // config.heads
    return [
        ((rows, 3 * config.patch_size**2), (3 * config.patch_size**2, width), 1),
        ((rows, width), (width, 3 * width), config.depth),
        ((heads, tokens, size), (heads, size, tokens), config.depth),
        ((heads, tokens, tokens), (heads, tokens, size), config.depth),
        ((rows, width), (width, width), config.depth),
        ((rows, width), (width, mlp), config.depth),
        ((rows, mlp), (mlp, width), config.depth),
        ((batch, width), (width, CLASSES), 1),
    ]  # fmt: skip


def floor(config, batch, image_size):
    """A function that does the products of a training step, and returns their FLOPs."""
    rng = np.random.default_rng(0)
    draw = lambda shape: ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))  # noqa: E731
    sets = []
    for x, w, times in products(config, batch, image_size):
        y = (*x[:-1], w[-1])
        sets.append((draw(x), draw(w), draw(y), times))
    flops = sum(3 * 2 * np.prod(x.shape) * w.shape[-1] * times for x, w, _, times in sets)

    def run():
        for x, w, y, times in sets:
            for _ in range(times):
                ops.matmul(x, w)
                ops.matmul(y, ops.swapaxes(w, -1, -2))
                last = ops.matmul(ops.swapaxes(x, -1, -2), y)
            # Waits, as JAX and TensorFlow may still be at it.
            ops.convert_to_numpy(last)

    return run, float(flops)


def step(config, image_size, optimizer, images, labels):
    model = kvs.ViT(config, CLASSES, image_size=image_size)
    model.compile(optimizer, kvs.SigmoidCrossEntropy())
    return lambda: model.train_on_batch(images, labels), model


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", type=preset, default="B/16", help="size/patch, such as B/16")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    if min(chosen.batch, chosen.image_size, chosen.rounds) < 1:
        parser.error("--batch, --image-size and --rounds must be positive")
    config, size = chosen.preset, chosen.image_size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(chosen.batch, size, size, 3)).astype("float32")
    labels = rng.integers(CLASSES, size=chosen.batch)
    multiply, flops = floor(config, chosen.batch, size)
    plain, model = step(config, size, keras.optimizers.SGD(1e-3), images, labels)
    kept, _ = step(config, size, kvs.Adafactor(1e-3), images, labels)
    works = {
        "matrix products alone": multiply,
        "forward": lambda: model.predict_on_batch(images),
        "step, SGD": plain,
        "step, Adafactor": kept,
    }
    for work in works.values():
        work()  # compiles
    seconds = {name: [] for name in works}
    for _ in range(chosen.rounds):
        for name, work in works.items():
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            seconds[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    print(
        f"{config.width} x {config.depth}/{config.patch_size}, batch {chosen.batch} at {size} "
        f"pixels, float32, {keras.backend.backend()}, keras {keras.__version__}, {cpu_name()}\n"
    )
    print("| | seconds | CPU seconds | GFLOP/s | CPU time over that of the products |")
    print("|---|---|---|---|---|")
    for name, taken in seconds.items():
        clock, cpu = (statistics.median(each) for each in zip(*taken, strict=True))
        ratios = [
            own[1] / least[1] for own, least in zip(taken, seconds[next(iter(works))], strict=True)
        ]
        share = 1 / 3 if name == "forward" else 1
        print(
            f"| {name} | {clock:.3f} | {cpu:.3f} | {share * flops / clock / 1e9:.1f} "
            f"| {statistics.median(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
