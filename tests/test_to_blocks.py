"""A model of ordinary layers: the same outputs, and what it is for, int8 and LoRA."""

import inspect

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import ViT
from keras_vit_scale.models import Block, Encoder, from_blocks, to_blocks


@pytest.fixture
def images(rng):
    return rng.normal(size=(5, 4, 6, 3)).astype("float32")


def vit(rng, **options):
    model = ViT(TINY, 7, image_size=(4, 6), **options)
    randomise(model, rng)
    return model


OPTIONS = [
    {"pooling": "map", "gelu": "exact", "frozen_blocks": 1},
    {"pooling": "token", "dropout": 0.1, "stochastic_depth": 0.2},
    {"pooling": "gap", "dtype": "mixed_bfloat16"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["pooling"])
def test_there_and_back(options, images, rng, tmp_path):
    model = vit(rng, **options)
    blocks = to_blocks(model)
    # Float32 in another order; bfloat16 rounds to 0.4 %, over some tens of operations.
    tolerance = 0.1 if "dtype" in options else 2e-5
    expected = as_numpy(model(images))
    np.testing.assert_allclose(as_numpy(blocks(images)), expected, rtol=tolerance, atol=tolerance)
    names = [layer.name for layer in model.layers]
    i = names.index("encoder")
    names[i : i + 1] = ["embedding_dropout"] * ("dropout" in options) + ["block_0", "block_1"]
    assert [layer.name for layer in blocks.layers] == names
    assert blocks.count_params() == model.count_params()
    assert not any(isinstance(layer, Encoder) for layer in blocks._flatten_layers())

    blocks.save(tmp_path / "blocks.keras")
    again = from_blocks(keras.saving.load_model(tmp_path / "blocks.keras"))
    for layer, other in zip(model.layers, again.layers, strict=True):
        assert layer.get_config() == other.get_config()
        for a, b in zip(layer.weights, other.weights, strict=True):
            assert a.path == b.path
            np.testing.assert_array_equal(as_numpy(a), as_numpy(b))


def test_blocks_drop_as_the_stacked_ones(rng):
    """Branches that add known constants, as in the tests of the encoder."""
    block = Block(heads=2, mlp_dim=5, stochastic_depth=0.25)
    x = np.zeros((1999, 2, 6), "float32")
    block.build(x.shape)
    for name, variable in block.weights_by_name().items():
        variable.assign(np.full(variable.shape, {"out_bias": 3, "mlp_out_bias": 6}.get(name, 0)))
    out = as_numpy(block(x, training=True))
    assert (out == out[:, :1, :1]).all()
    np.testing.assert_allclose(np.unique(out), [0, 4, 8, 12], rtol=1e-6)
    # 1,999 images: a share is known to 0.01.
    assert (out[:, 0, 0] == 12).mean() == pytest.approx(0.75**2, abs=0.05)
    assert (out[:, 0, 0] == 4).mean() == pytest.approx(0.75 * 0.25, abs=0.05)
    dropping = Block(heads=2, mlp_dim=5, dropout=0.5)
    dropping.build(x.shape)
    x = rng.normal(size=x.shape).astype("float32")
    assert np.abs(as_numpy(dropping(x, training=True)) - as_numpy(dropping(x))).max() > 0.1


@pytest.mark.slow
def test_int8_stays_close(images, rng):
    model = to_blocks(vit(rng))
    expected = as_numpy(model(images))
    with pytest.warns(UserWarning, match="quantize"):  # norms and embeddings stay as they are
        model.quantize("int8")
    block = model.get_layer("block_1")
    for layer in (block.mlp_in, block.attention.query_dense, model.get_layer("pooling").mlp_out):
        assert layer.kernel.dtype == "int8"
    out = as_numpy(model(images))
    # 8 bits: up to 0.4 % of the largest value a factor, over some tens of products.
    assert np.linalg.norm(out - expected) < 0.15 * np.linalg.norm(expected)
    with pytest.raises(ValueError, match="Quantised weights cannot be stacked"):
        from_blocks(model)


def test_lora_changes_its_own_weights_alone_and_is_merged(images, rng):
    model = to_blocks(vit(rng))
    for variable in model.weights:
        variable.trainable = False
    for layer in model.layers:
        if isinstance(layer, Block):
            layer.attention.query_dense.enable_lora(rank=2)
            layer.mlp_in.enable_lora(rank=2)
    assert len(model.trainable_weights) == 2 * 2 * 2
    before = {v.path: as_numpy(v) for v in model.weights}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(images, np.zeros((5, 7)), epochs=2, verbose=0)
    assert all("lora_kernel" in v.path for v in model.trainable_weights)
    changed = {v.path for v in model.weights if (as_numpy(v) != before[v.path]).any()}
    assert changed == {v.path for v in model.trainable_weights}
    merged = from_blocks(model)
    np.testing.assert_allclose(
        as_numpy(merged(images)), as_numpy(model(images)), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("name", ["encoder", "pooling"])
def test_stacked_weights_refuse_int8_and_lora(name, rng):
    model = vit(rng)
    layer = model.get_layer(name)
    for act in (
        lambda: layer.quantize("int8"),
        lambda: layer.enable_lora(rank=2),
        lambda: model.quantize("int8"),
    ):
        with pytest.raises(ValueError, match=r"cannot be .* `model = to_blocks\(model\)`"):
            act()
    # What the user names apart from them is quantised.
    if "filters" not in inspect.signature(model.quantize).parameters:
        model.get_layer("head").quantize("int8")  # before Keras 3.15
    else:
        model.quantize("int8", filters="head")
    assert model.get_layer("head").kernel.dtype == "int8"


def test_what_cannot_be_converted_is_refused(images, rng):
    with pytest.raises(ValueError, match="must be a functional Keras model"):
        to_blocks(Encoder(2, 3, 5))
    model = vit(rng)
    with pytest.raises(ValueError, match="must have layers `Block`"):
        from_blocks(model)
    outer = keras.Input((4, 6, 3))
    with pytest.raises(ValueError, match="One layer of the model must be an `Encoder`"):
        to_blocks(keras.Model(outer, model(outer)))
    blocks = to_blocks(model)
    blocks.get_layer("block_1").trainable = False
    with pytest.raises(ValueError, match="must come before all that are"):
        from_blocks(blocks)
    blocks.get_layer("block_1").trainable = True
    inner = keras.Model(blocks.input, [blocks.output, blocks.get_layer("block_0").output])
    with pytest.raises(ValueError, match="connected"):
        from_blocks(inner)
    blocks.get_layer("pooling").mlp_in.quantize("int8")
    with pytest.raises(ValueError, match=r"Quantised weights cannot be stacked.*pooling/mlp_in"):
        from_blocks(blocks)
