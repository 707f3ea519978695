"""From JPEG files to batches for training: ours beside torchvision, tf.data and Grain with Pillow.

    python benchmarks/input_pipeline.py --python tf_data=PATH torchvision=PATH

Photographs of 500 x 375 with grain, as cameras have it, of about 100 kB each, lie in a temporary
folder. From them come batches of the inception crop at 224 px, by bilinear filters: antialiased, as
Pillow and torchvision resize by default, and sampled, as tf.image.resize does. A filter is compared
with the same filter alone: a sampled one looks at four pixels, however much an image shrinks.

`ours` decodes and resizes with Pillow, `fast` with nvImageCodec, on processors, and, where the
filter is sampled, with OpenCV; both with the two threads of one process, `ours_processes` and
`fast_processes` with a process a core. `torchvision` is its image folder as it comes, which reads
with Pillow, `torchvision_tensors` its own decoder and tensors. On one core Grain reads with
threads, on several with as many processes, as torchvision always does.

Each contestant runs in a fresh process, in turns; each round gives a ratio to ours in that round.
Machines are noisy: quote the ratios. Milliseconds of processors an image, of all threads and
processes, depend least on what else runs. Memory is the sum of the most that each process held,
its imports included; pages that processes share are counted for each.

A peer that is not installed is left out.
"""

import argparse
import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
from peers import add_options, call, check_options, median, ratio, report
from PIL import Image
from pipelines import CONTESTANTS

#: Names of files, at least.
NAMES = 4096

#: Of the contestants those that are ours.
OWN = ("ours", "fast", "ours_processes", "fast_processes")

#: Who resizes how.
FILTERS = {
    "antialiased": (
        *OWN,
        "grain_pillow",
        "torchvision",
        "torchvision_tensors",
        "tf_data",
    ),
    "sampled": ("ours", "fast", "fast_processes", "torchvision_tensors", "tf_data"),
}


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=int, default=256, help="files")
    add("--batch", type=int, default=32)
    add("--batches", type=int, default=16, help="that are measured")
    add("--warm-up", type=int, default=10, help="batches before them")
    add("--cores", type=int, nargs="+", default=[1, 2])
    add("--filters", nargs="+", choices=list(FILTERS), default=list(FILTERS))
    add("--peers", nargs="*", choices=sorted({*CONTESTANTS} - {"ours"}), help="all by default")
    add("--backend", choices=["jax", "tensorflow", "torch"], default="jax", help="of ours")
    add_options(parser)
    arguments = parser.parse_args(arguments)
    check_options(parser, arguments, CONTESTANTS, ("images", "batch", "batches"))
    return arguments


def photograph(rng):
    """Smooth colours under grain, uint8 (375, 500, 3)."""
    colours = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(colours.resize((500, 375), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 18, (375, 500, 1)) + rng.normal(0, 6, (375, 500, 3))
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def write(folder, images):
    """Writes so many photographs of two classes; returns the mean of their bytes.

    Each gets further names: what shuffles a data set of a few images, as Grain does, takes longer
    for each than where there are thousands.
    """
    rng, size = np.random.default_rng(0), 0
    for i in range(images):
        path = folder / "ab"[i % 2] / f"{i:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photograph(rng)).save(path, quality=88)
        size += path.stat().st_size
        for again in range(1, -(-NAMES // images)):
            os.link(path, path.with_stem(f"{i:05d}-{again}"))
    return size / images


def compete(folder, arguments):
    """By filter, cores and contestant its results, one a round."""
    peers = set(CONTESTANTS) if arguments.peers is None else {"ours", *arguments.peers}
    results, missing = {}, set()
    turns = itertools.product(range(arguments.rounds), arguments.filters, arguments.cores)
    for turn, filter, cores in turns:
        for name in (n for n in FILTERS[filter] if n in peers - missing):
            settings = {
                "contestant": name, "folder": str(folder), "antialias": filter == "antialiased",
                "cores": cores, "image_size": arguments.image_size, "batch": arguments.batch,
                "batches": arguments.batches, "warm_up": arguments.warm_up,
            }  # fmt: skip
            packages = CONTESTANTS[name].packages
            result = call("pipelines.py", name, packages, settings, arguments)
            if result is None:
                missing.add(name)
                continue
            results.setdefault((filter, cores), {}).setdefault(name, []).append(result)
            print(
                f"round {turn + 1}: {filter}, {cores} cores: {name}: {result['rate']:.0f} images/s",
                flush=True,
            )
    return results


def table(results):
    """The results as lines of Markdown."""
    ratios = " | ".join(f"{own} / it" for own in OWN)
    lines = [
        f"| filter | cores | pipeline | images/s | {ratios} | processor ms an image | MB |",
        f"|---|---:|---|---:|{'---|' * len(OWN)}---:|---:|",
    ]
    for (filter, cores), contestants in results.items():
        for name, of_one in contestants.items():
            busy, memory = median(of_one, "busy"), median(of_one, "memory")
            ratios = [
                ratio(contestants[own], of_one, "rate") if own in contestants else "-"
                for own in OWN
            ]
            cells = [
                filter,
                str(cores),
                name,
                f"{median(of_one, 'rate'):.0f}",
                *ratios,
                "-" if busy is None else f"{busy:.2f}",
                "-" if memory is None else f"{memory / 1e6:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *scaling(results)]


def scaling(results):
    """How much more several cores give than one, by contestant."""
    lines = []
    for (filter, cores), contestants in results.items():
        one = results.get((filter, 1))
        if cores == 1 or one is None:
            continue
        gains = [f"{n} {ratio(r, one[n], 'rate')}" for n, r in contestants.items() if n in one]
        lines += ["", f"{cores} cores over one, {filter}: {'; '.join(gains)}."]
    return lines


def main():
    arguments = parse()
    with tempfile.TemporaryDirectory() as temporary:
        size = write(Path(temporary), arguments.images)
        results = compete(Path(temporary), arguments)
    measured = [
        r for of_filter in results.values() for of_one in of_filter.values() for r in of_one
    ]
    lines = [
        f"{arguments.images} JPEGs of 500 x 375 and {size / 1e3:.0f} kB, in batches of "
        f"{arguments.batch}; {arguments.batches} batches a process are measured. A ratio above 1 "
        "says that the one of ours is the quicker one.",
        "",
        *table(results),
    ]
    named = {f"{f}, {c} cores": r for (f, c), r in results.items()}
    report("Input pipeline", lines, named, measured, arguments)


if __name__ == "__main__":
    main()
