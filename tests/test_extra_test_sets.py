"""ReaL, ImageNet-v2 and ObjectNet: real files, counted by hand."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_vit_scale import cli
from keras_vit_scale.data import EvalTransform, ImageFolder
from keras_vit_scale.evaluation import (
    AcceptedImages,
    Classifier,
    accepted_accuracy,
    evaluate_accepted,
    imagenet_v2,
    objectnet,
    real,
    save_classifier,
)

CLASSES = 13
NAMES = [f"n{i:08d}" for i in range(CLASSES)]


# The metric, on logits


TABLE = {
    # logits, accepted, right at k = 1, 2, 3 of how many
    "one label each": ([[3, 2, 1], [1, 2, 3], [2, 3, 1]], [[0], [1], [2]], (1, 2, 3), 3),
    "any of several": ([[3, 2, 1], [1, 2, 3]], [[1, 2], [0, 2]], (1, 2, 2), 2),
    "none: left out": ([[3, 2, 1], [1, 2, 3], [9, 0, 0]], [[1], [], []], (0, 1, 1), 1),
    "named twice": ([[3, 2, 1]], [[0, 0]], (1, 1, 1), 1),
    "equal logits: the first": ([[5, 5, 5], [5, 5, 5]], [[0], [1]], (1, 2, 2), 2),
    "minus infinity": ([[-np.inf, -np.inf, 0]], [[2]], (1, 1, 1), 1),
}


@pytest.mark.parametrize("case", TABLE)
def test_accuracy_counted_by_hand(case):
    logits, accepted, right, used = TABLE[case]
    for k, count in zip((1, 2, 3), right, strict=True):
        assert accepted_accuracy(logits, accepted, k) == count / used
    # More guesses than classes are all classes.
    assert accepted_accuracy(logits, accepted, 11) == 1


def test_accuracy_is_a_loops(rng):
    logits = rng.normal(size=(101, CLASSES)).astype("float32")
    accepted = [
        rng.choice(CLASSES, size=rng.integers(0, 4), replace=False).tolist() for _ in range(101)
    ]
    for k in (1, 5):
        used = right = 0
        for row, labels in zip(logits, accepted, strict=True):
            if labels:
                used += 1
                right += any(c in labels for c in sorted(range(CLASSES), key=lambda c: -row[c])[:k])
        assert accepted_accuracy(logits, accepted, k) == right / used


@pytest.mark.parametrize(
    ("logits", "accepted", "k", "message"),
    [
        ([[1, 2]], [[0], [1]], 1, r"Received: shape \(1, 2\) for 2 images"),
        ([1, 2], [[0], [1]], 1, r"must be \(N, C\)"),
        ([[1, 2]], [[2]], 1, r"must be in \[0, 2\).*Received: \[2\]"),
        ([[1, 2]], [[-1]], 1, r"integers, 0 or more. Received: \[-1\] for image 0"),
        ([[1, 2]], [[0.5]], 1, "integers, 0 or more"),
        ([[1, 2]], [[True]], 1, "integers, 0 or more"),
        ([[1, 2]], [1], 1, "integers, 0 or more"),
        ([[1, 2]], ["1"], 1, "integers, 0 or more"),
        ([[1, 2]], [[]], 1, "At least one image must have an accepted label"),
        ([[1, np.nan]], [[0]], 1, "must not be NaN"),
        ([[1, 2]], [[0]], 0, "`k` must be a positive"),
    ],
)
def test_accuracy_refuses(logits, accepted, k, message):
    with pytest.raises(ValueError, match=message):
        accepted_accuracy(logits, accepted, k)


# A classifier whose answer is painted on the image: its grey value tells the class.


STEP = 16


@pytest.fixture(scope="module")
def classifier():
    """Logits -(grey - class)^2: the likeliest class is the nearest grey value's, then its own."""
    inputs = keras.Input((4, 4, 3))
    grey = keras.layers.GlobalAveragePooling2D()(inputs)
    head = keras.layers.Dense(CLASSES, name="head")
    model = keras.Model(inputs, head(grey))
    # -(g - c)^2 = 2 c g - c^2 - g^2, whose last term is the same for all classes.
    c = np.arange(CLASSES)
    shade = c * STEP * (2 / 255) - 1
    head.set_weights([np.tile(2 * shade / 3, (3, 1)), -(shade**2)])
    return Classifier(model, EvalTransform(4, resize="none"), NAMES)


