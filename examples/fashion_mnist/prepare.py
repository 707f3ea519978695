"""Packs Fashion-MNIST's four files into two .npz data sets: fashion-mnist and fashion-mnist-test.

    sudo apt-get install dataset-fashion-mnist
    python examples/fashion_mnist/prepare.py

The files are those that its authors publish (train-images-idx3-ubyte.gz and its like); any folder
that holds them will do. Xiao, Rasul and Vollgraf, arXiv 1708.07747: 60,000 and 10,000 grey images
of 28 x 28 pixels, ten kinds of clothes.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes in the IDX format: type, sizes as big-endian integers, values.

    Raises:
        ValueError: If the file is no such array.
    """
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} must be an IDX file of bytes. Received: it begins {data[:4]!r}")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("."))
    arguments = parser.parse_args()

    for part, name in (("train", "fashion-mnist"), ("t10k", "fashion-mnist-test")):
        images = read_idx(arguments.source / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(arguments.source / f"{part}-labels-idx1-ubyte.gz")
        path = arguments.out / f"{name}.npz"
        np.savez_compressed(path, images=images, labels=labels, class_names=CLASSES)
        print(f"{path}: {len(images):,} images of {images.shape[1]} x {images.shape[2]} pixels")


if __name__ == "__main__":
    main()
