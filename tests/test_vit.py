"""The models as Keras models: layers, shapes, saving, bad input."""

import math
import os

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

import keras_vit_scale
from keras_vit_scale import ViT, ViTConfig
from keras_vit_scale.models import block_outputs, to_blocks

#: Memory of the machine in bytes.
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

NAMES = ["image", "patch_embedding", "position_embedding", "encoder", "norm", "pooling", "head"]


def test_layers_are_named():
    assert [layer.name for layer in ViT(TINY, 5, image_size=8).layers] == NAMES
    token = ViT(TINY, None, image_size=8, pooling="token")
    assert [layer.name for layer in token.layers] == [*NAMES[:3], "class_token", *NAMES[3:6]]


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
def test_outputs_and_non_square_images(pooling, rng):
    images = rng.normal(size=(3, 6, 10, 3))
    model = ViT(TINY, 5, image_size=(6, 10), pooling=pooling)
    features = ViT(TINY, None, image_size=(6, 10), pooling=pooling)
    assert model.output_shape == (None, 5)
    assert features.output_shape == (None, TINY.width)
    assert model.predict(images, verbose=0).shape == (3, 5)
    assert features.predict(images, verbose=0).shape == (3, TINY.width)


def test_poolings_read_the_tokens_they_name(rng):
    images = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    for pooling, pick in (("gap", lambda t: t.mean(1)), ("token", lambda t: t[:, 0])):
        model = ViT(TINY, None, image_size=4, pooling=pooling)
        randomise(model, rng)
        tokens = keras.Model(model.input, model.get_layer("norm").output)(images)
        assert tokens.shape[1] == 4 + (pooling == "token")
        np.testing.assert_allclose(
            as_numpy(model(images)), pick(as_numpy(tokens)), rtol=1e-5, atol=1e-6
        )


def test_class_token_has_no_position(rng):
    model = ViT(TINY, None, image_size=4, pooling="token")
    randomise(model, rng)
    tokens = keras.Model(model.input, model.get_layer("class_token").output)
    out = as_numpy(tokens(rng.normal(size=(2, 4, 4, 3)).astype("float32")))
    expected = as_numpy(model.get_layer("class_token").token)[0, 0]
    np.testing.assert_array_equal(out[:, 0], np.stack([expected] * 2))


def test_fixed_positions_equal_a_loop_over_patches():
    rows, columns, quarter = 3, 5, 2
    shape = ViTConfig(width=4 * quarter, depth=1, mlp_dim=7, heads=2, patch_size=2)
    model = ViT(shape, None, image_size=(6, 10), positions="sincos")
    layer = model.get_layer("position_embedding")
    assert not layer.weights
    out = as_numpy(layer(np.zeros((2, rows * columns, 4 * quarter), "float32")))
    for row in range(rows):
        for column in range(columns):
            expected = []
            for place in (column, row):
                # Frequencies from 1 to 1 / 10,000; two of them here.
                expected += [math.sin(place), math.sin(place / 10_000)]
                expected += [math.cos(place), math.cos(place / 10_000)]
            np.testing.assert_allclose(out[1, row * columns + column], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"must be `rows` \* `columns`. Received: tokens=4"):
        type(layer)(rows=2, columns=3).build((None, 4, 8))
    assert len({tuple(token) for token in out[0].round(5)}) == rows * columns


@pytest.mark.parametrize("pooling", ["map", "gap"])
def test_gelu_has_two_forms(pooling, rng):
    images = rng.normal(size=(3, 4, 4, 3)).astype("float32")
    outputs, weights = [], None
    for gelu in ("tanh", "exact"):
        model = ViT(TINY, None, image_size=4, pooling=pooling, gelu=gelu)
        if weights is None:
            randomise(model, rng)
            weights = model.get_weights()
        model.set_weights(weights)
        outputs.append(as_numpy(model(images)))
    # The forms differ by up to 5e-4 at an input of 2.
    assert 1e-6 < np.abs(outputs[0] - outputs[1]).max() < 0.05


def test_epsilon_is_that_of_every_norm(rng):
    """Keras' own norms in the blocks apart do the same; a large one shows where it is missing."""
    images = rng.normal(size=(3, 4, 4, 3)).astype("float32")
    models = [ViT(TINY, None, image_size=4, epsilon=epsilon) for epsilon in (1e-6, 0.5)]
    randomise(models[0], rng)
    models[1].set_weights(models[0].get_weights())
    blocks = to_blocks(models[1])
    norms = [layer for layer in blocks._flatten_layers() if "Normalization" in type(layer).__name__]
    assert {norm.epsilon for norm in norms} == {0.5}
    assert len(norms) == 2 * TINY.depth + 2
    outputs = [as_numpy(model(images)) for model in (*models, blocks)]
    np.testing.assert_allclose(outputs[1], outputs[2], rtol=1e-4, atol=1e-5)
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    tokens = block_outputs(models[1], images)[-1]
    encoder = keras.Model(models[1].input, models[1].get_layer("encoder").output)
    np.testing.assert_allclose(as_numpy(encoder(images)), as_numpy(tokens), rtol=1e-4, atol=1e-5)


