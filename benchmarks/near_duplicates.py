"""How many planted duplicates are found, what is confused, and what it costs.

    mkdir -p data/emoji && cd data
    git clone https://github.com/EliSchwartz/imagenet-sample-images photos
    npm pack emoji-datasource-apple && tar xzf emoji-datasource-apple-*.tgz -C emoji
    pip install imagehash pdqhash scikit-image && cd ..
    python benchmarks/near_duplicates.py --photos data/photos \\
        --emoji data/emoji/package/img/apple/64

Photographs are split in two. Of one half are the originals in which duplicates are planted, and
queries; of the other, cut out at random, mirrored or not, the many images that must not be found:
real hashes, of real pixels, with an invented number each. Copies of one photograph among the files
fall on the same side, so that every pair across is false; but of a picture in several proportions
give one file alone, since such are not recognised as one. The thresholds of the other tools are
the most generous at which they confuse no pair of the same crops.

`--sheet` draws the pairs that were confused, to look at. `--model` adds the check by a model,
`--fashion` Fashion-MNIST in its own files (Debian's package dataset-fashion-mnist), `--no-costs`
leaves the measurement of costs out.
"""

import argparse
import gzip
import io
import os
import platform
import resource
import tempfile
import time
from datetime import date
from importlib import metadata
from pathlib import Path

import numpy as np
from devices import cpu_name
from peers import command
from PIL import Image, ImageDraw
from scipy.sparse.csgraph import connected_components

from keras_vit_scale.data import ArraySource, ImageFolder, calibrate, deduplicate
from keras_vit_scale.data.near_duplicates import candidates
from keras_vit_scale.data.near_duplicates.check import directions
from keras_vit_scale.data.near_duplicates.deduplicate import CHECKED_THRESHOLD, THRESHOLD
from keras_vit_scale.data.near_duplicates.hashing import (
    VIEWS,
    are_plain,
    hashes_of,
    mirrored,
    part_thumbnails,
    thumbnail,
)
from keras_vit_scale.data.near_duplicates.neighbours import Neighbours
from keras_vit_scale.data.near_duplicates.planted import KINDS, planted

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
CROP = (0.6, 1.0)  # sides of what is cut out, as parts of the photograph's


def pictures(folder):
    """Every image file below a folder as RGB, uint8, transparency on white."""
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES):
        picture = Image.open(path).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        picture = white.convert("RGB")
        picture.thumbnail((640, 640))
        yield np.asarray(picture)


def groups_of(images):
    """Which images are of one photograph, as numbers of groups: hashes nearer than 48 bits."""
    hashes = hashes_of(np.stack([thumbnail(image) for image in images]))
    near = np.zeros((len(hashes), len(hashes)), bool)
    for view in (hashes, mirrored(hashes)):
        near |= np.bitwise_count(view[:, None] ^ hashes[None]).sum(-1) < 48
    return connected_components(near)[1]


class Cuttings:
    """Random parts of images, in grey, mirrored or not, that are not plain, and their hashes.

    Attributes:
        hashes: Of as many parts as were asked for.
        cuts: Of each the image, whether it is mirrored, and the box.
        plain: Which part of what was cut out was plain.
    """

    def __init__(self, images, count, seed):
        self._pictures = []
        for image in images:
            picture = Image.fromarray(image).convert("L")
            picture.thumbnail((192, 192))
            turned = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            self._pictures.append((picture, turned))
        rng, kept, self.cuts, seen = np.random.default_rng(seed), [], [], 0
        while len(self.cuts) < count:
            if seen > 10 * max(count, 2048):
                raise ValueError(
                    f"Nine tenths of the images' parts are plain: {len(images)} images"
                )
            cuts = [self._cut(rng) for _ in range(2048)]
            parts = [self._pictures[i][turned].resize(
                (32, 32), Image.Resampling.BILINEAR, box) for i, turned, box in cuts]  # fmt: skip
            thumbnails = np.stack([np.asarray(part) for part in parts])
            good = ~are_plain(thumbnails)
            kept.append(hashes_of(thumbnails)[good])
            self.cuts += [cut for cut, is_good in zip(cuts, good, strict=True) if is_good]
            seen += len(cuts)
        self.plain = 1 - len(self.cuts) / seen
        self.hashes, self.cuts = np.concatenate(kept)[:count], self.cuts[:count]

    def _cut(self, rng):
        which, turned = int(rng.integers(len(self._pictures))), int(rng.integers(2))
        width, height = self._pictures[which][0].size
        wide, high = np.round(rng.uniform(*CROP, 2) * (width, height)).astype(int)
        left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
        return which, turned, (left, top, left + int(wide), top + int(high))

    def picture(self, place):
        """One part as a picture."""
        which, turned, box = self.cuts[place]
        return self._pictures[which][turned].crop(box)


