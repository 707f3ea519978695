"""Exported models run beside ours, each by its own runtime.

What a backend writes takes packages of the extra `export`; without them a case is skipped.
"""

import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import ViT, ViTConfig, cli
from keras_vit_scale.data import EvalTransform
from keras_vit_scale.evaluation import Classifier, check_export, export_classifier, save_classifier
from keras_vit_scale.models import export, export_model, load_exported, to_blocks
from keras_vit_scale.models.export import ROUTES, RUNTIMES, SUFFIXES, has_runtime, is_installed

BACKEND = keras.backend.backend()
DOCS = Path(__file__).parent.parent / "docs" / "export.md"
SUFFIX = {format: suffix for suffix, format in SUFFIXES.items()}
NAMES = ("ant", "bee", "café", "dog", "elk", "fly", "gnu")


def missing_for(format):
    """Why a format cannot be written and run here; an empty string if it can."""
    route = ROUTES.get((format, BACKEND))
    if route is None:
        return f"{format} is not written with {BACKEND}"
    missing = [name for name in (*route.packages, RUNTIMES[format]) if not is_installed(name)]
    return f"needs {', '.join(missing)}" if missing else ""


def cases(formats, able=lambda route: True):
    return [
        pytest.param(f, marks=pytest.mark.skipif(bool(missing_for(f)), reason=missing_for(f)))
        for f in formats
        if (f, BACKEND) not in ROUTES or able(ROUTES[f, BACKEND])
    ]


FORMATS = pytest.mark.parametrize("format", cases(RUNTIMES))


def batch_for(format):
    """Any number of images, where the backend can; else three at once."""
    return None if ROUTES[format, BACKEND].any_batch else 3


@pytest.fixture
def images(rng):
    return rng.uniform(-1, 1, size=(5, 4, 6, 3)).astype("float32")


def vit(rng, **options):
    model = ViT(TINY, 7, image_size=(4, 6), **options)
    randomise(model, rng)
    return model


