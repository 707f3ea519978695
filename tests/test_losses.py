"""The summed sigmoid cross-entropy against its definition."""

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import SigmoidCrossEntropy


def definition(targets, logits):
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(-1).mean()


LABELS = np.array([4, 0, 2])
ONE_HOT = np.eye(5)[LABELS]
MULTI_HOT = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (LABELS, ONE_HOT),
        (LABELS[:, None], ONE_HOT),
        (ONE_HOT, ONE_HOT),
        (MULTI_HOT, MULTI_HOT),
        (np.array([4, -1, 5]), ONE_HOT * [[1], [0], [0]]),  # no such class: no positive
    ],
    ids=["indices", "column", "one-hot", "multi-hot", "outside"],
)
def test_equals_the_definition(labels, targets, rng):
    logits = rng.normal(size=(3, 5)).astype("float32") * 3
    loss = float(SigmoidCrossEntropy()(labels, logits))
    assert loss == pytest.approx(definition(targets, logits), rel=1e-5)


def test_is_kerass_mean_times_the_classes(rng):
    logits = rng.normal(size=(3, 5)).astype("float32")
    mean = keras.losses.BinaryCrossentropy(from_logits=True)(ONE_HOT, logits)
    assert float(SigmoidCrossEntropy()(LABELS, logits)) == pytest.approx(5 * float(mean), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "targets"),
    [(LABELS, ONE_HOT), (MULTI_HOT, MULTI_HOT), (np.array([4, -1, 5]), ONE_HOT * [[1], [0], [0]])],
    ids=["indices", "multi-hot", "outside"],
)
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_smoothing_draws_each_target_towards_a_half(labels, targets, smoothing, rng):
    logits = rng.normal(size=(3, 5)).astype("float32")
    loss = float(SigmoidCrossEntropy(label_smoothing=smoothing)(labels, logits))
    smooth = np.array([[t * (1 - smoothing) + smoothing / 2 for t in row] for row in targets])
    assert loss == pytest.approx(definition(smooth, logits), rel=1e-5)
    keras_mean = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    assert loss == pytest.approx(5 * float(keras_mean(targets, logits)), rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_logits_are_computed_in_float32(dtype, rng):
    """1,009 classes at -10: a sum in bfloat16 stops growing long before its end."""
    logits = keras.ops.cast(rng.normal(size=(3, 1009)).astype("float32") - 10, dtype)
    labels = np.array([1008, 3, 777])
    expected = definition(np.eye(1009)[labels], as_numpy(keras.ops.cast(logits, "float32")))
    loss = SigmoidCrossEntropy()
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    each = loss.call(keras.ops.convert_to_tensor(labels), logits)
    assert keras.backend.standardize_dtype(each.dtype) == "float32"


@pytest.mark.parametrize(
    ("options", "match"),
    [({"label_smoothing": -0.1}, "-0.1"), ({"label_smoothing": 1.5}, "1.5"),
     ({"dtype": "bfloat16"}, "bfloat16")],
)  # fmt: skip
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        SigmoidCrossEntropy(**options)


def test_large_logits_stay_finite():
    logits = np.array([[1e4, -1e4]], "float32")
    assert float(SigmoidCrossEntropy()(np.array([0]), logits)) == 0
    assert float(SigmoidCrossEntropy()(np.array([1]), logits)) == pytest.approx(2e4)


def test_sample_weights_and_reduction(rng):
    logits = rng.normal(size=(3, 5)).astype("float32")
    each = as_numpy(SigmoidCrossEntropy(reduction="none")(LABELS, logits))
    assert each.shape == (3,)
    weighted = SigmoidCrossEntropy()(LABELS, logits, sample_weight=np.array([1.0, 0.0, 2.0]))
    assert float(weighted) == pytest.approx((each[0] + 2 * each[2]) / 3, rel=1e-6)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        SigmoidCrossEntropy()(np.zeros((3, 4)), np.zeros((3, 5), "float32"))


def test_is_serialised():
    loss = SigmoidCrossEntropy(0.125, reduction="sum", name="mine", dtype="float64")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SigmoidCrossEntropy
    assert again.get_config() == loss.get_config()
    assert again.label_smoothing == 0.125
    assert again.dtype == "float64"