def nearest(index, queries):
    """Distances and places of the nearest 8 of each query, straight and mirrored: (2, N, 8)."""
    found = [index.search(view) for view in (queries, mirrored(queries))]
    return [np.stack(views) for views in zip(*found, strict=True)]


# ---- the tools ----


def imagehash_way(name, **options):
    import imagehash

    function = getattr(imagehash, name)
    return lambda image: np.packbits(function(Image.fromarray(image), **options).hash)


def pdq_way():
    import pdqhash

    return lambda image: np.packbits(pdqhash.compute(image)[0])


def ways():
    """The methods that are compared, each a function from RGB to packed bits."""
    found = {"ours": lambda image: hashes_of(thumbnail(image)[None])[0]}
    try:
        found |= {
            "imagehash pHash, 64 bits": imagehash_way("phash"),
            "imagehash pHash, 256 bits": imagehash_way("phash", hash_size=16),
            "imagehash dHash, 64 bits": imagehash_way("dhash"),
            "imagehash dHash, 256 bits": imagehash_way("dhash", hash_size=16),
            "imagehash wHash, 64 bits": imagehash_way("whash"),
        }
    except ImportError:
        print("imagehash is not installed")
    try:
        found["PDQ, 256 bits"] = pdq_way()
    except ImportError:
        print("pdqhash is not installed")
    return found


def bits_between(one, other):
    return np.bitwise_count(one[:, None] ^ other[None]).sum(-1, dtype=np.int32)


def compare(tests, bank, count, seed, out):
    """The table of methods on the same photographs at thresholds that confuse nothing."""
    sample = {}
    for side, images in (("queries", tests), ("bank", bank)):
        cut = Cuttings(images, count, seed + len(side))
        sample[side] = [np.asarray(cut.picture(i).convert("RGB")) for i in range(count)]
    copies = {
        kind: [planted(image, kind, (seed, i, k)) for i, image in enumerate(tests)]
        for k, kind in enumerate(KINDS)
    }
    pairs = len(sample["queries"]) * len(sample["bank"])
    out(f"\n## Methods, at thresholds without a false pair among {pairs:,}\n")
    out(
        f"{len(tests)} photographs that are not plain; every method is asked straight and mirrored."
    )
    out("\n| method | threshold | " + " | ".join(KINDS) + " | ms an image |")
    out("|---|---" + "|---" * (len(KINDS) + 1) + "|")
    for name, way in ways().items():
        queries, others = (np.stack([way(i) for i in sample[s]]) for s in ("queries", "bank"))
        least = min(
            int(bits_between(queries[i : i + 256], others).min())
            for i in range(0, len(queries), 256)
        )
        own = np.stack([way(image) for image in tests])
        began = time.perf_counter()
        for image in tests[:50]:
            way(image)
        each = (time.perf_counter() - began) / len(tests[:50]) * 1e3
        recalls = []
        for kind in KINDS:
            views = [
                np.stack([way(np.ascontiguousarray(image)) for image in images])
                for images in (copies[kind], [image[:, ::-1] for image in copies[kind]])
            ]
            distance = np.minimum(*[np.bitwise_count(own ^ v).sum(-1) for v in views])
            recalls.append(float((distance < least).mean()))
        row = " | ".join(f"{r:.3f}" for r in recalls)
        out(f"| {name} | {least - 1} of {8 * own.shape[1]} | {row} | {each:.2f} |")


# ---- ours ----


