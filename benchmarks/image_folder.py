"""Time and memory to list a folder of a million image files, and to open it again.

    python benchmarks/image_folder.py --out benchmarks/results/image_folder-2026-11-29.md

The files are made in a temporary folder, one small PNG linked under every name, in as many class
folders as ImageNet has. Each opening is a process of its own.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from devices import cpu_name
from peers import command
from PIL import Image

from keras_vit_scale.data.folder import RESTED

OPEN = """
import json, sys, time
from devices import host_memory
from keras_vit_scale.data import ImageFolder
before = host_memory()["VmHWM"]
begun = time.perf_counter()
source = ImageFolder(sys.argv[1])
seconds = time.perf_counter() - begun
source[len(source) // 2]
after = host_memory()["VmHWM"]
print(json.dumps({"seconds": seconds, "before": before, "after": after, "images": len(source)}))
"""


def make(folder: Path, images: int, classes: int) -> None:
    """Class folders with so many files in all: in each one file, and further names for it."""
    for c in range(classes):
        inside = folder / f"n{c:08d}"
        inside.mkdir(parents=True)
        first = inside / f"n{c:08d}_00000000.png"
        Image.new("RGB", (8, 8), "red").save(first)
        for i in range(1, images // classes):
            os.link(first, inside / f"n{c:08d}_{i:08d}.png")


def opened(folder: Path, cache: Path) -> dict[str, float]:
    """What a fresh process measures."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)],
        env={**os.environ, "KERAS_VIT_SCALE_CACHE": str(cache)},
        cwd=Path(__file__).parent,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "images"), Path(temporary, "cache")
        make(folder, options.images, options.classes)
        time.sleep(RESTED + 1)
        rows = []
        for name in ("listed", "by its index", "by its index, again"):
            r = opened(folder, cache)
            memory = f"{r['after'] / 2**20:,.0f} | {(r['after'] - r['before']) / 2**20:,.0f}"
            rows.append(f"| {name} | {r['images']:,} | {r['seconds']:.2f} | {memory} |")
        index = sum(path.stat().st_size for path in cache.glob("*"))
    lines = [
        f"{cpu_name()}, {datetime.date.today()}; Python {sys.version.split()[0]}.",
        "",
        f"    {command()}",
        "",
        f"{options.classes:,} class folders of names for small files, lately written. Each opening "
        f"is a process; its memory is the most it held. The index takes {index / 2**20:.1f} MiB.",
        "",
        "| opened | images | seconds | MiB, imports included | MiB more than imports |",
        "|---|---:|---:|---:|---:|",
        *rows,
    ]
    print("\n".join(lines))
    if options.out:
        text = "\n".join(["# A folder of many images", "", *lines, ""])
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