def test_classifier_starts_at_zero_with_the_given_bias(rng):
    model = ViT(TINY, 5, image_size=4, head_bias=-10.0)
    logits = model.predict(rng.normal(size=(2, 4, 4, 3)), verbose=0)
    np.testing.assert_array_equal(logits, np.full((2, 5), -10, "float32"))


def test_weights_file_serves_the_scanned_and_the_unrolled_model(rng, tmp_path):
    scanned = ViT(TINY, 5, image_size=8)
    unrolled = ViT(TINY, 5, image_size=8, unroll=True)
    randomise(scanned, rng)
    scanned.save_weights(tmp_path / "model.weights.h5")
    unrolled.load_weights(tmp_path / "model.weights.h5")
    images = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        unrolled.predict(images, verbose=0),
        scanned.predict(images, verbose=0),
        rtol=1e-5,
        atol=1e-5,
    )


def test_symbolic_shapes_equal_eager_ones(rng):
    images = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    for pooling in ("map", "gap", "token"):
        model = ViT(TINY, 5, image_size=8, pooling=pooling)
        x = images
        for layer in model.layers[1:]:
            symbolic = layer.compute_output_shape((None, *x.shape[1:]))
            x = layer(x)
            assert tuple(symbolic) == (None, *x.shape[1:]), layer.name


@pytest.mark.slow
def test_preset_builders_are_the_presets():
    model = keras_vit_scale.ViT_s28(num_classes=3, image_size=56)
    assert model.name == "ViT_s_28"
    assert model.count_params() == ViT("s/28", 3, image_size=56).count_params()
    assert keras_vit_scale.ViT_s28(None, image_size=56).output_shape == (None, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 9}, "`image_size` must be a multiple of the patch size"),
        ({"image_size": (8, 9)}, "`image_size` must be a multiple of the patch size"),
        ({"image_size": 0}, "`image_size` must be a positive integer"),
        ({"image_size": None}, "`image_size` must be a positive integer"),
        ({"image_size": 8.0}, "`image_size` must be a positive integer"),
        ({"image_size": (8, 8, 8)}, "`image_size` must be a positive integer"),
        ({"pooling": "tokn"}, "`pooling` must be one of"),
        ({"positions": "sin"}, "`positions` must be one of"),
        ({"positions": "sincos"}, "a multiple of 4: choose such a width"),
        ({"gelu": "relu"}, "`gelu` must be one of"),
        ({"epsilon": 0}, "`epsilon` must be in (0, 1)"),
        ({"dropout": 1}, "`dropout` must be in [0, 1)"),
        ({"stochastic_depth": "0.1"}, "`stochastic_depth` must be in [0, 1)"),
        ({"remat": "none"}, "`remat` must be one of"),
        ({"frozen_blocks": 3}, "`frozen_blocks` must be an integer from 0 to the depth"),
        ({"num_classes": 0}, "`num_classes` must be a positive integer, or None"),
        ({"config": "b/16"}, "Did you mean 'B/16'"),
        ({"config": 16}, "`config` must be a preset's name or a ViTConfig"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {"config": TINY, "num_classes": 5, "image_size": 8, **arguments}
    with pytest.raises(ValueError, match=r"must|preset|need") as error:
        ViT(**arguments)
    assert message in str(error.value)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="poolng"):
        keras_vit_scale.ViT_B16(poolng="map")


def test_fit_and_evaluate_as_any_keras_model(rng):
    # Two classes told apart by their mean: learnt within a few steps.
    labels = np.arange(64) % 2
    images = rng.normal(size=(64, 8, 8, 3)) * 0.3 + labels[:, None, None, None] - 0.5
    model = ViT(ViTConfig(16, 2, 32, 2, 4), 2, image_size=8)
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = model.evaluate(images, labels, verbose=0, return_dict=True)
    model.fit(images, labels, batch_size=16, epochs=6, verbose=0)
    after = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 2
    assert after["accuracy"] > 0.9


@pytest.mark.large
@pytest.mark.skipif(MEMORY < 20e9, reason="needs a machine with 20 GB; the weights alone are 7.5")
def test_vit_g14_builds_and_runs_one_image():
    model = keras_vit_scale.ViT_G14(num_classes=10)
    assert round(model.count_params() / 1e9, 1) == 1.9  # with MAP, 1.84 without
    logits = model.predict(np.zeros((1, 224, 224, 3), "float32"), verbose=0)
    assert logits.shape == (1, 10)
    assert np.isfinite(logits).all()