def planted_hashes(images, seed):
    """By kind, hashes of copies and the copies."""
    for k, kind in enumerate(KINDS):
        copies = [planted(image, kind, (seed, i, k)) for i, image in enumerate(images)]
        yield kind, hashes_of(np.stack([thumbnail(copy) for copy in copies])), copies


def recall(title, images, originals, bank, ways, seed, out):
    """Recall and precision of each kind against originals among a bank.

    Args:
        images: In which duplicates are planted; the first hashes of `originals` are theirs.
        originals: Hashes of all images of the data set.
        bank: Hashes of images of others.
        ways: By name, whether parts of `images` are compared too, and the check, (embed,
            similarity), or None.
    """
    out(f"\n## {title}\n")
    out("| | " + " | ".join(KINDS) + " |")
    out("|---" + "|---" * len(KINDS) + "|")
    parts = np.concatenate([hashes_of(part_thumbnails(image)) for image in images])
    for name, (of_parts, model) in ways.items():
        threshold = THRESHOLD if model is None else CHECKED_THRESHOLD
        own, places = originals, np.arange(len(originals) + len(bank))
        if of_parts:
            own = np.concatenate([parts, originals[len(images) :]])
            places = np.concatenate(
                [np.repeat(np.arange(len(images)), VIEWS), places[len(images) :]]
            )
        index = Neighbours(threshold, len(own) + len(bank))
        index.add(own)
        index.add(bank)
        sources = np.zeros(len(index), np.int32)
        recalls, precisions = [], []
        for _, hashes, copies in planted_hashes(images, seed):
            pairs = candidates.against(np.arange(len(images)), hashes, index, sources, places)
            pairs = pairs[np.unique(pairs[["image", "other"]], return_index=True)[1]]
            true = pairs["image"] == pairs["other"]
            if model is not None:
                # Images of the bank are cut out for their hashes alone: its pairs count as false.
                kept = pairs["other"] < len(images)
                true &= kept
                keep = ~kept
                keep[kept] = cosines(model[0], pairs[kept], copies, images) >= model[1]
                pairs, true = pairs[keep], true[keep]
            recalls.append(len(np.unique(pairs["image"][true])) / len(images))
            precisions.append(true.sum() / max(len(pairs), 1))
        for what, values in (("recall", recalls), ("precision", precisions)):
            out(f"| {name}: {what} | " + " | ".join(f"{v:.3f}" for v in values) + " |")


def cosines(embed, pairs, copies, images):
    found = []
    for start in range(0, len(pairs), 64):
        some = pairs[start : start + 64]
        one = directions(embed, [copies[p["image"]] for p in some])
        others = [images[p["other"]] for p in some]
        turned = [i[:, ::-1] if p["mirrored"] else i for i, p in zip(others, some, strict=True)]
        found.append((one * directions(embed, turned)).sum(1))
    return np.concatenate(found) if found else np.zeros(0)


def confusion(tests, bank_images, count, queries, seed, sheet, out):
    """False pairs of queries against a bank, by threshold; returns the bank's hashes."""
    began = time.perf_counter()
    bank = Cuttings(bank_images, count, seed)
    seconds = time.perf_counter() - began
    asked = Cuttings(tests, queries, seed + 1)
    index = Neighbours(THRESHOLD + 32)
    index.add(bank.hashes)
    began = time.perf_counter()
    distances, places = nearest(index, asked.hashes)
    searched = time.perf_counter() - began
    counts = np.bincount(distances.ravel(), minlength=258)[:257].cumsum()
    out(f"\n## False pairs: {queries:,} queries, straight and mirrored, against {count:,} images\n")
    out(
        f"{bank.plain:.1%} of the images cut out are plain and left out. Hashed in {seconds:.0f} "
        f"s, compared in {searched:.0f} s."
    )
    out("\n| threshold | false pairs | per 10,000 queries |\n|---|---|---|")
    for threshold in range(3, THRESHOLD + 34, 4):
        out(f"| {threshold} | {counts[threshold]:,} | {counts[threshold] * 1e4 / queries:.1f} |")
    pairs = {}
    for view, query, rank in np.argwhere(distances <= THRESHOLD):
        place = places[view, query, rank]
        distance = int(distances[view, query, rank])
        photographs = asked.cuts[query][0], bank.cuts[place][0]
        found = distance, bool(view), int(query), int(place)
        pairs[photographs] = min(found, pairs.get(photographs, found))
    out(
        f"\nThose within {THRESHOLD} bits are parts of {len(pairs)} pairs of photographs, of "
        f"{len(tests) * len(bank_images):,}."
    )
    if sheet and pairs:
        draw(sorted(pairs.values())[:60], asked, bank, sheet)
    return bank.hashes


