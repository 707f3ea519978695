"""What training drops, read off encoders whose branches add known constants."""

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import ViT
from keras_vit_scale.models import Encoder

DEPTH, WIDTH = 3, 6


def counting_encoder(**options):
    """Branch i of six adds 2^i to every feature, whatever enters: the sum tells which were kept."""
    encoder = Encoder(DEPTH, heads=2, mlp_dim=5, **options)
    encoder.build((None, None, WIDTH))
    for name, power in (("out", 0), ("mlp_out", 1)):
        encoder.blocks[f"{name}_kernel"].assign(np.zeros(encoder.blocks[f"{name}_kernel"].shape))
        bias = [[2.0 ** (2 * block + power)] * WIDTH for block in range(DEPTH)]
        encoder.blocks[f"{name}_bias"].assign(bias)
    return encoder


def bits(values):
    """Which of six powers of two each value is the sum of: (6, ...)."""
    whole = np.rint(values).astype(int)
    np.testing.assert_allclose(values, whole, atol=1e-3)
    return np.stack([whole >> i & 1 for i in range(6)])


def test_dropout_keeps_its_share_of_features_apart_for_block_image_and_step():
    encoder = counting_encoder(dropout=0.25)
    x = np.zeros((5, 307, WIDTH), "float32")
    first, second = (bits(as_numpy(encoder(x, training=True)) * 0.75) for _ in range(2))
    # 9,210 features a branch: their share is known to 0.0045; 0.02 is beyond chance.
    np.testing.assert_allclose(first.reshape(6, -1).mean(1), 0.75, atol=0.02)
    # Masks that have nothing to do with each other correlate by 0.01, those of an image by 0.025.
    for masks in (first.reshape(6, -1), np.stack([first[0].ravel(), second[0].ravel()])):
        assert np.abs(np.corrcoef(masks) - np.eye(len(masks))).max() < 0.06
    assert np.abs(np.corrcoef(first[0].reshape(5, -1)) - np.eye(5)).max() < 0.12


def test_dropout_also_drops_entering_tokens_and_hidden_features():
    encoder = Encoder(1, heads=2, mlp_dim=WIDTH, dropout=0.5)
    encoder.build((None, None, WIDTH))
    for variable in encoder.weights:
        variable.assign(np.zeros(variable.shape))
    x = np.ones((5, 307, WIDTH), "float32")
    entering = as_numpy(encoder(x, training=True))
    assert set(np.unique(entering)) == {0, 2}
    assert entering.mean() == pytest.approx(1, abs=0.06)
    # Hidden features of GELU(10) = 10, each passed on to its own feature.
    encoder.blocks["mlp_in_bias"].assign(np.full((1, WIDTH), 10.0))
    encoder.blocks["mlp_out_kernel"].assign(np.eye(WIDTH)[None])
    hidden = as_numpy(encoder(0 * x, training=True))
    # Kept after GELU and again after the MLP: a quarter of them, times four.
    np.testing.assert_allclose(np.unique(hidden), [0, 40], rtol=1e-6)
    assert (hidden > 0).mean() == pytest.approx(0.25, abs=0.02)


def test_stochastic_depth_skips_branches_of_images_at_rates_that_rise_evenly():
    encoder = counting_encoder(stochastic_depth=0.5)
    x = np.zeros((1999, 2, WIDTH), "float32")
    keep = np.repeat([1, 0.75, 0.5], 2)
    out = as_numpy(encoder(x, training=True))
    assert (out == out[:, :1, :1]).all()  # an image's tokens and features go together
    # Solve for the branches kept: the sum of 2^i / keep_i has one answer.
    table = np.stack(np.meshgrid(*[[0, 1]] * 6, indexing="ij"), -1).reshape(-1, 6)
    sums = table @ (2.0 ** np.arange(6) / keep)
    assert len(np.unique(sums)) == len(sums)
    which = np.abs(out[:, :1, 0] - sums).argmin(1)
    np.testing.assert_allclose(out[:, 0, 0], sums[which], rtol=1e-6)
    # 1,999 images: a share is known to 0.011.
    np.testing.assert_allclose(table[which].mean(0), keep, atol=0.05)
    masks = table[which][:, 2:].T
    assert np.abs(np.corrcoef(masks) - np.eye(4)).max() < 0.1


def test_nothing_is_dropped_at_inference(rng):
    x = rng.normal(size=(2, 7, 15)).astype("float32")
    plain = Encoder(3, heads=5, mlp_dim=11)
    dropping = Encoder(3, heads=5, mlp_dim=11, dropout=0.5, stochastic_depth=0.5)
    for encoder in (plain, dropping):
        encoder.build(x.shape)
    dropping.set_weights(plain.get_weights())
    state = as_numpy(dropping.seed_generator.state)
    np.testing.assert_array_equal(as_numpy(dropping(x)), as_numpy(plain(x)))
    np.testing.assert_array_equal(as_numpy(dropping.seed_generator.state), state)
    assert np.abs(as_numpy(dropping(x, training=True)) - as_numpy(plain(x))).max() > 0.1


def test_training_with_dropout_is_a_function_of_the_seed(rng):
    """Two `fit`s of scanned blocks and two of traced ones go through the same weights."""
    x = rng.normal(size=(6, 4, 4, 3)).astype("float32")
    y = rng.normal(size=(6, 2)).astype("float32")
    runs = []
    for unroll in (False, True):
        keras.utils.set_random_seed(3)
        model = ViT(TINY, 2, image_size=4, dropout=0.2, stochastic_depth=0.3, unroll=unroll)
        randomise(model, np.random.default_rng(1))
        model.compile(keras.optimizers.SGD(0.01), "mse")
        for _ in range(2):
            model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
        encoder = model.get_layer("encoder")
        runs.append((as_numpy(encoder.seed_generator.state), model.get_weights()))
        # The generator is state of the model, which a checkpoint finds by the layer's name.
        paths = [v.path for v in model.non_trainable_variables]
        assert paths == ["encoder_seed/seed_generator_state"]
    (state, weights), (other_state, others) = runs
    np.testing.assert_array_equal(state, other_state)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    other_seed = Encoder(2, heads=2, mlp_dim=3, dropout=0.2).seed_generator
    assert as_numpy(other_seed.state)[0] != state[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gelu": "erf"}, "`gelu` must be one of"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\). Received: dropout=1.0"),
        ({"dropout": True}, r"`dropout` must be in \[0, 1\)"),
        ({"stochastic_depth": -0.1}, r"`stochastic_depth` must be in \[0, 1\)"),
        ({"remat": "all"}, "`remat` must be one of"),
        ({"frozen_blocks": 4}, "`frozen_blocks` must be an integer from 0 to the depth"),
        ({"frozen_blocks": True}, "`frozen_blocks` must be an integer from 0 to the depth"),
        ({"dtype": "int8_from_float32"}, "cannot be quantised"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Encoder(3, 2, 5, **options)
