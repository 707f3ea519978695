"""Layers, models and optimizers as Keras users use them, and the same on every backend."""

import importlib.util

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

from keras_vit_scale import Adafactor, AdamW, Momentum, SigmoidCrossEntropy, ViT, ViTConfig
from keras_vit_scale import models as m
from keras_vit_scale.models import from_blocks, to_blocks

BACKEND = keras.backend.backend()
OURS = pytest.mark.parametrize("kind", [Adafactor, AdamW, Momentum])
WIDTH = 8

#: Layers of tokens (B, N, 8).
ANY_NUMBER = {
    "ClassToken": lambda: m.ClassToken(),
    "Encoder": lambda: m.Encoder(2, heads=2, mlp_dim=5),
    "Block": lambda: m.Block(heads=2, mlp_dim=5),
    "AttentionPooling": lambda: m.AttentionPooling(heads=2, mlp_dim=5),
    "BlockPooling": lambda: m.BlockPooling(heads=2, mlp_dim=5),
    "TokenPooling": lambda: m.TokenPooling(),
}
KNOWN_NUMBER = {
    "PositionEmbedding": lambda: m.PositionEmbedding(),
    "SinCosPositionEmbedding": lambda: m.SinCosPositionEmbedding(rows=2, columns=3),
}


# Shapes


@pytest.mark.parametrize("name", ANY_NUMBER)
def test_numbers_of_images_and_tokens_may_be_unknown(name, rng):
    layer, tokens = ANY_NUMBER[name](), keras.Input((None, WIDTH))
    model = keras.Model(tokens, layer(tokens))
    unknown = (None,) if "Pooling" in name else (None, None)
    assert model.output_shape == (*unknown, WIDTH)
    for batch, number in ((2, 5), (3, 7)):
        out = model(rng.normal(size=(batch, number, WIDTH)).astype("float32"))
        assert layer.compute_output_shape([batch, number, WIDTH]) == tuple(out.shape)


@pytest.mark.parametrize("name", KNOWN_NUMBER)
def test_an_unknown_number_of_positions_is_refused(name):
    with pytest.raises(ValueError, match=r"[Tt]he number of .*tokens must be"):
        KNOWN_NUMBER[name]()(keras.Input((None, WIDTH)))


def test_an_unknown_size_of_images_is_refused():
    with pytest.raises(ValueError, match=r"must be known multiples .* size=None x 6"):
        m.PatchEmbedding(WIDTH, patch_size=2)(keras.Input((None, 6, 3)))


@pytest.mark.parametrize("name", [*ANY_NUMBER, *KNOWN_NUMBER])
def test_other_inputs_are_refused_in_the_same_words_everywhere(name):
    layer = (ANY_NUMBER | KNOWN_NUMBER)[name]()
    for shape in ((5, WIDTH), (2, 3, 5, WIDTH)):
        with pytest.raises(ValueError, match=f"expected ndim=3, found ndim={len(shape)}"):
            layer(np.zeros(shape, "float32"))
    if name != "TokenPooling":
        with pytest.raises(ValueError, match=r"must be known|must be fully-defined"):
            layer(keras.Input((6, None)))
        layer = (ANY_NUMBER | KNOWN_NUMBER)[name]()
        layer(np.zeros((2, 6, WIDTH), "float32"))
        # A width of 1 would be broadcast.
        with pytest.raises(ValueError, match=r"expected axis .* value 8, .* \(2, 6, 1\)"):
            layer(np.zeros((2, 6, 1), "float32"))
    if name in KNOWN_NUMBER:
        with pytest.raises(ValueError, match=r"Each of 6 positions .* \(2, 1, 8\)"):
            layer(np.zeros((2, 1, WIDTH), "float32"))


def test_other_images_are_refused():
    layer = m.PatchEmbedding(WIDTH, patch_size=2)
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        layer(np.zeros((4, 6, 3), "float32"))
    layer(np.zeros((1, 4, 6, 3), "float32"))
    with pytest.raises(ValueError, match=r"expected axis -1 .* value 3, .* \(1, 4, 6, 1\)"):
        layer(np.zeros((1, 4, 6, 1), "float32"))


