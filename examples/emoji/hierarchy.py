"""Emoji of four vendors: labels that imply others, near-duplicates across vendors, another's probe.

    mkdir emoji && cd emoji
    for vendor in apple facebook google twitter; do
        npm pack emoji-datasource-$vendor && mkdir $vendor
        tar xzf emoji-datasource-$vendor-*.tgz -C $vendor
    done && cd ..
    python examples/emoji/hierarchy.py emoji

Every vendor draws the same 1,900 emoji, which Unicode sorts into 98 sub-categories of nine
categories. Models learn the drawings of three vendors, with the sub-category alone or with the
category that it implies, and are judged on the fourth's; also without the drawings that nearly
duplicate one of the fourth's, if there are any.
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import keras_vit_scale as kvs
from keras_vit_scale.data import (
    ArraySource,
    EvalTransform,
    Excluding,
    TrainTransform,
    WithAncestors,
    deduplicate,
    hold_out,
    train_batches,
)
from keras_vit_scale.evaluation import FewShot, extract_features

#: Files that lie beside the pictures, and pictures of skin tones, which are no emoji.
LIST, NO_CATEGORY = "emoji.json", "Component"


def read(folder, vendor, size):
    """A vendor's drawings on white, with sub-categories such as "Flags/country-flag"; and names.

    Returns:
        The source, and the name of each of its emoji.
    """
    package = folder / vendor / "package"
    entries = json.loads((package / LIST).read_text(encoding="utf-8"))
    entries = sorted(
        (e for e in entries if e["category"] != NO_CATEGORY), key=lambda e: e["sort_order"]
    )
    classes = sorted({f"{e['category']}/{e['subcategory']}" for e in entries})
    images, labels, names = [], [], []
    for entry in entries:
        path = package / "img" / vendor / "64" / entry["image"]
        if not path.is_file():
            continue
        drawing = Image.open(path).convert("RGBA")
        white = Image.new("RGBA", drawing.size, "white")
        white.alpha_composite(drawing)
        images.append(np.asarray(white.convert("RGB").resize((size, size))))
        labels.append(classes.index(f"{entry['category']}/{entry['subcategory']}"))
        names.append(entry["short_name"])
    return ArraySource(np.stack(images), labels, classes), names


def category(name):
    return name.partition("/")[0]


def together(sources):
    """Several vendors' drawings as one source."""
    return ArraySource(
        np.concatenate([source.images for source in sources]),
        np.concatenate([source.labels for source in sources]),
        sources[0].class_names,
    )


def trained(source, size, steps):
    """A model of the labels of a source, lists or one an image."""
    keras.utils.set_random_seed(0)
    shape = kvs.ViTConfig(width=64, depth=3, mlp_dim=256, heads=4, patch_size=4)
    classes = len(source.class_names)
    model = kvs.ViT(shape, classes, image_size=size, head_bias=-np.log(classes - 1))
    schedule = kvs.ReciprocalSqrt(
        4e-3, warmup_steps=max(1, steps // 20), timescale=800, total_steps=steps,
        cooldown_steps=max(1, steps // 3),
    )  # fmt: skip
    decay = kvs.head_and_body(0.3, 0.03)
    model.compile(
        kvs.Adafactor(schedule, weight_decay=decay, global_clipnorm=1.0), kvs.SigmoidCrossEntropy()
    )
    transform = TrainTransform(size, crop="shift", max_shift=2, flip=False)
    model.fit(train_batches(source, transform, 64), steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def judge(model, names, source, transform):
    """Accuracy of sub-categories and of categories on another vendor's drawings.

    A model of sub-categories alone says the category of the one that it finds.
    """
    logits = extract_features(model, source, transform)
    leaves = [i for i, name in enumerate(names) if "/" in name]
    roots = [i for i, name in enumerate(names) if "/" not in name]
    sub = np.take(leaves, logits[:, leaves].argmax(1))
    found = [category(names[i]) for i in sub]
    if roots:
        found = [names[roots[i]] for i in logits[:, roots].argmax(1)]
    truth = [source.class_names[label] for label in source.labels]
    return (
        float(np.mean([names[i] == name for i, name in zip(sub, truth, strict=True)])),
        float(np.mean([f == category(name) for f, name in zip(found, truth, strict=True)])),
    )


def probe(model, source, transform, shots):
    """Mean accuracy of few-shot probes of the nine categories, by number of examples."""
    categories = sorted({category(name) for name in source.class_names})
    labels = [categories.index(category(source.class_names[i])) for i in source.labels]
    test, train = hold_out(
        ArraySource(source.images, labels, categories), len(labels) // 2, stratified=True
    )
    results = FewShot(train, test, transform, shots=shots)(model)
    return [np.mean([r.accuracy for r in results if r.shots == k]) for k in shots]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vendors", nargs="+", default=["google", "twitter", "facebook", "apple"],
                        help="the last is judged on")  # fmt: skip
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10])
    arguments = parser.parse_args()
    *known, last = arguments.vendors
    drawn = {v: read(arguments.folder, v, arguments.size) for v in arguments.vendors}
    train, (test, test_names) = together([drawn[v][0] for v in known]), drawn[last]
    train_names = [name for v in known for name in drawn[v][1]]
    print(f"{len(train):,} drawings of {', '.join(known)}; {len(test):,} of {last}")

    of = np.repeat(known, [len(drawn[v][0]) for v in known])
    with tempfile.TemporaryDirectory() as work:
        listed = deduplicate(train, [test], folder=f"{work}/across")
        clean = Excluding(train, listed)
        found = {last: (listed.pairs(), test_names)}
        within = deduplicate(train, folder=f"{work}/within", within=True)
        found["an earlier drawing"] = within.pairs(), train_names
    for what, (pairs, names) in found.items():
        print(f"\nNear-duplicates of {what}, and how many of them are the same emoji:")
        same = np.array([train_names[p.image] == names[p.other] for p in pairs.itertuples()], bool)
        flags = train.labels[pairs["image"]] == train.class_names.index("Flags/country-flag")
        for vendor in known:
            rows = of[pairs["image"]] == vendor
            print(
                f"  {vendor}: {rows.sum()} of {len(drawn[vendor][0])}, {(rows & same).sum()} the "
                f"same; {(rows & flags).sum()} are flags"
            )
    print(f"\n{len(clean):,} drawings are left without those of {last}.\n")

    parents = {name: category(name) for name in train.class_names}
    transform = EvalTransform(arguments.size, "none")
    ways = {
        "sub-category alone": train,
        "with its category": WithAncestors(train, parents),
    }
    if len(listed):
        ways["so, without duplicates"] = WithAncestors(clean, parents)
    shots = "".join(f"{k:>4} shots" for k in arguments.shots)
    print(f"{'labels':24}{'sub-category':>14}{'category':>10}   probe of categories:{shots}")
    for way, source in ways.items():
        model = trained(source, arguments.size, arguments.steps)
        sub, whole = judge(model, source.class_names, test, transform)
        found = "".join(f"{a:10.3f}" for a in probe(model, test, transform, arguments.shots))
        print(f"{way:24}{sub:14.3f}{whole:10.3f}{'':23}{found}", flush=True)
    blank = kvs.ViT("mu/4", 2, image_size=arguments.size)
    found = "".join(f"{a:10.3f}" for a in probe(blank, test, transform, arguments.shots))
    print(f"{'random weights':24}{'':14}{'':10}{'':23}{found}")


if __name__ == "__main__":
    main()