def draw(pairs, asked, bank, file):
    """A picture of pairs side by side, six in a row, each with its distance."""
    side, across = 128, 6
    picture = Image.new(
        "L", (across * (2 * side + 16), -(-len(pairs) // across) * (side + 24)), 255
    )
    for i, (distance, turned, query, place) in enumerate(pairs):
        left, top = i % across * (2 * side + 16), i // across * (side + 24)
        one = asked.picture(query)
        if turned:
            one = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for k, part in enumerate((one, bank.picture(place))):
            picture.paste(part.resize((side, side)), (left + k * side, top + 16))
        ImageDraw.Draw(picture).text((left, top + 2), f"{distance} bits", fill=0)
    picture.save(file)


def costs(bank, out, folder_images=1000, asked=2000, scales=(10_000, 100_000, 1_000_000)):
    """Seconds of hashing files, and of searching, at several scales."""
    rng = np.random.default_rng(0)
    out("\n## Costs\n")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "photos", "a")
        files.mkdir(parents=True)
        base = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        for i in range(folder_images):
            picture = Image.fromarray(np.roll(base, i, 0)).resize((500, 375))
            noise = rng.integers(-24, 25, (375, 500, 3))
            picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype("uint8"))
            picture.save(files / f"{i:06d}.jpg", quality=85)
        size = sum(p.stat().st_size for p in files.iterdir()) / folder_images
        source = ImageFolder(files.parent)
        began = time.perf_counter()
        deduplicate(source, [source], folder=Path(folder, "work"), workers=1)
        seconds = time.perf_counter() - began
    out(
        f"Reading and hashing {folder_images:,} JPEGs of 500 x 375 and {size / 1e3:.0f} kB, twice: "
        f"{seconds / 2 / folder_images * 1e6 / 3600:.2f} core hours a million images."
    )
    out(
        f"\nSearching, seconds for as many training images as are named, straight and mirrored, in "
        f"at most {THRESHOLD} bits; measured with {asked:,} of them and multiplied.\n"
    )
    out("| training images | 100,000 evaluation images | within | index of all, s | peak MB |")
    out("|---|---|---|---|---|")
    few = bank[rng.permutation(len(bank))[:100_000]]
    for scale in (s for s in scales if s <= len(bank)):
        seconds = []
        for hashes in (few, bank[:scale]):
            began = time.perf_counter()
            index = Neighbours(THRESHOLD, len(hashes))
            index.add(hashes)
            built = time.perf_counter() - began
            queries = bank[rng.permutation(scale)[:asked]]
            where = np.zeros(len(hashes), np.int32), np.arange(len(hashes))
            began = time.perf_counter()
            candidates.against(np.arange(len(queries)), queries, index, *where)
            seconds.append((time.perf_counter() - began) * scale / len(queries))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        out(f"| {scale:,} | {seconds[0]:.0f} | {seconds[1]:.0f} | {built:.1f} | {peak:.0f} |")


def fashion_mnist(folder):
    parts = []
    for name in ("train", "t10k"):
        with gzip.open(Path(folder, f"{name}-images-idx3-ubyte.gz")) as file:
            parts.append(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1))
    return np.concatenate(parts)