# Settings of Keras


@pytest.mark.parametrize("pooling", ["map", "gap"])
def test_the_image_format_of_other_layers_does_not_matter(pooling, rng):
    """Images are (B, H, W, 3), whatever `image_data_format` says of layers that have two."""
    images = rng.normal(size=(2, 4, 6, 3)).astype("float32")
    model = ViT(TINY, 5, image_size=(4, 6), pooling=pooling)
    randomise(model, rng)
    keras.config.set_image_data_format("channels_first")
    try:
        first = ViT(TINY, 5, image_size=(4, 6), pooling=pooling)
        blocks = to_blocks(first)
    finally:
        keras.config.set_image_data_format("channels_last")
    first.set_weights(model.get_weights())
    np.testing.assert_array_equal(as_numpy(first(images)), as_numpy(model(images)))
    assert blocks.output_shape == (None, 5)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless a flag of its own is set")
def test_float64(rng):
    images = rng.normal(size=(2, 4, 6, 3)).astype("float32")
    model, wide = (ViT(TINY, 5, image_size=(4, 6), dtype=dtype) for dtype in (None, "float64"))
    randomise(model, rng)
    wide.set_weights(model.get_weights())
    logits = as_numpy(wide(images))
    assert logits.dtype == "float64"
    np.testing.assert_allclose(logits, as_numpy(model(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: m.Encoder(2, heads=2, mlp_dim=5, dropout=0.5, seed=seed),
        lambda seed: m.Encoder(2, heads=2, mlp_dim=5, stochastic_depth=0.5, seed=seed),
        lambda seed: m.Block(heads=2, mlp_dim=5, dropout=0.5, seed=seed),
        lambda seed: m.Block(heads=2, mlp_dim=5, stochastic_depth=0.5, seed=seed),
    ],
    ids=["encoder dropout", "encoder depth", "block dropout", "block depth"],
)
def test_what_is_dropped_follows_from_the_seed(make, rng):
    x = rng.normal(size=(11, 5, WIDTH)).astype("float32")
    layers = [make(seed) for seed in (3, 3, 4)]
    for layer in layers:
        layer.build(x.shape)
    randomise(layers[0], rng)
    outputs = []
    for layer in layers:
        layer.set_weights([as_numpy(w) for w in layers[0].weights])
        outputs.append([as_numpy(layer(x, training=True)) for _ in "12"])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0][0] != outputs[0][1]).any()
    assert (outputs[0][0] != outputs[2][0]).any()
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match="`seed` must be None or an integer"):
            make(seed)


def test_blocks_have_seeds_of_their_own_made_of_the_encoders():
    model = ViT(TINY, 5, image_size=4, dropout=0.1, seed=7)
    blocks = to_blocks(model)
    names = ("block_0", "block_1", "embedding_dropout")
    assert [blocks.get_layer(name).seed for name in names] == [7, 8, 9]
    assert from_blocks(blocks).get_layer("encoder").seed == 7


# Ways to train


IMAGES = np.random.default_rng(1).normal(size=(6, 4, 4, 3)).astype("float32")
LABELS = np.array([4, 0, 2, 2, 1, 3])
SMALL = ViTConfig(width=6, depth=2, mlp_dim=7, heads=3, patch_size=2)


def compiled(optimizer=None, **options):
    keras.utils.set_random_seed(5)
    model = ViT(SMALL, 5, image_size=4, pooling="gap")
    randomise(model, np.random.default_rng(2))
    model.compile(optimizer or Momentum(0.05), SigmoidCrossEntropy(), **options)
    return model


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return IMAGES[2 * i : 2 * i + 2], LABELS[2 * i : 2 * i + 2]