OPTIONS = [
    {"pooling": "map", "gelu": "exact", "remat": "full"},
    {"pooling": "token", "stochastic_depth": 0.2, "dtype": "mixed_bfloat16"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["pooling"])
@FORMATS
def test_exported_computes_the_same(format, options, images, rng, tmp_path):
    model = vit(rng, **options)
    path = tmp_path / f"vit{SUFFIX[format]}"
    export_model(model, path, batch_size=batch_for(format))
    # The half-precision model's weights in float32, by our own stacked layers.
    full = vit(rng, **{**options, "dtype": "float32"})
    full.set_weights([as_numpy(keras.ops.cast(w, "float32")) for w in model.weights])
    expected = as_numpy(full(images))
    exported = load_exported(path)
    # Other numbers of images than any that it was traced with.
    for count in (5, 1, 4):
        found = exported(images[:count])
        assert found.dtype == np.float32
        # Logits up to about 10; seen: up to 5e-6.
        np.testing.assert_allclose(found, expected[:count], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("format", cases(["onnx", "saved_model"]))
def test_fixed_number_of_images(format, images, rng, tmp_path):
    model = vit(rng)
    path = tmp_path / f"vit{SUFFIX[format]}"
    export_model(model, path, batch_size=3)
    np.testing.assert_allclose(
        load_exported(path)(images), as_numpy(model(images)), rtol=1e-5, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("format", cases(RUNTIMES, lambda route: route.int8))
def test_int8_is_kerass_and_smaller(format, rng, tmp_path):
    model = ViT(ViTConfig(160, 1, 640, 5, 4), 7, image_size=16)
    randomise(model, rng, 0.1)
    images = rng.uniform(-1, 1, size=(5, 16, 16, 3)).astype("float32")
    path = tmp_path / f"vit{SUFFIX[format]}"
    export_model(model, path, int8=True)
    # A SavedModel has its weights apart from its graph, which is large.
    files = (path / "variables").iterdir() if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    # A quarter and the graph; Keras with TensorFlow writes a SavedModel's weights twice, PyTorch
    # some of ONNX's.
    assert size < 0.65 * 4 * model.count_params()
    quantised = to_blocks(model)
    export.quantise(quantised, format)
    expected = as_numpy(quantised(images))
    # An input on the edge between two of 255 steps may fall to either side.
    found = load_exported(path)(images)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(found - as_numpy(model(images))).max() > 1e-4
    # What the user has quantised is written as it is.
    assert export.float32_blocks(quantised) is quantised


# The file of a classifier, and the command


@pytest.fixture
def classifier(rng):
    return Classifier(vit(rng), EvalTransform((4, 6), margin=1.5), NAMES)


FIRST = next((f for f in RUNTIMES if not missing_for(f)), None)
needs_one = pytest.mark.skipif(FIRST is None, reason=f"{BACKEND}: no exporter is installed")


@needs_one
def test_classifier_with_its_settings_and_check(classifier, rng, tmp_path):
    path = tmp_path / f"vit{SUFFIX[FIRST]}"
    beside = export_classifier(classifier, path)
    assert json.loads(beside.read_text(encoding="utf-8")) == {
        "input": {
            "shape": [None, 4, 6, 3],
            "dtype": "float32",
            "channels": "RGB",
            "values": "byte * 2 / 255 - 1",
        },
        "orientation": "ignore",
        "transform": {
            "image_size": [4, 6],
            "resize": "short",
            "margin": 1.5,
            "filter": "bilinear",
            "antialias": True,
        },
        "class_names": list(NAMES),
        "activation": "softmax",
        "int8": False,
    }
    found = check_export(classifier, path)
    assert found.images == 5
    assert found.same_class == 1
    assert found.difference < 1e-4 * found.largest_logit
    # Those settings and nothing else of ours make the classifier's probabilities.
    picture = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    settings = json.loads(beside.read_text(encoding="utf-8"))
    transform = EvalTransform(**settings["transform"] | {"image_size": (4, 6)})
    logits = load_exported(path)(transform(picture)[None].astype("float32") * 2 / 255 - 1)
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(classifier.predict([picture]), shares, atol=1e-5)

    head = classifier.model.get_layer("head").bias
    head.assign(as_numpy(head) + np.eye(7)[3] * 0.01)
    with pytest.raises(ValueError, match=r"must compute what ours does.*difference of 0\.01"):
        check_export(classifier, path)
    assert check_export(classifier, path, tolerance=None).difference == pytest.approx(0.01, 0.01)


@needs_one
@pytest.mark.slow
def test_command_writes_and_checks(classifier, tmp_path, capsys):
    saved, out = tmp_path / "model.keras", tmp_path / f"vit{SUFFIX[FIRST]}"
    save_classifier(classifier.model, saved, classifier.transform, NAMES)
    assert cli.run(["export", str(saved), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"] == f"{out}.json"
    assert told["check"]["difference"] < 1e-3
    assert cli.run(["export", str(saved), "--out", str(out), "--no-check"]) == 0
    assert capsys.readouterr().out.strip() == f"Written: {out} and {out}.json"


# What cannot be written


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("format", RUNTIMES)
def test_what_a_backend_cannot_write_is_refused_at_once(format, int8, rng, tmp_path, capsys):
    route = ROUTES.get((format, BACKEND))
    if route is not None and route.any_batch and (route.int8 or not int8):
        pytest.skip(f"{BACKEND} writes it")
    able = [
        b for (f, b), r in ROUTES.items() if f == format and r.any_batch and (r.int8 or not int8)
    ]
    path = tmp_path / f"vit{SUFFIX[format]}"
    with pytest.raises(ValueError, match=f"cannot be written with {BACKEND}") as refusal:
        export_model(vit(rng), path, int8=int8)
    assert " or ".join(able) in str(refusal.value)
    assert not path.exists()
    assert cli.run(["export", "no.keras", "--out", str(path), *["--int8"] * int8]) == 2
    assert capsys.readouterr().err.startswith("keras-vit-scale: error: ")


@pytest.mark.parametrize("format", RUNTIMES)
def test_what_to_install_is_said(format, rng, tmp_path, monkeypatch):
    route = ROUTES.get((format, BACKEND))
    if route is None or not route.packages:
        pytest.skip(f"{format} takes no package on {BACKEND}")
    # As where they are not installed.
    for package in route.packages:
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ImportError, match=f"pip install {' '.join(route.packages)}"):
        export_model(vit(rng), tmp_path / f"vit{SUFFIX[format]}", batch_size=3)


@pytest.mark.parametrize("format", RUNTIMES)
def test_runtime_to_install_is_said(format, tmp_path, monkeypatch):
    path = tmp_path / f"vit{SUFFIX[format]}"
    path.write_text("")
    monkeypatch.setitem(sys.modules, RUNTIMES[format].replace("-", "_"), None)
    assert not has_runtime(format)
    with pytest.raises(ImportError, match=f"pip install {RUNTIMES[format]}"):
        load_exported(path)


def test_bad_arguments_are_refused(rng, tmp_path):
    model = vit(rng)
    for act, message in (
        (lambda: export_model(model, tmp_path / "vit.pb"), r"must end in \.onnx, in \.tflite"),
        (lambda: export_model(model, tmp_path / "vit.onnx", format="litert"), "path's end says"),
        (lambda: export_model(model, tmp_path / "vit.onnx", format="pdf"), "must be one of"),
        (lambda: export_model(model, tmp_path / "no" / "vit.onnx"), "folder of the path must"),
        (lambda: export_model(model, tmp_path / "vit.onnx", batch_size=0), "`batch_size` must"),
        (lambda: load_exported(tmp_path / "vit.onnx"), "must exist and end in"),
        (lambda: load_exported(tmp_path / "vit.pb"), "must exist and end in"),
    ):
        with pytest.raises(ValueError, match=message):
            act()


# The documentation


def test_documented_table_is_what_the_code_does():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ][:5]
    backends = rows[0][1:]
    told = {}
    for format, *row in rows[2:]:
        for backend, cell in zip(backends, row, strict=True):
            if cell != "no":
                packages = tuple(re.findall("`(.*?)`", cell))
                told[format, backend] = export.Route(packages, "int8" in cell, "fixed" not in cell)
    assert told == ROUTES
