"""Mixtures: how often each source is taken, and each of its images."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.data import (
    ArraySource,
    EvalTransform,
    Mixture,
    ReplaceBad,
    TrainTransform,
    eval_batches,
    label_lists,
    train_batches,
)
from keras_vit_scale.data.mixture import whose_turn

pytestmark = numpy_alone

STILL = TrainTransform(2, crop="none", flip=False)


def traced(first, count):
    """Images that are their own numbers."""
    values = np.arange(first, first + count, dtype=np.uint8)
    return ArraySource(np.tile(values[:, None, None], (1, 2, 2)), [0] * count, ["a"])


def seen(source, steps, batch=7, **options):
    batches = train_batches(source, STILL, batch, stop=steps, **options)
    return np.concatenate([np.rint((x[:, 0, 0, 0] + 1) * 127.5).astype(int) for x, _ in batches])


@pytest.mark.parametrize("weights", [[1], [1, 2], [3, 1, 2], [0.1, 0.7, 0.2], [1, 1000], [5e-3, 1]])
def test_turns_are_shares_of_every_stretch(weights):
    counts = [0] * len(weights)
    for place in range(700):
        source, before = whose_turn(place, weights)
        assert before == counts[source]
        counts[source] += 1
        for count, weight in zip(counts, weights, strict=True):
            share = (place + 1) * Fraction(weight) / sum(map(Fraction, weights))
            assert abs(count - share) <= len(weights)


def test_each_image_comes_once_an_epoch_of_its_source():
    mixture = Mixture({"few": traced(0, 53), "many": traced(100, 97)}, {"few": 1, "many": 3})
    stream = seen(mixture, 130, seed=3)
    few, many = stream[stream < 100], stream[stream >= 100]
    assert abs(len(few) - len(stream) / 4) <= 2
    for images, size, first in ((few, 53, 0), (many, 97, 100)):
        epochs = images[: len(images) // size * size].reshape(-1, size)
        assert len(epochs) > 3
        for epoch in epochs:
            assert sorted(epoch) == list(range(first, first + size))
        assert len({tuple(e) for e in epochs}) == len(epochs)
    np.testing.assert_array_equal(stream, seen(mixture, 130, seed=3))
    assert not np.array_equal(stream, seen(mixture, 130, seed=4))
    np.testing.assert_array_equal(stream[35:], seen(mixture, 130, seed=3, start=5))


def test_equal_sources_have_orders_of_their_own():
    mixture = Mixture({"a": traced(0, 23), "b": traced(100, 23)}, {"a": 1, "b": 1})
    stream = seen(mixture, 60)
    a, b = stream[stream < 100][:23], stream[stream >= 100][:23]
    assert not np.array_equal(a, b - 100)


def test_without_weights_all_are_repeated_equally_often():
    mixture = Mixture({"few": traced(0, 34), "many": traced(100, 136)})
    assert mixture.shares == {"few": 0.2, "many": 0.8}
    assert set(Counter(seen(mixture, 5, batch=170)).values()) <= {4, 5, 6}


def test_otherwise_it_is_a_plain_source_of_all():
    mixture = Mixture({"a": traced(0, 3), "b": traced(100, 2)}, {"a": 1, "b": 9})
    [(x, _)] = eval_batches(mixture, EvalTransform(2), 5)
    assert np.rint((x[:, 0, 0, 0] + 1) * 127.5).tolist() == [0, 1, 2, 100, 101]
    assert mixture[-1][0][0, 0, 0] == 101
    with pytest.raises(IndexError):
        mixture[5]


def test_replacing_bad_images_keeps_the_weights():
    mixture = Mixture({"few": traced(0, 5), "many": traced(100, 23)}, {"few": 1, "many": 1})
    np.testing.assert_array_equal(seen(ReplaceBad(mixture), 9), seen(mixture, 9))


def test_lists_are_as_long_as_the_longest():
    images = np.zeros((2, 2, 2), np.uint8)
    one = ArraySource(images, label_lists([[0], [1]]), "abc")
    two = ArraySource(images, label_lists([[0, 2, 1], []]), "abc")
    mixture = Mixture({"one": one, "two": two})
    assert mixture.labels.tolist() == [[0, -1, -1], [1, -1, -1], [0, 2, 1], [-1, -1, -1]]
    assert mixture[0][1].tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        ({}, None, "must have a source"),
        ({"a": traced(0, 2)}, {"b": 1}, r"weights of \['b'\] for \['a'\]"),
        ({"a": traced(0, 2)}, {"a": 0}, r"`weights\['a'\]` must be positive"),
        ({"a": traced(0, 2)}, {"a": float("nan")}, "must be positive"),
        (
            {"a": traced(0, 2), "b": ArraySource(np.zeros((1, 2, 2), np.uint8), [0], ["b"])},
            None,
            r"same classes\. Received: \['b'\] of 'b', \['a'\] of 'a'",
        ),
        (
            {"a": traced(0, 2), "b": ArraySource(np.zeros((1, 2, 2), np.uint8), [[0]], ["a"])},
            None,
            "labels of one kind",
        ),
    ],
)
def test_mixtures_that_are_none_are_refused(sources, weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(sources, weights)