def native_loader():
    """The batches as the backend's own library gives them; on JAX, which has none, a generator."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    if BACKEND == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.tensor(IMAGES), torch.tensor(LABELS))
        return torch.utils.data.DataLoader(pairs, batch_size=2)
    return ((IMAGES[i : i + 2], LABELS[i : i + 2]) for i in (0, 2, 4))


def one_by_one(model):
    for i in (0, 2, 4):
        model.train_on_batch(IMAGES[i : i + 2], LABELS[i : i + 2])


WAYS = {
    "eagerly, batch by batch": (one_by_one, {"run_eagerly": True}),
    "a PyDataset, compiled whole": (
        lambda model: model.fit(Batches(), shuffle=False, verbose=0),
        {"jit_compile": BACKEND != "torch"},  # torch.compile takes a minute and a C++ compiler
    ),
    "the backend's loader, not compiled by XLA": (
        lambda model: model.fit(native_loader(), shuffle=False, verbose=0),
        {"jit_compile": False},
    ),
    "named inputs, several steps at once": (
        lambda model: model.fit({"image": IMAGES}, LABELS, batch_size=2, shuffle=False, verbose=0),
        {"steps_per_execution": 1 if BACKEND == "torch" else 2},  # Keras has it not on torch
    ),
}


@pytest.fixture(scope="module")
def fitted():
    """The weights after `fit` on arrays, as Keras chooses to compile."""
    model = compiled()
    model.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_leads_to_the_same_weights(way, fitted):
    train, options = WAYS[way]
    model = compiled(**options)
    train(model)
    for ours, expected, variable in zip(model.get_weights(), fitted, model.weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5, err_msg=variable.path)


def test_weights_of_classes_and_of_images_weigh_the_loss():
    model = compiled(run_eagerly=True)
    each = as_numpy(SigmoidCrossEntropy(reduction="none")(LABELS, model(IMAGES)))
    weights = {0: 0.5, 1: 3.0, 2: 0.0, 3: 1.0, 4: 2.0}
    expected = np.mean(each * [weights[label] for label in LABELS])
    loss = compiled(run_eagerly=True).train_on_batch(IMAGES, LABELS, class_weight=weights)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss = model.evaluate(IMAGES, LABELS, sample_weight=np.arange(6), batch_size=6, verbose=0)
    assert float(loss) == pytest.approx(np.mean(each * np.arange(6)), rel=1e-5)


def test_callbacks_of_keras(tmp_path):
    """Those that read and write the optimizer's rate, its averages and its file."""
    model = compiled(AdamW(0.08, use_ema=True, ema_momentum=0.5))
    history = model.fit(
        IMAGES,
        LABELS,
        batch_size=3,
        epochs=3,
        verbose=0,
        validation_data=(IMAGES, LABELS, np.ones(6)),
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
            keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
        ],
    ).history
    assert history["learning_rate"] == pytest.approx([0.04, 0.02, 0.01], rel=1e-6)
    assert history["val_loss"][-1] < history["val_loss"][0]
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # Saved with the averages in the place of the weights, which validation saw.
    assert float(loaded.evaluate(IMAGES, LABELS, verbose=0)) == pytest.approx(
        history["val_loss"][-1], rel=1e-4
    )
    assert float(as_numpy(loaded.optimizer.learning_rate)) == pytest.approx(0.01, rel=1e-6)


# Parts of a user's own model


def test_a_frozen_trunk_in_a_users_model(rng):
    """Two images, one shared trunk that is not trained, and a head."""
    base = ViT(SMALL, 5, image_size=4)
    trunk = keras.Model(base.input, base.get_layer("pooling").output, name="trunk")
    trunk.trainable = False
    pair = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    joined = keras.layers.Concatenate()([trunk(x) for x in pair])
    model = keras.Model(pair, keras.layers.Dense(3, name="head")(joined))
    before = trunk.get_weights()
    model.compile(Adafactor(0.1, weight_decay={"(^|/)head/kernel$": 0.1}), "mse")
    model.fit([IMAGES, IMAGES[::-1]], np.ones((6, 3)), verbose=0)
    for old, new in zip(before, trunk.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    slots = {v.path.rpartition("/")[2] for v in model.optimizer.variables}
    assert slots == {
        "iteration", "learning_rate",
        *(f"head_{w}_{slot}" for w in ("kernel", "bias") for slot in ("momentum", "second_moment")),
    }  # fmt: skip


def test_summary_counts_what_is_frozen_and_plots_name_the_layers():
    model = ViT(SMALL, 5, image_size=4, frozen_blocks=1)
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line), show_trainable=True)
    block = sum(int(np.prod(v.shape)) for v in model.get_layer("encoder").frozen.values())
    text = "\n".join(lines)
    assert f"Non-trainable params: {block:,}" in text
    assert "encoder (Encoder)" in text
    if importlib.util.find_spec("pydot") is None:
        pytest.skip("plots need pydot")
    dot = keras.utils.model_to_dot(model, show_shapes=True, show_layer_names=True).to_string()
    for layer in model.layers:
        assert layer.name in dot


