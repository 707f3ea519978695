"""The probe against independent solves, and against leaks."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from keras_vit_scale import FewShot, ViT, ViTConfig
from keras_vit_scale.data import ArraySource, EvalTransform, digits, hold_out, hold_out_classes
from keras_vit_scale.evaluation import extract_features, linear_probe, representation, ridge
from keras_vit_scale.evaluation.fewshot import choose_examples

PLAIN = EvalTransform(8, resize="none")


def least_squares(x, y, l2):
    """Ridge as ordinary least squares with sqrt(l2) times the identity as more examples."""
    f = x.shape[1]
    rows = np.concatenate([x, np.sqrt(l2) * np.eye(f)])
    return np.linalg.lstsq(rows, np.concatenate([y, np.zeros((f, y.shape[1]))]), rcond=None)[0]


@pytest.mark.parametrize(("n", "f"), [(53, 17), (17, 53), (29, 29)])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-6), ("float32", 1e-4)])
def test_ridge_equals_an_independent_solve(n, f, dtype, rtol, rng):
    x, y = rng.normal(size=(n, f)), rng.normal(size=(n, 5))
    w = ridge(x.astype(dtype), y.astype(dtype), 7.0)
    assert w.dtype == dtype
    expected = least_squares(x, y, 7.0)
    np.testing.assert_allclose(w, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def by_scikit_learn(train, labels, test, classes):
    """Classes that the paper's probe predicts, by scikit-learn's ridge."""
    mean, deviation = train.mean(0), np.sqrt(((train - train.mean(0)) ** 2).mean(0)) + 1e-5
    x, z = (
        np.column_stack([(a - mean) / deviation, np.full(len(a), 100.0)]) for a in (train, test)
    )
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    oracle = Ridge(alpha=1024.0, fit_intercept=False, solver="svd").fit(x, targets)
    return oracle.predict(z).argmax(1)


@pytest.mark.parametrize("shots", [3, 40])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_probe_predicts_as_scikit_learn_does(shots, dtype, rng):
    """Fewer and more examples than features; the same predictions in both precisions."""
    classes, width = 5, 31
    centres = rng.normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), shots)
    train = centres[labels] + rng.normal(size=(len(labels), width)) * 2
    test = np.repeat(centres, 60, 0) + rng.normal(size=(300, width)) * 2
    expected = by_scikit_learn(train, labels, test, classes)
    assert 0.3 < (expected == np.repeat(np.arange(classes), 60)).mean() < 1

    predicted = linear_probe(train.astype(dtype), labels, test.astype(dtype), classes, 1024.0)
    np.testing.assert_array_equal(predicted, expected)


def test_scale_and_constant_are_the_papers(rng):
    """Between classes of unequal numbers both decide, by a few points of very many.

    With as many examples of each class the constant, its penalty and any factor of all features
    add the same to every class, and change no prediction.
    """
    labels = np.repeat(np.arange(5), [6, 7, 6, 5, 8])
    # Two features vary as little as what is added to deviations.
    scale = np.array([1, 3, 1e-5, 2e-5, 1, 7, 1])
    train = scale * (rng.normal(size=(5, 7))[labels] + rng.normal(size=(len(labels), 7)))
    test = scale * rng.normal(size=(20_000, 7)) * 10
    expected = by_scikit_learn(train, labels, test, 5)
    assert np.bincount(expected, minlength=5).min() > 100
    np.testing.assert_array_equal(linear_probe(train, labels, test, 5, 1024.0), expected)


def test_examples_are_the_first_of_a_seeded_permutation(rng):
    labels = rng.integers(0, 4, 97)
    few, more = (choose_examples(labels, 4, shots, seed=3) for shots in (2, 9))
    np.testing.assert_array_equal(few, more[:, :2])
    for c, chosen in enumerate(more):
        assert (labels[chosen] == c).all()
        assert len(set(chosen)) == 9
    assert (choose_examples(labels, 4, 9, seed=4) != more).any()


def test_a_class_with_too_few_examples_is_refused():
    labels = np.array([0] * 9 + [1] * 3)
    with pytest.raises(ValueError, match="3 examples of class 1, shots=5"):
        choose_examples(labels, 2, 5, seed=0)


def test_probe_equals_the_whole_calculation_by_hand(rng):
    """From images to accuracies with scikit-learn's Ridge on the model's own features."""
    held_out, pool = hold_out(digits(), 400)
    model = ViT(ViTConfig(8, 1, 16, 2, 4), 10, image_size=8)
    model.get_layer("head").kernel.assign(rng.normal(size=(8, 10)))
    probe = FewShot(pool, held_out, PLAIN, shots=[2, 5], seeds=[0, 3], dtype="float64")
    results = probe(model)
    assert [(r.shots, r.seed) for r in results] == [(2, 0), (2, 3), (5, 0), (5, 3)]

    features = keras.Model(model.input, model.get_layer("pooling").output)
    test = extract_features(features, held_out, PLAIN).astype("float64")
    every = extract_features(features, pool, PLAIN).astype("float64")
    for r in results:
        few = choose_examples(pool.labels, 10, 5, r.seed)[:, : r.shots].ravel()
        mean, deviation = every[few].mean(0), every[few].std(0) + 1e-5
        x, z = (
            np.column_stack([(a - mean) / deviation, np.full(len(a), 100.0)])
            for a in (every[few], test)
        )
        targets = np.where(pool.labels[few][:, None] == np.arange(10), 1.0, -1.0)
        oracle = Ridge(alpha=1024.0, fit_intercept=False, solver="cholesky").fit(x, targets)
        accuracy = (oracle.predict(z).argmax(1) == held_out.labels).mean()
        assert r.accuracy == pytest.approx(accuracy, abs=1e-12)
        assert r.accuracy > 0.15


def test_labels_of_the_test_images_do_not_reach_the_fit(rng):
    """With shuffled test labels the predictions stay: only the score falls to chance."""
    held_out, pool = hold_out(digits(), 700)
    shuffled = ArraySource(
        np.stack([held_out[i][0] for i in range(len(held_out))]),
        rng.permutation(held_out.labels),
        held_out.class_names,
    )
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    honest, chance = (
        FewShot(pool, test, PLAIN, shots=[10], seeds=[0])(model)[0].accuracy
        for test in (held_out, shuffled)
    )
    assert honest > 0.7
    assert chance < 0.2


def test_features_are_those_before_the_head_in_the_order_of_the_source(rng):
    model = ViT(ViTConfig(8, 1, 16, 2, 4), 10, image_size=8)
    source = digits()
    features = extract_features(representation(model), source, PLAIN, batch_size=100)
    assert features.shape == (1797, 8)
    few = extract_features(representation(model), source, PLAIN, batch_size=7)[:20]
    np.testing.assert_allclose(features[:20], few, rtol=1e-5, atol=1e-5)
    headless = ViT(ViTConfig(8, 1, 16, 2, 4), None, image_size=8)
    assert representation(headless) is headless


def test_only_chosen_examples_are_read():
    held_out, pool = hold_out(digits(), 400)
    probe = FewShot(pool, held_out, PLAIN, shots=[1, 2], seeds=[0, 1, 2])
    assert 20 <= len(probe.train) <= 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": [200]}, "as many examples as the probe has shots"),
        ({"shots": []}, "at least one number of shots"),
        ({"seeds": []}, "at least one number of shots and one seed"),
        ({"shots": [0]}, "must be a positive integer"),
        ({"l2": 0.0}, "`l2` must be positive"),
        ({"dtype": "float16"}, "`dtype` must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    held_out, pool = hold_out(digits(), 400)
    with pytest.raises(ValueError, match=message):
        FewShot(pool, held_out, PLAIN, **options)


def test_classes_must_agree():
    some, others = hold_out_classes(digits(), ["1", "2"])
    with pytest.raises(ValueError, match="must have the same classes"):
        FewShot(some, others, PLAIN, shots=[1])
