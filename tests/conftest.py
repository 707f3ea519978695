"""One backend a process: KERAS_BACKEND chooses it."""

import importlib.util
import os
import signal
from pathlib import Path

if os.environ.get("KERAS_BACKEND") == "jax":
    # Tests compile hundreds of small programs and run each for moments. So JAX keeps what it
    # compiled, for processes that tests start and for the next run, and leaves LLVM's costly
    # passes out.
    for name, value in {
        "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parent.parent / ".pytest_cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }.items():
        os.environ.setdefault(name, value)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker's threads would wait for the others': eight times as long for small matrices.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest

from keras_vit_scale import ViTConfig
from keras_vit_scale.planning.topologies import find_libtpu

# Prime, distinct sizes where the architecture allows it, so that swapped axes cannot pass.
TINY = ViTConfig(width=15, depth=2, mlp_dim=19, heads=3, patch_size=2)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in what a script starts in the background; processes that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: For tests that compute nothing with Keras: one backend is enough.
numpy_alone = pytest.mark.numpy_alone


@pytest.fixture(autouse=True, scope="session")
def cache_of_indices(tmp_path_factory):
    """No test reads or writes what the user's runs keep."""
    os.environ["KERAS_VIT_SCALE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


#: Files whose examples need what other backends refuse.
ON_JAX = ("keras_vit_scale.distribution.", "keras_vit_scale.planning.step")


def pytest_collection_modifyitems(items):
    for item in items:
        if reason := why_not(item):
            item.add_marker(pytest.mark.skip(reason=reason))


def why_not(item):
    """Why a test is skipped: what it needs is not there, or it has its place on another backend."""
    backend = keras.backend.backend()
    marked = item.get_closest_marker
    if marked("numpy_alone") and backend != "jax":
        return "without Keras: the same on every backend, run on JAX"
    if marked("libtpu") and find_libtpu() is None:
        return "libtpu is not installed (extra tpu)"
    example = isinstance(item, pytest.DoctestItem)
    tuning = example and item.name.startswith("keras_vit_scale.tuning.")
    if tuning and importlib.util.find_spec("keras_tuner") is None:
        return "needs KerasTuner, the extra `tuner`"
    if example and item.name.startswith(ON_JAX) and backend != "jax":
        return "an example for JAX alone"
    return None


@pytest.fixture(autouse=True, scope="module")
def compiled_programs():
    """JAX keeps what it compiled for good: gigabytes, in the end, that no later file needs."""
    yield
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture(autouse=True)
def seeded():
    """The same weights in every run of a test."""
    keras.utils.set_random_seed(7)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(tensor)))


def randomise(model, rng, scale=0.3):
    """Gives every weight a value, so that no zero or one hides a mistake."""
    for weight in model.weights:
        weight.assign(as_numpy(weight) + scale * rng.normal(size=weight.shape))
