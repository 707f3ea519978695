"""What an import brings, seen from fresh processes."""

import json
import os
import subprocess
import sys

import keras
import pytest

import keras_vit_scale

HEAVY = ["tensorflow", "torch", "jax", "keras_cv", "keras_tuner", "tensorflow_datasets", "pandas",
         "scipy", "matplotlib", "grain", "sklearn", "plotly", "tyro", "pydantic"]  # fmt: skip


def loaded_after(statement):
    """The heavy modules that a fresh process holds after a statement."""
    found = f"[m for m in {HEAVY} if m in sys.modules]"
    code = f"import sys, json; {statement}; print(json.dumps({found}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_import_adds_no_heavy_module_to_those_of_keras():
    assert loaded_after("import keras_vit_scale") == loaded_after("import keras")


def test_import_brings_no_other_backend():
    backend = keras.backend.backend()
    loaded = loaded_after("import keras_vit_scale")
    assert backend in loaded
    others = {"tensorflow", "torch"} - {backend}
    assert not loaded & others


@pytest.mark.parametrize("missing", ["tensorflow", "jax", "torch"])
def test_a_missing_backend_is_told_with_the_cure(missing, tmp_path):
    """As on a fresh machine, where Keras expects TensorFlow and another backend is installed."""
    code = f"import sys; sys.modules[{missing!r}] = None; import keras_vit_scale"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"KERAS_BACKEND": missing, "KERAS_HOME": str(tmp_path)},
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert f"Keras is set to the backend {missing!r}, which is not installed" in last
    assert "set the environment variable KERAS_BACKEND=" in last


@pytest.mark.parametrize("name", keras_vit_scale.__all__)
def test_public_names_exist_and_are_documented(name):
    assert getattr(keras_vit_scale, name).__doc__ or name in ("SIZES", "TABLE_2")


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ViT_X99"):
        keras_vit_scale.ViT_X99  # noqa: B018
