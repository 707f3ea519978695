"""Frozen blocks: not trained by any optimizer, without its state, and no matter for files."""

import keras
import numpy as np
import pytest
from conftest import as_numpy, randomise

from keras_vit_scale import Adafactor, ViT, ViTConfig

#: Its width is large enough for Adafactor to factor.
CONFIG = ViTConfig(width=36, depth=3, mlp_dim=37, heads=3, patch_size=2)

OPTIMIZERS = {
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True, ema_momentum=0.5),
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adafactor": lambda: Adafactor(0.01, weight_decay=0.1),
}


def model_of(frozen_blocks=0, seed=1):
    keras.utils.set_random_seed(5)
    model = ViT(CONFIG, 2, image_size=4, frozen_blocks=frozen_blocks)
    whole = ViT(CONFIG, 2, image_size=4)
    randomise(whole, np.random.default_rng(seed))
    set_stacks(model, stacks(whole))
    for layer, other in zip(model.layers, whole.layers, strict=True):
        if layer.name != "encoder":
            layer.set_weights(other.get_weights())
    return model


def stacks(model):
    """The encoder's weights by name, whole."""
    store = {}
    model.get_layer("encoder").save_own_variables(store)
    return {name: as_numpy(v).copy() for name, v in store.items()}


def set_stacks(model, arrays):
    model.get_layer("encoder").load_own_variables(arrays)


def train(model, rng, optimizer, steps=2):
    x, y = rng.normal(size=(steps * 3, 4, 4, 3)), rng.normal(size=(steps * 3, 2))
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=3, shuffle=False, verbose=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_blocks_stay_and_have_no_optimizer_state(name, rng):
    model = model_of()
    encoder = model.get_layer("encoder")
    encoder.freeze(2)
    before = stacks(model)
    optimizer = OPTIMIZERS[name]()
    train(model, rng, optimizer)
    for weight, after in stacks(model).items():
        np.testing.assert_array_equal(after[:2], before[weight][:2], err_msg=weight)
        # The gradient of a key's bias is zero: softmax does not see what all scores share.
        assert (after[2] != before[weight][2]).any() or weight == "key_bias", weight
    # Every slot of the blocks is of the one block that is trained.
    slots = [v for v in optimizer.variables if "encoder" in v.path]
    assert len(slots) >= 16
    assert {v.shape[0] for v in slots} == {1}
    assert all(v.stack_axis == 0 for v in encoder.weights)
    paths = [v.path for v in model.variables]
    assert len(set(paths)) == len(paths)


def test_freezing_a_built_model_is_building_it_frozen(rng):
    """Also over several steps, whose gradients torch adds up where nobody clears them."""
    data = rng.normal(size=(9, 4, 4, 3)), rng.normal(size=(9, 2))
    built, frozen = model_of(frozen_blocks=1), model_of(frozen_blocks=3)
    frozen.get_layer("encoder").freeze(0)
    frozen.get_layer("encoder").freeze(1)
    assert [v.path for v in frozen.variables] == [v.path for v in built.variables]
    for model in (built, frozen):
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.fit(*data, batch_size=3, shuffle=False, verbose=0)
    for a, b in zip(built.weights, frozen.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(a), as_numpy(b), err_msg=a.path)


def test_outputs_and_initial_values_do_not_depend_on_the_split(rng):
    images = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    expected = None
    for k in (0, 1, 3):
        keras.utils.set_random_seed(9)
        model = ViT(CONFIG, None, image_size=4, frozen_blocks=k)
        out = as_numpy(model(images))
        expected = out if expected is None else expected
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
        model.get_layer("encoder").freeze(2)
        np.testing.assert_allclose(as_numpy(model(images)), expected, rtol=1e-5, atol=1e-6)
        assert len(model.get_layer("encoder").trainable_weights) == 16


def test_files_fit_whatever_is_frozen(tmp_path):
    for saved in (0, 1, 3):
        source = model_of(saved, seed=saved)
        source.save_weights(tmp_path / "model.weights.h5")
        source.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.get_layer("encoder").frozen_blocks == saved
        targets = [again, *(model_of(k, seed=99) for k in (0, 2, 3))]
        for target in targets[1:]:
            target.load_weights(tmp_path / "model.weights.h5")
        for target in targets:
            assert stacks(target).keys() == stacks(source).keys()
            for name, array in stacks(target).items():
                np.testing.assert_array_equal(array, stacks(source)[name], err_msg=name)


def test_files_of_other_shapes_are_refused():
    model = model_of(1)
    arrays = stacks(model)
    cut = {name: array[:2] for name, array in arrays.items()}
    with pytest.raises(
        ValueError, match=r"'attention_norm_scale' .* shape \(3, 36\). Rec.*\(2, 36"
    ):
        set_stacks(model, cut)
    with pytest.raises(ValueError, match=r"must be .*'value_kernel'.*Received"):
        set_stacks(model, {name: v for name, v in arrays.items() if name != "value_kernel"})


def test_a_trained_model_is_frozen_and_compiled_again(rng):
    model = model_of()
    encoder = model.get_layer("encoder")
    train(model, rng, keras.optimizers.Adam(0.01))
    encoder.freeze(1)
    before = stacks(model)["mlp_in_kernel"]
    train(model, rng, keras.optimizers.Adam(0.01))
    after = stacks(model)["mlp_in_kernel"]
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1:] != before[1:]).any()
    # Not compiled again: JAX finds optimizer state of other shapes, TensorFlow fails in a function
    # that it traced before.
    encoder.freeze(2)
    message = {
        "jax": "Invalid variable value",
        "tensorflow": "[Rr]esource|[Vv]ariable",
        "torch": "Compile the model",
    }[keras.backend.backend()]
    with pytest.raises(Exception, match=message):
        model.fit(rng.normal(size=(3, 4, 4, 3)), rng.normal(size=(3, 2)), verbose=0)


def test_an_encoder_that_is_not_trainable_stays_so():
    model = model_of()
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    encoder.freeze(1)
    assert not encoder.trainable_weights
    encoder.trainable = True
    assert {v.path.split("/")[-1].startswith("frozen_") for v in encoder.trainable_weights} == {
        False
    }
    assert len(encoder.non_trainable_weights) == 16


def test_paths_keep_their_parents():
    class Outer(keras.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.encoder = type(model_of().get_layer("encoder"))(3, 2, 5, name="encoder")

        def build(self, shape):
            self.encoder.build(shape)

        def call(self, x):
            return self.encoder(x)

    model = Outer()
    model(np.zeros((1, 3, 4), "float32"))
    before = {v.path for v in model.weights}
    model.encoder.freeze(1)
    model.encoder.freeze(0)
    assert {v.path for v in model.weights} == before


@pytest.mark.parametrize("k", [-1, 4, 1.0])
def test_there_are_only_so_many_blocks_to_freeze(k):
    with pytest.raises(ValueError, match="`frozen_blocks` must be an integer from 0 to the depth"):
        model_of().get_layer("encoder").freeze(k)
