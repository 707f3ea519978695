"""A classifier with its preprocessing and classes in one `.keras` file."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from keras_vit_scale import ViT
from keras_vit_scale.data import ArraySource, EvalTransform
from keras_vit_scale.evaluation import Classifier, bundle, load_classifier, save_classifier

NAMES = ("ant", "bee", "café", "dog", "elk", "fly", "gnu")
TRANSFORM = EvalTransform((4, 6), resize="short", margin=1.5)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = ViT(TINY, len(NAMES), image_size=(4, 6))
    randomise(model, np.random.default_rng(5))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def classifier(model):
    return Classifier(model, TRANSFORM, NAMES)


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.keras"
    save_classifier(model, path, TRANSFORM, NAMES)
    return path


@pytest.fixture
def files(tmp_path, rng):
    """Images of mixed sizes, kinds and colours."""
    paths = []
    for i, (suffix, mode, size) in enumerate(
        [
            ("png", "L", (9, 7)),
            ("jpg", "RGB", (13, 29)),
            ("webp", "RGB", (8, 8)),
            ("png", "RGBA", (31, 5)),
        ]
    ):
        path = tmp_path / f"{i}.{suffix}"
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        paths.append(path)
    return paths


def expected_logits(model, images):
    """By the transform and the formula of the input, without our batches."""
    values = [TRANSFORM(image).astype(np.float32) / 127.5 - 1 for image in images]
    return as_numpy(model(np.stack(values)))


def test_probabilities_are_those_of_the_model(model, classifier, files):
    images = [np.asarray(Image.open(f).convert("RGB")) for f in files]
    logits = expected_logits(model, images)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # Two batches, the second filled up.
    predicted = classifier.predict(files, batch_size=3)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, shares, atol=1e-5)
    np.testing.assert_allclose(classifier.predict(images, batch_size=3), shares, atol=1e-5)
    of_several = Classifier(model, TRANSFORM, NAMES, "sigmoid")
    np.testing.assert_allclose(
        of_several.predict(files, batch_size=3), 1 / (1 + np.exp(-logits)), atol=1e-5
    )


def test_representations_are_the_heads_inputs(model, classifier, files):
    embedded = classifier.embed(files, batch_size=3)
    assert embedded.shape == (4, TINY.width)
    kernel, bias = (as_numpy(w) for w in model.get_layer("head").weights)
    logits = np.log(classifier.predict(files, batch_size=3))
    # Equal up to the constant that the softmax takes out.
    difference = embedded @ kernel + bias - logits
    np.testing.assert_allclose(difference - difference[:, :1], 0, atol=1e-3)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_evaluation_is_scikit_learns(model, rng, activation):
    labels = np.r_[np.arange(7), rng.integers(0, 7, 16)]
    source = ArraySource(rng.integers(0, 256, (23, 5, 9, 3), dtype=np.uint8), labels, NAMES)
    classifier = Classifier(model, TRANSFORM, NAMES, activation)
    result = classifier.evaluate(source, batch_size=8)
    shares = classifier.predict(source, batch_size=8).astype(np.float64)
    if activation == "softmax":
        loss = log_loss(labels, shares / shares.sum(1, keepdims=True), labels=range(7))
    else:
        loss = sum(log_loss(labels == c, shares[:, c]) for c in range(7))
    assert result == {
        "images": 23,
        "accuracy": pytest.approx(accuracy_score(labels, shares.argmax(1))),
        "top_5_accuracy": pytest.approx(top_k_accuracy_score(labels, shares, k=5)),
        "loss": pytest.approx(loss, rel=1e-4),
    }


@pytest.mark.slow
def test_a_fresh_process_computes_the_same(classifier, saved, files, tmp_path):
    """On the same backend, to the last bit; importing nothing but the evaluation."""
    code = (
        "import sys, numpy as np\n"
        "from keras_vit_scale.evaluation import load_classifier\n"
        "classifier = load_classifier(sys.argv[1])\n"
        "assert classifier.class_names[2] == 'café'\n"
        "np.save(sys.argv[2], classifier.predict(sys.argv[3:], batch_size=3))\n"
    )
    out = tmp_path / "out.npy"
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved), str(out), *map(str, files)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "structure of `inputs`" not in done.stderr
    np.testing.assert_array_equal(np.load(out), classifier.predict(files, batch_size=3))


def test_keras_reads_the_file_and_it_carries_no_optimizer(model, saved):
    plain = keras.saving.load_model(saved)
    assert not plain.compiled
    for old, new in zip(model.weights, plain.weights, strict=True):
        assert old.path.split("/")[-2:] == new.path.split("/")[-2:]
        np.testing.assert_array_equal(as_numpy(old), as_numpy(new))
    loaded = load_classifier(saved)
    assert (loaded.transform, loaded.class_names, loaded.activation) == (
        TRANSFORM,
        NAMES,
        "softmax",
    )


def test_a_failed_write_leaves_the_old_file(model, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*args):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        save_classifier(model, saved, TRANSFORM, NAMES, activation="sigmoid")
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def rewritten(path, change):
    """The file with the text of its member changed; without it where the change is None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = members.pop(bundle.MEMBER).decode()
    if change is not None:
        members[bundle.MEMBER] = change(text)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)