# Optimizers elsewhere than in `fit` of our models


@OURS
@pytest.mark.parametrize(
    "options",
    [
        {"global_clipnorm": 0.1, "record_norms": True},
        {"loss_scale_factor": 4.0},
        {"clipvalue": 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_embedding_is_trained_as_the_matrix_that_it_is(kind, options, rng):
    """Rows looked up twice and never; on TensorFlow the gradient comes as slices of rows."""
    table, rows = rng.normal(size=(7, 5)), np.array([[0, 3, 3], [6, 3, 1]])
    looked_up = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(7, 5)])
    multiplied = keras.Sequential([keras.Input((3, 7)), keras.layers.Dense(5, use_bias=False)])
    for model, x in ((looked_up, rows), (multiplied, np.eye(7)[rows])):
        model.set_weights([table])
        model.compile(kind(0.1, **options), "mse", run_eagerly=True)
        for _ in range(3):
            model.train_on_batch(x, np.ones((2, 3, 5)))
    assert np.abs(multiplied.get_weights()[0][[0, 1, 3, 6]] - table[[0, 1, 3, 6]]).max() > 0.01
    np.testing.assert_allclose(
        looked_up.get_weights()[0], multiplied.get_weights()[0], rtol=1e-5, atol=1e-6
    )
    if "record_norms" in options:
        norms = [as_numpy(model.optimizer.gradient_norm) for model in (looked_up, multiplied)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def steps_of_ones_own(model, optimizer, x, y, steps):
    """Training as each backend's users write it without `fit`."""
    loss_of = keras.losses.MeanSquaredError()
    if BACKEND == "jax":
        import jax

        def loss_at(weights, state, x, y):
            predicted, state = model.stateless_call(weights, state, x, training=True)
            return loss_of(y, predicted), state

        @jax.jit
        def step(weights, state, slots, x, y):
            gradients, state = jax.grad(loss_at, has_aux=True)(weights, state, x, y)
            return *optimizer.stateless_apply(slots, gradients, weights), state

        optimizer.build(model.trainable_variables)
        parts = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        weights, state, slots = ([v.value for v in part] for part in parts)
        for _ in range(steps):
            weights, slots, state = step(weights, state, slots, x, y)
        for values, part in zip((weights, state, slots), parts, strict=True):
            for value, variable in zip(values, part, strict=True):
                variable.assign(value)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            weights = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

        optimizer.build(model.trainable_variables)
        for _ in range(steps):
            step(x, y)
    else:
        import torch

        for _ in range(steps):
            model.zero_grad()
            loss_of(y, model(x, training=True)).backward()
            weights = model.trainable_weights
            with torch.no_grad():
                optimizer.apply([v.value.grad for v in weights], weights)


@OURS
def test_convolutions_and_norms_train_in_fit_as_in_a_loop_of_ones_own(kind, rng):
    x = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    y = rng.normal(size=(3, 2)).astype("float32")
    trained = []
    for loop in (False, True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(5, 3),
                keras.layers.BatchNormalization(),
                keras.layers.DepthwiseConv2D(3),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2, name="head"),
            ]
        )
        optimizer = kind(0.1, weight_decay=0.1)
        if loop:
            steps_of_ones_own(model, optimizer, x, y, steps=4)
        else:
            model.compile(optimizer, "mse")
            model.fit(x, y, batch_size=3, epochs=4, shuffle=False, verbose=0)
        trained.append(model.get_weights())
    for ours, expected, variable in zip(*trained, model.weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5, err_msg=variable.path)
    assert not [v.path for v in optimizer.variables if "moving" in v.path]
