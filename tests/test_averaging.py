"""Averaged weights against a loop, through several fits, and put back."""

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import AdamW, Momentum
from keras_vit_scale.training import averaged


class EachStep(keras.callbacks.Callback):
    """The weights after each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        # Asking for `model` gives the variables their values on JAX.
        self.seen.append([as_numpy(w).copy() for w in self.model.trainable_variables])


def fitted(optimizer, rng, steps=(5, 1, 7)):
    """A model after several fits of so many steps, and its weights after each step."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
    )
    model.compile(optimizer, loss="mse")
    each = EachStep()
    for count in steps:
        x, y = rng.normal(size=(count * 7, 3)), rng.normal(size=(count * 7, 2))
        model.fit(x, y, batch_size=7, shuffle=False, verbose=0, callbacks=[each])
    return model, each.seen


@pytest.mark.parametrize("kind", [Momentum, AdamW])
def test_averages_are_the_loops(kind, rng):
    model, seen = fitted(kind(0.1, use_ema=True, ema_momentum=0.75, ema_at_end=False), rng)
    assert len(seen) == 13
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.75 * a + 0.25 * w for a, w in zip(expected, weights, strict=True)]
    with averaged(model):
        found = model.get_weights()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_is_the_same_with_averages_and_without(rng):
    state = rng.bit_generator.state
    runs = []
    for options in ({}, {"use_ema": True, "ema_momentum": 0.9, "ema_at_end": False}):
        rng.bit_generator.state = state
        keras.utils.set_random_seed(3)
        model, _ = fitted(Momentum(0.1, **options), rng)
        if options:
            with averaged(model):
                pass
        runs.append(model.get_weights())
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_weights_come_back_after_an_error(rng):
    model, seen = fitted(Momentum(0.1, use_ema=True, ema_at_end=False), rng)
    with pytest.raises(KeyboardInterrupt), averaged(model):
        raise KeyboardInterrupt
    for a, b in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_averages_nothing_changes(rng):
    model, seen = fitted(Momentum(0.1), rng)
    with averaged(model):
        found = model.get_weights()
    for a, b in zip(found, seen[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_fit_ends_with_the_averages_by_default(rng):
    """As in Keras: what the last step left is not what the model has."""
    model, seen = fitted(Momentum(0.1, use_ema=True, ema_momentum=0.5), rng, steps=(4,))
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.5 * a + 0.5 * w for a, w in zip(expected, weights, strict=True)]
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