def with_value(key, value):
    def change(text):
        settings = json.loads(text)
        place = settings
        *parents, last = key.split(".")
        for parent in parents:
            place = place[parent]
        place[last] = value
        return json.dumps(settings)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "without it; load the model with `keras.saving.load_model`"),
        (lambda text: text[:40], "is no JSON"),
        (lambda text: "[" * 100_000, "is no JSON"),
        (lambda text: "[1]", r"must hold names. Received: \[1\]"),
        (lambda text: text + " " * bundle.LARGEST, "must have at most"),
        (
            with_value("format", 4),
            "reads the formats 1 to 3 of a classifier; .* Received: format 4",
        ),
        (lambda text: "{}", "Received: format None"),
        (with_value("extra", 1), r"must hold \['activation', .*'extra'"),
        (with_value("activation", "relu"), "`activation` must be one of"),
        (with_value("class_names", "ant"), "`class_names` must be a list"),
        (with_value("class_names", list(range(7))), "`class_names` must be strings"),
        (with_value("class_names", ["ant"]), "one class name for each output"),
        (with_value("transform", [8]), "`transform` must hold"),
        (with_value("transform.crop", "none"), "`transform` must hold"),
        (with_value("transform.resize", "crop"), "`resize` must be one of"),
        (with_value("transform.image_size", [4, 8]), "images of the model's size"),
        (with_value("transform.image_size", "big"), "`image_size` must be"),
        (with_value("transform.margin", True), "`margin` must be a number"),
        (with_value("transform.margin", 0.5), "`margin` must be at least 1"),
        (with_value("transform.filter", "linear"), "`filter` must be one of"),
        (with_value("transform.antialias", "no"), "`antialias` must be one of"),
    ],
)
def test_files_that_do_not_fit_are_refused(saved, change, message):
    rewritten(saved, change)
    with pytest.raises(ValueError, match=message):
        load_classifier(saved)


def test_the_third_format_keeps_the_filter_and_earlier_ones_mean_the_default(saved, model):
    transform = EvalTransform(TRANSFORM.image_size, filter="bicubic", antialias=False)
    save_classifier(model, saved, transform, NAMES, activation="sigmoid")
    assert load_classifier(saved).transform == transform

    def second(text):
        settings = json.loads(text) | {"format": 2}
        del settings["transform"]["filter"], settings["transform"]["antialias"]
        return json.dumps(settings)

    rewritten(saved, second)
    assert load_classifier(saved).transform == EvalTransform(TRANSFORM.image_size)


def test_the_first_format_ignores_orientation_and_the_second_keeps_it(saved, model):
    save_classifier(model, saved, TRANSFORM, NAMES, activation="sigmoid", orientation="apply")
    assert load_classifier(saved).orientation == "apply"

    def first(text):
        settings = json.loads(text) | {"format": 1}
        del settings["orientation"]
        return json.dumps(settings)

    rewritten(saved, first)
    assert load_classifier(saved).orientation == "ignore"


def test_damaged_and_missing_files_are_named(saved):
    whole = saved.read_bytes()
    at = whole.index(b'"class_names"')
    for damaged in (
        whole[: len(whole) // 2],
        whole[:at] + b"'" + whole[at + 1 :],  # the zip's checksum notices
        b"",
    ):
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.keras"):
            load_classifier(saved)
    with pytest.raises(ValueError, match=r"nowhere\.keras"):
        load_classifier(saved.with_name("nowhere.keras"))


def test_images_that_cannot_be_read_are_named(classifier, files, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:40])
    with pytest.raises(ValueError, match=r"broken\.png"):
        classifier.predict([*files, broken])
    for images, message in (
        ([*files, tmp_path / "gone.png"], r"must exist.*gone\.png"),
        ([], "at least one image"),
        (str(files[0]), "must come as a list"),
        (np.zeros((4, 6, 3), np.uint8), r"pass `image\[None\]`"),
        (np.zeros((2, 4, 6, 3)), r"must be uint8.*\(images \* 255\)"),
        ([np.zeros((4, 6), np.uint8)], "must be uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.predict(images)


def test_parts_that_do_not_belong_together_are_refused(model, classifier, tmp_path):
    inputs = keras.Input((4, 6, 3))
    flat = keras.layers.Flatten()(inputs)
    ended = keras.Model(inputs, keras.layers.Dense(7, "softmax")(flat))
    headless = keras.Model(inputs, keras.layers.Dense(7)(flat))
    source = ArraySource(np.zeros((2, 4, 6), np.uint8), [0, 1], NAMES[::-1])
    for make, message in (
        (lambda: Classifier(model, EvalTransform(8), NAMES), r"Received: \(8, 8\) for a model"),
        (lambda: Classifier(model, TRANSFORM, NAMES[:2]), "Received: 2 names for outputs"),
        (lambda: Classifier(model, TRANSFORM, NAMES, "tanh"), "`activation` must be one of"),
        (lambda: Classifier(model, {}, NAMES), "`transform` must be an EvalTransform"),
        (lambda: Classifier(model, TRANSFORM, "abcdefg"), "`class_names` must be strings"),
        (lambda: Classifier(keras.Model(), TRANSFORM, NAMES), "must be a functional model"),
        (lambda: Classifier(ended, TRANSFORM, NAMES), "must end with logits.*softmax"),
        (lambda: Classifier(headless, TRANSFORM, NAMES).embed(source), "a layer named 'head'"),
        (lambda: classifier.evaluate(source), "must have the classifier's classes"),
        (lambda: save_classifier(model, tmp_path / "m.h5", TRANSFORM, NAMES), "end with '.keras'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
