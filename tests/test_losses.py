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


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (LABELS, ONE_HOT),
        (LABELS[:, None], ONE_HOT),
        (ONE_HOT, ONE_HOT),
        (np.array([[1, 0, 1, 1, 0]] * 3), np.array([[1, 0, 1, 1, 0]] * 3)),
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
    loss = SigmoidCrossEntropy(name="mine")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SigmoidCrossEntropy
    assert again.get_config() == loss.get_config()
