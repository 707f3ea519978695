"""How right `planning.estimate` is: against what the compiler for TPUs plans for the same step.

    python benchmarks/estimates.py --out estimates.md

Each size is planned with three batches, each `remat` and three optimizers. With the smallest batch
weights and state are most of it, with the largest activations. Then come other shapes, types and
devices, which the estimate's numbers were fitted to as well, and layouts on sixteen devices, of
which one number was: what a gathered block takes. Nothing is allocated.

A plan takes some seconds. `--plans` keeps them, so that a run which was interrupted goes on, and an
estimate that was changed is judged by the plans that there are.
"""

import argparse
import json
import statistics
from itertools import chain, product
from pathlib import Path

import ahead  # noqa: F401  (the backend and its processor)
from pages import add_out, publish

from keras_vit_scale import ViTConfig, distribution
from keras_vit_scale.distribution import Cuts
from keras_vit_scale.planning import estimate, tpu_devices

#: Three batches a size.
BATCHES = {
    "S/16": (32, 256, 1024),
    "B/16": (16, 128, 512),
    "L/16": (8, 64, 256),
    "g/14": (4, 16, 64),
    "G/14": (1, 8, 32),
}
OPTIMIZERS = ("adafactor", "adamw", "adam")
REMATS = ("full", "auto", None)

#: What else there is: size or width, depth, MLP width and heads at patch 14; batch; options.
OTHERS = [
    ((512, 100, 2048, 8), 8, {}),
    ((320, 64, 1280, 5), 64, {}),
    ((2048, 24, 4096, 16), 8, {}),
    ("B/16", 64, {"image_size": 384}),
    ("B/16", 64, {"pooling": "token", "optimizer": "adam"}),
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

#: Layouts on v5e:4x4, and images on all devices together.
LAYOUTS = [
    ("data parallel", 64),
    ("tensor parallel x 2", 64),
    ("fully sharded", 64),
    ("fully sharded", 512),
    ("fully sharded, 4 shards", 64),
    ("fully sharded x 2", 64),
]


def parts(name):
    """Kind, devices that share a block, and shards of "fully sharded x 2, 4 shards"."""
    name, _, shards = name.removesuffix(" shards").partition(", ")
    kind, _, model = name.partition(" x ")
    return kind, int(model or 1), int(shards) if shards else None


def layout_of(name):
    """A layout by name on sixteen devices that are not there."""
    devices = tpu_devices("v5e:4x4")
    kind, model, shards = parts(name)
    if kind == "data parallel":
        return distribution.data_parallel(devices=devices)
    if kind == "tensor parallel":
        return distribution.tensor_parallel(model, devices=devices)
    return distribution.fully_sharded(model=model, shards=shards, devices=devices)


class Plans:
    """Bytes that the compiler planned, by step; kept in a file, if there is one."""

    def __init__(self, path):
        self.path, self.known = path, {}
        if path is not None and path.exists():
            self.known = dict(json.loads(line) for line in path.read_text().splitlines())

    def __call__(self, size, batch, layout, options):
        key = json.dumps([size, batch, layout, options], sort_keys=True)
        if key not in self.known:
            shape = size if isinstance(size, str) else ViTConfig(*size, patch_size=14)
            cut = {} if layout is None else {"distribution": layout_of(layout)}
            self.known[key] = estimate(shape, batch, **cut, **options, exact=True).compiled
            if self.path is not None:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps([key, self.known[key]]) + "\n")
        return self.known[key]


def cuts_of(name):
    """What `layout_of` cuts, which needs no devices."""
    kind, model, shards = parts(name)
    return Cuts(16 // model, model, fully_sharded=kind == "fully sharded", shards=shards)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=list(BATCHES))
    parser.add_argument("--batches", nargs="*", type=int, help="instead of three of each size")
    parser.add_argument("--only-presets", action="store_true")
    parser.add_argument("--plans", type=Path, metavar="FILE.jsonl", help="keep the plans here")
    add_out(parser)
    arguments = parser.parse_args()
    plans, lines, differences = Plans(arguments.plans), [], []

    def compare(size, batch, layout=None, **options):
        """Cells of one step: what is planned, and how far the estimate is off."""
        options = {"dtype": "mixed_bfloat16", "remat": "full", "device": "v5p", **options}
        shape = size if isinstance(size, str) else ViTConfig(*size, patch_size=14)
        cuts = None if layout is None else cuts_of(layout)
        planned = plans(size, batch, layout, options) / 2**30
        estimated = estimate(shape, batch, distribution=cuts, **options).needed / 2**30
        differences.append(abs(estimated / planned - 1))
        return f"{planned:.2f}", f"{estimated / planned - 1:+.1%}"

    def row(size, *cells):
        name = size if isinstance(size, str) else "{} x {}, MLP {}, {} heads".format(*size)
        lines.append(f"| {' | '.join(map(str, (name, *cells)))} |")
        print(lines[-1], flush=True)

    def head(*columns):
        lines.extend([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"])

    def summary():
        mean, most = statistics.mean(differences), max(differences)
        lines.extend(["", f"{mean:.1%} in the mean of {len(differences)}, {most:.1%} at most.", ""])
        differences.clear()

    of_each = [column for name in OPTIMIZERS for column in (f"{name}, GiB", "estimate")]
    head("model", "batch", "remat", *of_each)
    for preset in arguments.presets:
        for batch, remat in product(arguments.batches or BATCHES[preset], REMATS):
            cells = [compare(preset, batch, remat=remat, optimizer=name) for name in OPTIMIZERS]
            row(preset, batch, remat, *chain.from_iterable(cells))
    summary()
    if not arguments.only_presets:
        head("model", "batch", "with", "planned, GiB", "estimate")
        for size, batch, options in OTHERS:
            told = ", ".join(f"{k} {v}" for k, v in options.items())
            row(size, batch, told, *compare(size, batch, **options))
        summary()
        head("model", "batch", "on v5e:4x4", "planned, GiB", "estimate")
        for layout, batch in LAYOUTS:
            cells = compare("G/14", batch, layout, device="v5e", num_classes=29_568)
            row("G/14", batch, layout, *cells)
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
