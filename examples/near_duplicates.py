"""No test image in the training set: find its near-duplicates, look at them, train without them.

    python examples/near_duplicates.py photos/ test_photos/ --out clean

Without arguments it takes scikit-learn's two photographs in pieces, some of which it plants among
the training images as they would come back from the web: compressed, halved, mirrored, cropped.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from keras_vit_scale.data import ArraySource, Excluding, calibrate, deduplicate, open_source
from keras_vit_scale.data.near_duplicates.planted import planted


def pieces():
    """Training and test images: pieces of photographs, and duplicates planted among the first."""
    from sklearn.datasets import load_sample_images

    side = 106
    images = [
        photo[y : y + side, x : x + side]
        for photo in load_sample_images().images
        for y in range(0, 4 * side, side)
        for x in range(0, 6 * side, side)
    ]
    train, test = images[::2], images[1::2]
    for i, kind in enumerate(("jpeg", "half", "flip", "crop")):
        copy = Image.fromarray(planted(test[5 + i], kind, seed=i))
        train.append(np.asarray(copy.resize((side, side))))
    return (ArraySource(np.stack(part), [0] * len(part)) for part in (train, test))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("train", nargs="?", help="a folder of class folders, an .npz file, ...")
    parser.add_argument("test", nargs="?", help="likewise")
    parser.add_argument("--out", type=Path, default=Path("clean"), help="folder of the work")
    args = parser.parse_args()
    if args.train and not args.test:
        parser.error("name the test images too")
    train, test = map(open_source, (args.train, args.test)) if args.train else pieces()

    # What would be found of images like ours?
    found = calibrate(test, images=200)
    print(found.table(step=31).to_string(float_format="{:.2f}".format), end="\n\n")

    listed = deduplicate(train, [test], folder=args.out, crops=True)
    for row in listed.pairs().itertuples():
        mirrored = ", mirrored" if row.mirrored else ""
        print(f"training {row.image} is test {row.other} ({row.distance} bits{mirrored})")
    print(f"Look at {args.out / 'pairs.html'}.")

    clean = Excluding(train, listed)
    print(f"{len(clean)} of {len(train)} images are left to train on.")


if __name__ == "__main__":
    main()
