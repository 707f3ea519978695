"""How right `planning.estimate` is: against what the compiler for TPUs plans for the same step.

    python benchmarks/estimates.py --out estimates.md

Each size is planned with two batches, a small one, where weights and state are most of it, and a
large one, where activations are; with each `remat` and three optimizers. Then come other
shapes, types and devices, which the estimate's numbers were fitted to as well, and layouts on
sixteen devices, which they were not. Nothing is allocated.
"""

import argparse
import statistics

import ahead  # noqa: F401  (the backend and its processor)
from pages import add_out, publish

from keras_vit_scale import ViTConfig, distribution
from keras_vit_scale.planning import estimate, tpu_devices

#: Two batches a size.
BATCHES = {
    "S/16": (64, 1024),
    "B/16": (16, 512),
    "L/16": (8, 256),
    "g/14": (4, 64),
    "G/14": (1, 32),
}
REMATS = ("full", "auto", None)
OPTIMIZERS = ("adafactor", "adamw", "adam")

#: What else there is: size or width, depth, MLP width and heads at patch 14; batch; options.
OTHERS = [
    ((512, 100, 2048, 8), 8, {}),
    ((320, 64, 1280, 5), 64, {}),
    ((2048, 24, 4096, 16), 8, {}),
    ("B/16", 64, {"image_size": 384}),
    ("B/16", 64, {"pooling": "token"}),
    ("B/16", 128, {"num_classes": 29_593}),
    ("L/16", 32, {"dtype": "float32"}),
    ("L/16", 32, {"dtype": "bfloat16"}),
    ("L/16", 64, {"remat": "dots"}),
    ("L/16", 64, {"device": "v3"}),
    ("L/16", 64, {"device": "v4"}),
    ("L/16", 64, {"device": "v5e"}),
    ("L/16", 64, {"device": "v6e"}),
    ("B/16", 128, {"device": "v6e"}),
]

#: Layouts on v5e:4x4.
LAYOUTS = {
    "data parallel": lambda devices: distribution.data_parallel(devices=devices),
    "fully sharded": lambda devices: distribution.fully_sharded(devices=devices),
    "fully sharded x 2": lambda devices: distribution.fully_sharded(model=2, devices=devices),
    "tensor parallel x 2": lambda devices: distribution.tensor_parallel(2, devices=devices),
}


def compared(size, batch, distributed=None, **options):
    """GiB that are planned and estimated for one device, and their relative difference."""
    options = {"dtype": "mixed_bfloat16", "remat": "full", "device": "v5p", **options}
    shape = size if isinstance(size, str) else ViTConfig(*size, patch_size=14)
    told = estimate(shape, batch, distribution=distributed, **options, exact=True)
    planned, estimated = told.compiled / 2**30, told.memory.total / 2**30
    return planned, estimated, estimated / planned - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=list(BATCHES))
    parser.add_argument("--batches", nargs="*", type=int, help="instead of two of each size")
    parser.add_argument("--remats", nargs="*", default=["full", "auto", "none"])
    parser.add_argument("--optimizers", nargs="*", default=OPTIMIZERS, choices=OPTIMIZERS)
    parser.add_argument("--only-presets", action="store_true")
    add_out(parser)
    arguments = parser.parse_args()
    lines, differences = [], []

    def add(cells, result):
        planned, estimated, difference = result
        differences.append(abs(difference))
        lines.append(
            f"| {' | '.join(map(str, cells))} | {planned:.2f} | {estimated:.2f} | "
            f"{difference:+.1%} |"
        )
        print(lines[-1], flush=True)

    def summary():
        mean, most = statistics.mean(differences), max(differences)
        lines.extend(["", f"{len(differences)} steps: {mean:.1%} in the mean, {most:.1%} at most."])
        lines.append("")
        differences.clear()

    head = "planned, GiB | estimated, GiB | difference |"
    lines += [f"| model | batch | remat | optimizer | {head}", "|---|---|---|---|---|---|---|"]
    for preset in arguments.presets:
        for batch in arguments.batches or BATCHES[preset]:
            for remat in (None if r == "none" else r for r in arguments.remats):
                for optimizer in arguments.optimizers:
                    result = compared(preset, batch, remat=remat, optimizer=optimizer)
                    add((preset, batch, remat, optimizer), result)
    summary()
    if not arguments.only_presets:
        lines += [f"| model | batch | with | {head}", "|---|---|---|---|---|---|"]
        for size, batch, options in OTHERS:
            name = size if isinstance(size, str) else "{} x {}, MLP {}, {} heads".format(*size)
            words = ", ".join(f"{k} {v}" for k, v in options.items())
            add((name, batch, words), compared(size, batch, **options))
        summary()
        lines += [f"| model | batch | layout | {head}", "|---|---|---|---|---|---|"]
        for name, layout in LAYOUTS.items():
            for batch in (64, 512):
                devices = tpu_devices("v5e:4x4")
                result = compared("G/14", batch, layout(devices), device="v5e")
                add(("G/14", batch, name), result)
        summary()
    publish(
        "Estimates of memory, and what the compiler for TPUs plans",
        lines,
        "One device of TPU v5p where nothing else is said, mixed_bfloat16, 224 pixels, 1,000 "
        "classes; what is planned is counted before code is generated, without the gaps between "
        "arrays.",
        arguments.out,
    )


if __name__ == "__main__":
    main()