@pytest.fixture
def saved(classifier, tmp_path):
    path = tmp_path / "model.keras"
    save_classifier(classifier.model, path, classifier.transform, NAMES)
    return path


def paint(path, looks_like, border=0):
    """An image that the classifier takes for a class; in a red frame, which would mislead it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((6, 7, 3), looks_like * STEP, np.uint8)
    if border:
        framed = np.zeros((6 + 2 * border, 7 + 2 * border, 3), np.uint8)
        framed[..., 0] = 255
        framed[border:-border, border:-border] = pixels
        pixels = framed
    # Without loss, whatever the name says: Pillow decodes what it finds.
    Image.fromarray(pixels).save(path, "PNG")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# Images of ILSVRC2012's names, what they look like, and the labels accepted for them.
REAL = [
    (3, [3]),  # right
    (5, [1, 5, 9]),  # right: one of three
    (7, []),  # left out
    (2, [4]),  # wrong; among the five nearest
    (12, [0]),  # wrong
    (0, [0, 12]),  # right
    (6, []),  # left out
]


@pytest.fixture
def real_files(tmp_path):
    folder = tmp_path / "val"
    for number, (looks_like, _) in enumerate(REAL, 1):
        # Some in folders, as the validation set is often sorted.
        place = folder / "n01440764" if number % 3 == 0 else folder
        paint(place / f"ILSVRC2012_val_{number:08d}.JPEG", looks_like)
    paint(folder / "other.JPEG", 1)
    return folder, write(tmp_path / "real.json", [labels for _, labels in REAL])


def test_real_counted_by_hand(classifier, real_files):
    images = real(*real_files, classes=CLASSES)
    assert [path.name[-10:-5] for path in images.files] == ["00001", "00002", "00004", "00005",
                                                            "00006"]  # fmt: skip
    assert evaluate_accepted(classifier, images, batch_size=2) == {
        "images": 5,
        "left_out": 2,
        "accuracy": 3 / 5,
        "top_5_accuracy": 4 / 5,
    }


def test_folders_of_imagenet_v2_are_numbers(classifier, tmp_path):
    """Class c looks like c but for 10, which looks like 2, as sorting by text has it."""
    for c in range(CLASSES):
        for i in range(1 + c % 2):
            paint(tmp_path / str(c) / f"{i}.jpeg", 2 if c == 10 else c)
    images = imagenet_v2(tmp_path, CLASSES)
    by_hand = [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9, 10, 11, 11, 12]
    assert [labels for (labels,) in images.accepted] == by_hand
    assert [int(path.parent.name) for path in images.files] == by_hand
    # 10 is not among the five nearest to 2.
    share = 18 / 19
    assert evaluate_accepted(classifier, images) == {
        "images": 19,
        "left_out": 0,
        "accuracy": share,
        "top_5_accuracy": share,
    }
    # What an ordinary folder would have made of it: 10, 11 and 12 before 2, so that only 0, 1
    # and their three images keep their places.
    naive = ImageFolder(tmp_path)
    named = [int(naive.class_names[label]) for label in naive.labels]
    assert sum(a == b for a, b in zip(naive.labels, named, strict=True)) == 3


# Folder, ObjectNet's name, ImageNet's names or none; what its images look like.
OBJECTNET = [
    ("alarm_clock", "Alarm clock", "analog clock; digital clock", [4, 6, 5]),
    ("air_freshener", "Air freshener", None, [1, 2]),
    ("ball_point_pen", "Ball-point pen", "ballpoint pen", [8]),
    ("tv", "TV", "television", [9, 10]),
]
# In the order of ILSVRC's own numbers, which is not that of the indices.
LINES = ["ballpoint pen", "crane", "analog clock", "digital clock", "crane", "television"]
INDEX_TO_LINE = {"8": 0, "0": 1, "4": 2, "6": 3, "1": 4, "9": 5}


@pytest.fixture
def objectnet_files(tmp_path):
    folder, mappings = tmp_path / "images", tmp_path / "mappings"
    for name, _, _, looks_like in OBJECTNET:
        for i, c in enumerate(looks_like):
            # A frame of 2 pixels that would be taken for class 5 or so, if it were not cut off.
            paint(folder / name / f"{i}.png", c, border=2)
    write(mappings / "folder_to_objectnet_label.json", {f: label for f, label, _, _ in OBJECTNET})
    mapped = {label: names for _, label, names, _ in OBJECTNET if names}
    write(mappings / "objectnet_to_imagenet_1k.json", mapped)
    write(mappings / "pytorch_to_imagenet_2012_id.json", INDEX_TO_LINE)
    write(mappings / "imagenet_to_label_2012_v2", "\n".join(LINES) + "\n")
    return folder, mappings


def test_objectnet_counted_by_hand(classifier, objectnet_files):
    images = objectnet(*objectnet_files, classes=CLASSES)
    # Alarm clocks: 4 and 6 are right, 5 is neither; the pen and the first TV are right.
    assert images.accepted == (*[{4, 6}] * 3, {8}, {9}, {9})
    assert images[0][0].shape == (6, 7, 3)
    assert images[0][0].min() == images[0][0].max() == 4 * STEP
    assert evaluate_accepted(classifier, images) == {
        "images": 6,
        "left_out": 2,
        "accuracy": 4 / 6,
        "top_5_accuracy": 1.0,
    }


# Files that do not fit


def changed_real(folder, labels, change):
    entries = json.loads(labels.read_text())
    write(labels, change(entries))


REAL_MISTAKES = {
    "no file": (lambda f, j: j.unlink(), "Cannot read the labels .*real.json"),
    "no JSON": (lambda f, j: write(j, "[[1]"), "are no JSON"),
    "deep": (lambda f, j: write(j, "[" * 100_000), "are no JSON"),
    "no list": (lambda f, j: write(j, {"a": [1]}), "must be a JSON list. Received: a dict"),
    "too short": (lambda f, j: changed_real(f, j, lambda e: e[:-2]), r"2 unknown \[6, 7\]"),
    "too long": (lambda f, j: changed_real(f, j, lambda e: [*e, [1]]), r"1 missing \[8\]"),
    "a number": (lambda f, j: changed_real(f, j, lambda e: [3, *e[1:]]), "Received: 3 for image 1"),
    "a word": (lambda f, j: changed_real(f, j, lambda e: [["3"], *e[1:]]), "for image 1"),
    "out of range": (lambda f, j: changed_real(f, j, lambda e: [[13], *e[1:]]), r"\[0, 13\)"),
    "twice": (lambda f, j: paint(f / "a" / "ILSVRC2012_val_00000001.JPEG", 1), "there once"),
    "no folder": (lambda f, j: f.rename(f.with_name("else")), "A folder of images must exist"),
    "no labels": (lambda f, j: changed_real(f, j, lambda e: [[] for _ in e]), "at least one image"),
}  # fmt: skip


@pytest.mark.parametrize("case", REAL_MISTAKES)
def test_real_refuses(case, real_files):
    spoil, message = REAL_MISTAKES[case]
    spoil(*real_files)
    with pytest.raises(ValueError, match=message):
        real(*real_files, classes=CLASSES)


def test_imagenet_v2_refuses(tmp_path):
    for c in range(CLASSES):
        paint(tmp_path / str(c) / "0.jpeg", c)
    for name, message in (
        ("13", r"1 unknown \['13'\]"),
        ("05", r"1 unknown \['05'\]"),
        ("n01440764", "1 unknown"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=message):
            imagenet_v2(tmp_path, CLASSES)
        (tmp_path / name).rmdir()
    (tmp_path / "7" / "0.jpeg").unlink()
    with pytest.raises(ValueError, match="must hold images"):
        imagenet_v2(tmp_path, CLASSES)
    (tmp_path / "7").rmdir()
    with pytest.raises(ValueError, match=r"1 missing \['7'\]"):
        imagenet_v2(tmp_path, CLASSES)
    with pytest.raises(ValueError, match="must exist"):
        imagenet_v2(tmp_path / "nowhere", CLASSES)


def in_mapping(name, **entries):
    def spoil(folder, mappings):
        path = mappings / f"{name}.json"
        write(path, json.loads(path.read_text()) | entries)

    return spoil


TWICE = '{"Tie": "television", "Tie": "crane"}'
OBJECTNET_MISTAKES = {
    "missing file": (
        lambda f, m: (m / "imagenet_to_label_2012_v2").unlink(), "Cannot read the labels"
    ),
    "unknown folder": (lambda f, m: paint(f / "xylophone" / "0.png", 1), "1 unknown"),
    "missing folder": (lambda f, m: (f / "tv").rename(f.parent / "tv"), r"1 missing \['tv'\]"),
    "unknown name": (
        in_mapping("objectnet_to_imagenet_1k", TV="televisor"), "Received: 'TV': 'televisor'"
    ),
    "ambiguous name": (in_mapping("objectnet_to_imagenet_1k", TV="crane"), "Received: 'TV'"),
    "unknown class": (in_mapping("objectnet_to_imagenet_1k", Tie="crane"), "Received: 'Tie'"),
    "class twice": (in_mapping("folder_to_objectnet_label", t="TV"), "must not name a class twice"),
    "key twice": (
        lambda f, m: write(m / "objectnet_to_imagenet_1k.json", TWICE), r"\['Tie'\] are there twice"
    ),
    "out of range": (in_mapping("pytorch_to_imagenet_2012_id", **{"13": 6}), r"in \[0, 13\)"),
    "no index": (in_mapping("pytorch_to_imagenet_2012_id", a=6), "Received: 'a'"),
    "line twice": (in_mapping("pytorch_to_imagenet_2012_id", **{"2": 5}), "number of its own"),
    "line no number": (in_mapping("pytorch_to_imagenet_2012_id", **{"2": "5"}), "of type int"),
    "list for names": (in_mapping("objectnet_to_imagenet_1k", TV=["television"]), "of type str"),
}  # fmt: skip


@pytest.mark.parametrize("case", OBJECTNET_MISTAKES)
def test_objectnet_refuses(case, objectnet_files):
    spoil, message = OBJECTNET_MISTAKES[case]
    spoil(*objectnet_files)
    with pytest.raises(ValueError, match=message):
        objectnet(*objectnet_files, classes=CLASSES)


def test_images_and_labels_must_go_together(classifier, tmp_path):
    file = tmp_path / "a.png"
    paint(file, 1)
    for make, message in (
        (lambda: AcceptedImages([file], [[1], [2]]), "Received: 2 lists for 1 images"),
        (lambda: AcceptedImages([file], [[]]), "at least one image"),
        (lambda: AcceptedImages([tmp_path / "b.png"], [[1]]), r"must exist.*b\.png"),
        (lambda: AcceptedImages([file], [[1]], border=3)[0], "larger than its border of 3"),
        (
            lambda: evaluate_accepted(classifier, AcceptedImages([file], [[13]])),
            r"must be in \[0, 13\), the classifier's",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    # What is left out need not be there.
    assert AcceptedImages([file, tmp_path / "b.png"], [[1], []]).left_out == 1


# The command


def test_command_reports_what_it_used(saved, real_files, objectnet_files, tmp_path, capsys):
    folder, labels = map(str, real_files)
    assert cli.run(["evaluate", str(saved), folder, "--protocol", "real", "--labels", labels]) == 0
    printed = capsys.readouterr().out
    assert f"on 5 images of {folder} (2 without a label left out)" in printed
    assert "accuracy 0.6000" in printed
    assert "top 5 accuracy 0.8000" in printed
    folder, mappings = map(str, objectnet_files)
    arguments = ["--protocol", "objectnet", "--labels", mappings, "--json"]
    assert cli.run(["evaluate", str(saved), folder, *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["protocol"], found["images"], found["left_out"]) == ("objectnet", 6, 2)
    assert found["accuracy"] == pytest.approx(4 / 6)
    for c in range(CLASSES):
        paint(tmp_path / "v2" / str(c) / "0.jpeg", c)
    arguments = ["evaluate", str(saved), str(tmp_path / "v2"), "--protocol", "imagenet-v2"]
    assert cli.run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "real"], "`labels` must be given"),
        (["--protocol", "objectnet"], "`labels` must be given"),
        (["--protocol", "imagenet-v2", "--labels", "x"], "`labels` has no meaning"),
        (["--labels", "x"], "`labels` has no meaning with `--protocol own`"),
        (["--protocol", "reel"], "--protocol"),
        (["--protocol", "real", "--labels", "gone.json"], "gone.json"),
    ],
)
def test_command_refuses(arguments, message, saved, real_files, capsys):
    assert cli.run(["evaluate", str(saved), str(real_files[0]), *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
