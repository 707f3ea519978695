"""The largest batch: by estimate, by compiling and by running, each against its neighbours."""

import keras
import pytest
from conftest import TINY

import keras_vit_scale as kvs
from keras_vit_scale.distribution import Cuts
from keras_vit_scale.planning import Accelerator, estimate, max_batch
from keras_vit_scale.planning import largest_batch as module
from keras_vit_scale.planning.largest_batch import largest
from keras_vit_scale.planning.trial import Trial, run_trial

OPTIONS = {"num_classes": 5, "image_size": 14, "remat": "full", "dtype": "float32"}
GIB = 2**30


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 8, 63, 64, 65])
@pytest.mark.parametrize("start", [1, 2, 7, 64])
def test_the_largest_number_is_found_with_few_questions(limit, start):
    tried = largest(lambda n: n <= limit, start)
    assert max((n for n, fit in tried.items() if fit), default=0) == limit
    assert all(fit == (n <= limit) for n, fit in tried.items())
    assert len(tried) <= 14


def test_without_a_limit_it_ends():
    assert max(largest(lambda n: True, 3)) <= 2 * module.MOST


@pytest.mark.parametrize("multiple", [1, 8])
def test_the_next_batch_does_not_fit(multiple):
    settings = {"dtype": "mixed_bfloat16", "remat": "full", "device": "H100 SXM"}
    found = max_batch("L/16", multiple=multiple, **settings)
    assert found.batch_size % multiple == 0
    assert estimate("L/16", found.batch_size, **settings).fits
    assert not estimate("L/16", found.batch_size + multiple, **settings).fits
    assert found.needed == estimate("L/16", found.batch_size, **settings).needed
    assert found.memory == int(0.96 * 80 * GIB)


def test_devices_share_a_batch():
    settings = {"dtype": "mixed_bfloat16", "remat": "full", "device": "TPU v5e"}
    one = max_batch("B/16", **settings).batch_size
    four = max_batch("B/16", distribution=Cuts(data=4), **settings).batch_size
    assert four == 4 * one


def test_a_memory_of_ones_own():
    needed = estimate(TINY, 6, **OPTIONS).needed
    assert max_batch(TINY, memory=needed, **OPTIONS).batch_size == 6
    assert max_batch(TINY, memory=needed - 1, **OPTIONS).batch_size == 5
    mine = Accelerator("mine", None, 1e12, None, memory=2 * needed)
    assert max_batch(TINY, mine, memory=needed, **OPTIONS).batch_size == 6


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX compiles ahead of time")
def test_by_compiling_the_next_batch_does_not_fit():
    from keras_vit_scale.planning import compile_step

    memory = compile_step(TINY, 6, **OPTIONS).memory.total
    found = max_batch(TINY, memory=memory, method="compile", **OPTIONS)
    assert found.batch_size == 6
    assert found.needed == memory
    assert found.trials[7] is False


def test_by_running_each_batch_is_a_process(monkeypatch):
    """What is run is what is asked; whether it fits is the process's to say."""
    asked = []

    def trial(config, batch, **options):
        asked.append((batch, options))
        return Trial(batch <= 11, None)

    monkeypatch.setattr(module, "run_trial", trial)
    found = max_batch(TINY, memory=10**9, method="run", optimizer="adamw", **OPTIONS)
    assert (found.batch_size, found.needed) == (11, None)
    assert {batch for batch, _ in asked} == set(found.trials)
    assert asked[0][1] == {"memory": 10**9, "steps": 1, "optimizer": "adamw", **OPTIONS}


@pytest.mark.slow
def test_a_trial_runs_and_one_without_memory_does_not_fit():
    done = run_trial(TINY, 3, steps=2, **OPTIONS)
    assert done.fits
    assert done.seconds > 0
    # 600 MB of images alone.
    large = {**OPTIONS, "image_size": 700}
    none = run_trial(kvs.ViTConfig(8, 1, 8, 2, 70), 100, memory=2**27, **large)
    assert (none.fits, none.seconds) == (False, None)


@pytest.mark.slow
def test_a_trial_that_fails_for_another_reason_is_an_error():
    with pytest.raises(RuntimeError, match="pooling='no'"):
        run_trial(TINY, 3, **{**OPTIONS, "pooling": "no"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "memory=0"),
        ({"memory": 1000}, r"at least 1 images, which needs 0.00 GiB. Received: memory of 0.00"),
        ({"memory": 1e9, "method": "guess"}, "method='guess'"),
        ({"memory": 1e9, "multiple": 0}, "multiple=0"),
        ({"memory": 1e9, "optimizer": "adamx"}, "optimizer='adamx'"),
        ({"device": "RTX 4099"}, "RTX 4090"),
        ({"method": "run", "distribution": Cuts(data=2)}, "without a distribution"),
        ({"memory": 1e9, "image_size": 15}, "multiple of the patch"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        max_batch(TINY, **{**OPTIONS, **options})
