"""Nested parts of data sets, against hashes in Python's own integers."""

import hashlib
import itertools

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.data import ArraySource, digits, subset
from keras_vit_scale.data.nested import hashed, nested_order

pytestmark = numpy_alone


def split_mix(number, seed):
    """SplitMix64's finaliser, modulo 2**64."""
    key = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    x = (number * 0x9E3779B97F4A7C15 + key) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@pytest.mark.parametrize("seed", [0, 5, 2**40])
def test_the_order_is_that_of_the_stated_hashes(seed):
    expected = [split_mix(i, seed) for i in range(101)]
    assert hashed(np.arange(101), seed).tolist() == expected
    order = sorted(range(101), key=expected.__getitem__)
    assert nested_order(101, seed).tolist() == order
    found = subset(ArraySource(np.zeros((101, 2, 2), "uint8"), [0] * 101), 17, seed)
    assert found.indices.tolist() == sorted(order[:17])


@pytest.mark.parametrize("stratified", [False, True])
def test_each_smaller_part_lies_in_each_larger(stratified):
    source = digits()
    parts = [
        set(subset(source, n, seed=3, stratified=stratified).indices)
        for n in (1, 0.01, 180, 0.5, 1796, 1.0)
    ]
    assert [len(part) for part in parts] == [1, 18, 180, 898, 1796, 1797]
    for smaller, larger in itertools.pairwise(parts):
        assert smaller < larger
    assert parts[2] != set(subset(source, 180, seed=4, stratified=stratified).indices)


def test_stratified_parts_have_each_class_share():
    """Tables of classes of all kinds, at every size of a part."""
    rng = np.random.default_rng(0)
    for seed in range(60):
        classes = int(rng.integers(1, 90))
        chances = [
            rng.dirichlet(np.ones(classes)),
            1 / np.arange(1, classes + 1),
            np.ones(classes),
            np.r_[classes, np.ones(classes - 1)],
        ][seed % 4]
        labels = rng.choice(classes, 997, p=chances / chances.sum())
        order = nested_order(997, seed, labels)
        assert sorted(order) == list(range(997))
        taken = (labels[order][:, None] == np.arange(classes)).cumsum(0)
        share = np.arange(1, 998)[:, None] / 997 * np.bincount(labels, minlength=classes)
        assert np.abs(taken - share).max() < 4


def test_equal_classes_are_taken_in_turn():
    labels = np.arange(91) % 7
    order = nested_order(91, 2, labels)
    for begin in range(0, 91, 7):
        assert sorted(labels[order[begin : begin + 7]]) == list(range(7))
    # Within a class it is the order of the hashes.
    plain = [i for i in nested_order(91, 2) if labels[i] == 3]
    assert [i for i in order if labels[i] == 3] == plain


def test_choices_are_even():
    """Each image is chosen as often as any: 400 seeds, a quarter of 53; five deviations."""
    source = ArraySource(np.zeros((53, 2, 2), "uint8"), np.arange(53) % 3)
    for stratified in (False, True):
        taken = sum(
            np.bincount(subset(source, 13, seed, stratified=stratified).indices, minlength=53)
            for seed in range(400)
        )
        chance = 13 / 53
        assert np.abs(taken - 400 * chance).max() < 5 * np.sqrt(400 * chance * (1 - chance))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "at least one image and at most all"),
        ((1798,), r"at most all\. Received: 1798 of 1797"),
        ((1e-4,), "at least one image"),
        ((1.5,), "a number of images, or a share"),
        ((True,), "a number of images, or a share"),
        (("1%",), "a number of images, or a share"),
        ((5, -1), "`seed` must be an integer from 0 on"),
        ((5, 0.5), "`seed` must be an integer from 0 on"),
    ],
)
def test_impossible_parts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        subset(digits(), *arguments)
