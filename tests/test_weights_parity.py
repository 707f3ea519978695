"""Parity with timm, transformers and KerasHub: the same numbers from the same file.

`tests/references/make.py` writes their models and outputs; it says how.
"""

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import as_numpy, randomise

from keras_vit_scale import ViT, ViTConfig, from_pretrained, save_weights_as
from keras_vit_scale.models.architecture import architecture, preset_name

FOLDER = os.environ.get("KERAS_VIT_SCALE_REFERENCES")

pytestmark = pytest.mark.skipif(
    FOLDER is None,
    reason="needs other libraries' models in the folder KERAS_VIT_SCALE_REFERENCES, "
    "which tests/references/make.py writes",
)

#: What each file is, by hand: preset, pooling, GELU, epsilon.
CASES = {
    "timm_tiny": ("Ti/16", "token", "exact", 1e-6),
    "timm_small32": ("S/32", "token", "exact", 1e-6),
    "timm_base16": ("B/16", "token", "exact", 1e-6),
    "timm_siglip_base16": ("B/16", "map", "exact", 1e-6),
    "timm_so400m": (ViTConfig(1152, 2, 4304, 16, 14), "map", "exact", 1e-6),
    "timm_g14": (ViTConfig(1408, 2, 6144, 16, 14), "token", "exact", 1e-6),
    "timm_gap": (ViTConfig(192, 3, 768, 3, 16), "gap", "tanh", 1e-6),
    "hf_vit": ("B/16", "token", "exact", 1e-12),
    "hf_siglip": ("B/16", "map", "tanh", 1e-6),
    "hf_siglip_vision": (ViTConfig(40, 2, 31, 5, 8), "map", "tanh", 1e-6),
    "hf_siglip_classifier": (ViTConfig(40, 2, 31, 5, 8), "gap", "tanh", 1e-6),
    "keras_hub": ("B/16", "token", "exact", 1e-6),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_and_features_are_those_of_the_other_library(case, record_property):
    folder = Path(FOLDER) / case
    reference = np.load(folder / "reference.npz")
    model = from_pretrained(folder)
    found = architecture(model)
    shape, pooling, gelu, epsilon = CASES[case]
    assert (preset_name(found.config) or found.config) == shape
    assert (found.pooling, found.gelu, found.epsilon) == (pooling, gelu, epsilon)
    # Beside the output, the representation that the head reads.
    both = keras.Model(model.input, [model.get_layer("pooling").output, model.output])
    features, logits = (as_numpy(x) for x in both(reference["images"], training=False))
    errors = [np.abs(features - reference["features"]).max()]
    if "logits" in reference:
        errors.append(np.abs(logits - reference["logits"]).max())
    else:
        assert found.num_classes is None
    print(f"{case}: greatest difference {max(errors):.1e}")
    assert np.abs(reference["features"]).max() > 1
    assert max(errors) < 1e-4


def test_gradients_are_those_of_timm():
    folder = Path(FOLDER) / "timm_tiny"
    images = np.load(folder / "reference.npz")["images"]
    model = from_pretrained(folder)
    # Gradients lie in the file as the weights do: read as such, they are named and shaped as ours.
    expected = from_pretrained(Path(FOLDER) / "timm_tiny_gradients")
    gradients = loss_gradients(model, images, label=3)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        reference = next(as_numpy(w) for w in expected.weights if w.path == weight.path)
        gradient = as_numpy(gradient)
        if weight.path == "encoder/key_bias":
            # Zero in exact arithmetic: rounding on both sides.
            assert np.abs(gradient).max() < 1e-6
            assert np.abs(reference).max() < 1e-6
            continue
        difference = np.abs(gradient - reference).max() / np.abs(reference).max()
        assert difference < 1e-4, weight.path


def loss_gradients(model, images, label):
    """Gradients of softmax cross-entropy for the trainable weights, on any backend."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = np.array([label])
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def value(trainable):
            out, _ = model.stateless_call(trainable, model.non_trainable_variables, images)
            return loss(labels, out)

        return jax.grad(value)([v.value for v in model.trainable_variables])
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(labels, model(images))
        return tape.gradient(value, [v.value for v in model.trainable_variables])
    loss(labels, model(images)).backward()
    return [v.value.grad.detach() for v in model.trainable_variables]


#: Models to write: pooling, classes and options; the file's size and depth do not matter.
WRITTEN = {
    "timm_token": ("timm", "token", 7, {"gelu": "exact"}),
    "timm_map": ("timm", "map", None, {}),
    "timm_gap": ("timm", "gap", 7, {"positions": "sincos"}),
    "hf_token": ("transformers", "token", 7, {"gelu": "exact", "epsilon": 1e-12}),
    "hf_token_features": ("transformers", "token", None, {}),
    "hf_map": ("transformers", "map", None, {}),
    "hf_gap": ("transformers", "gap", 7, {}),
    "npz_token": ("big_vision", "token", 7, {}),
}


@pytest.mark.slow
def test_other_libraries_read_what_we_write(tmp_path, rng):
    python = (Path(FOLDER) / "python.txt").read_text()
    shape = ViTConfig(width=40, depth=3, mlp_dim=31, heads=5, patch_size=8)
    images = rng.uniform(-1, 1, size=(2, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    ours = {}
    for case, (form, pooling, classes, options) in WRITTEN.items():
        model = ViT(shape, classes, image_size=32, pooling=pooling, **options)
        randomise(model, rng)
        ours[case] = as_numpy(model(images, training=False))
        path = tmp_path / (f"{case}.npz" if form == "big_vision" else case)
        save_weights_as(model, path, form)
    # Our .npz is what timm reads as big_vision's; there its architecture is told by hand.
    arguments = {
        "img_size": 32, "patch_size": 8, "embed_dim": 40, "depth": 3, "num_heads": 5,
        "mlp_ratio": 31 / 40, "num_classes": 7, "act_layer": "gelu_tanh",
    }  # fmt: skip
    (tmp_path / "npz_token.json").write_text(json.dumps(arguments | {"no_embed_class": True}))
    script = Path(__file__).parent / "references" / "make.py"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([python, script, tmp_path, "--written"], check=True, env=environment)
    outputs = np.load(tmp_path / "outputs.npz")
    assert set(outputs) == set(ours)
    for case, expected in ours.items():
        np.testing.assert_allclose(outputs[case], expected, atol=1e-4, rtol=0, err_msg=case)