def on_a_set(title, images, bank, count, ways, rng, out):
    """Recall in a data set of its own, and what of it resembles other images of it."""
    thumbnails = np.stack([thumbnail(image) for image in images])
    kept = np.flatnonzero(~are_plain(thumbnails))
    kept = rng.permutation(kept)
    hashes = hashes_of(thumbnails[kept])
    chosen = [images[i] for i in kept[:count]]
    recall(
        f"{title}: {len(chosen)} of {len(kept):,} that are not plain, of {len(images):,}",
        chosen, hashes, bank, ways, 1, out,
    )  # fmt: skip
    order = np.arange(len(hashes))
    pairs = candidates.best(candidates.among(order, hashes, THRESHOLD))
    out(
        f"\n{len(pairs):,} of these {len(hashes):,} images resemble an earlier one, "
        f"{(pairs['distance'] <= THRESHOLD // 2).sum():,} in at most {THRESHOLD // 2} bits: what "
        "the precision counts as false may be true."
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--emoji", help="folder of one vendor's emoji")
    parser.add_argument("--fashion", help="folder of Fashion-MNIST's files")
    parser.add_argument("--model", help="a run's model.keras, for the check")
    parser.add_argument("--similarity", type=float, help="the least cosine; by default calibrated")
    parser.add_argument("--images", type=int, default=400, help="in which duplicates are planted")
    parser.add_argument("--bank", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=6_000, help="crops to compare methods with")
    parser.add_argument("--sheet", metavar="FILE.png", help="a picture of the false pairs")
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--out", help="file for the page")
    args = parser.parse_args()
    text = io.StringIO()

    def out(line=""):
        print(line, flush=True)
        print(line, file=text)

    names = ("faiss-cpu", "imagehash", "pdqhash", "keras", "numpy", "pillow", "scipy")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    out("# Near-duplicates\n")
    out(
        f"{cpu_name()}, {os.cpu_count()} cores, {date.today()}; Python "
        f"{platform.python_version()}, {', '.join(versions)}.\n\n    {command()}"
    )
    images = [image for folder in args.photos for image in pictures(folder)]
    if not images:
        # Where there are none: scikit-learn's two, in pieces.
        from sklearn.datasets import load_sample_images

        images = [
            np.ascontiguousarray(photo[y : y + 107, x : x + 160])
            for photo in load_sample_images().images
            for y in range(0, 320, 107)
            for x in range(0, 640, 160)
        ]
    rng = np.random.default_rng(0)
    group = groups_of(images)
    plain = are_plain(np.stack([thumbnail(image) for image in images]))
    side = rng.permutation(group.max() + 1)[group] % 2
    first = np.unique(group, return_index=True)[1]
    tests = [images[i] for i in first if side[i] == 0 and not plain[i]][: args.images]
    bank_images = [image for image, s in zip(images, side, strict=True) if s == 1]
    out(
        f"\n{len(images)} photographs, of which {len(images) - len(first)} are copies of another "
        f"and {plain.sum()} plain; {len(tests)} have duplicates planted, {len(bank_images)} others "
        "are cut up."
    )
    ways = {"hash alone": (False, None), "with parts": (True, None)}
    if args.model:
        from keras_vit_scale.evaluation import load_classifier

        embed = load_classifier(args.model).embed
        similarity = args.similarity
        if similarity is None:
            stacked = [Image.fromarray(image).resize((192, 128)) for image in bank_images]
            source = ArraySource(np.stack([np.asarray(p) for p in stacked]), [0] * len(stacked))
            found = calibrate(source, 200, embed=embed)
            similarity = float(np.quantile(found.different["similarity"], 0.99))
        for way, of_parts in (("check", False), ("parts and check", True)):
            ways[f"{way}, cosine {similarity:.3f}"] = (of_parts, (embed, similarity))
        out(f"\nThe check: {args.model}.")
    compare(tests, bank_images, args.sample, 1, out)
    bank = confusion(tests, bank_images, args.bank, args.queries, 2, args.sheet, out)
    own = hashes_of(np.stack([thumbnail(image) for image in tests]))
    recall(f"Photographs, among {len(bank):,} others", tests, own, bank, ways, 1, out)
    few = bank[: min(len(bank), 100_000)]
    if args.emoji:
        found = list(pictures(args.emoji))
        on_a_set("Emoji", found, few, args.images, ways, rng, out)
    if args.fashion:
        found = fashion_mnist(args.fashion)
        alone = {name: way for name, way in ways.items() if way[1] is None}
        on_a_set("Fashion-MNIST", found, few, args.images, alone, rng, out)
    if not args.no_costs:
        costs(bank, out)
    if args.out:
        Path(args.out).write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
