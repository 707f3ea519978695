"""Rematerialisation changes memory and time, and nothing else."""

import keras
import numpy as np
import pytest
from conftest import as_numpy, randomise

from keras_vit_scale.models import Encoder
from keras_vit_scale.models.remat import JAX_POLICIES, REMATS

BACKEND = keras.backend.backend()
WAYS = [way for way in REMATS[BACKEND] if way in ("auto", "full", "dots")]


def trained_once(x, **options):
    """Weights after one step of plain gradient descent with dropout: the step is the gradient."""
    keras.utils.set_random_seed(3)
    tokens = keras.Input(x.shape[1:])
    encoder = Encoder(
        3, heads=5, mlp_dim=11, dropout=0.2, stochastic_depth=0.3, name="encoder", **options
    )
    model = keras.Model(tokens, encoder(tokens))
    randomise(model, np.random.default_rng(1))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    loss = model.train_on_batch(x, np.zeros_like(x))
    return float(loss), model.weights


def test_loss_and_gradients_are_those_without_for_the_same_dropped_features(rng):
    x = rng.normal(size=(2, 7, 15)).astype("float32")
    loss, weights = trained_once(x, remat=None)
    ways = [{"remat": way} for way in WAYS] + [{"remat": "full", "unroll": True}]
    for options in ways:
        other_loss, others = trained_once(x, **options)
        assert other_loss == pytest.approx(loss, rel=1e-5), options
        for a, b in zip(weights, others, strict=True):
            # The same sums, perhaps in another order; gradients are of size 1 to 10.
            np.testing.assert_allclose(
                as_numpy(a), as_numpy(b), rtol=1e-5, atol=2e-5, err_msg=f"{a.path} {options}"
            )


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX tells what a compiled gradient needs")
def test_less_memory_the_less_is_kept():
    import jax

    x = np.zeros((4, 67, 32), "float32")
    needs = {}
    for way in (None, "dots", "dots_with_no_batch_dims_saveable", "full"):
        encoder = Encoder(12, heads=4, mlp_dim=128, remat=way)
        encoder.build(x.shape)

        def loss(weights, encoder=encoder):
            return encoder.stateless_call(weights, [], x)[0].sum()

        weights = [v.value for v in encoder.trainable_variables]
        compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
        needs[way] = compiled.memory_analysis().temp_size_in_bytes
    block_inputs = 12 * x.nbytes
    assert needs["full"] < needs["dots_with_no_batch_dims_saveable"] < needs["dots"] < needs[None]
    # Full: the inputs of twelve blocks, and the workings of one.
    assert needs["full"] < 2 * block_inputs + needs[None] / 6


@pytest.mark.skipif(BACKEND != "torch", reason="counts what PyTorch's autograd saves")
def test_fewer_values_are_saved_the_less_is_kept(rng):
    import torch

    x = torch.zeros((4, 67, 32), requires_grad=True)
    saved = {}
    for way in (None, "dots", "full"):
        encoder = Encoder(6, heads=4, mlp_dim=128, remat=way)
        encoder.build(x.shape)
        sizes = {}

        def note(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            encoder(x).sum()
        saved[way] = sum(sizes.values())
    assert saved["full"] < saved[None] / 4
    assert saved["dots"] < saved[None]


def test_a_backend_without_it_says_so():
    missing = {"jax": "all", "tensorflow": "dots", "torch": JAX_POLICIES[0]}[BACKEND]
    with pytest.raises(ValueError, match=rf"on the {BACKEND} backend. Received: remat='{missing}'"):
        Encoder(2, 2, 4, remat=missing)
