"""Several labels an image, against dense targets made by loops."""

import keras
import numpy as np
import pytest
from conftest import as_numpy

from keras_vit_scale import SigmoidCrossEntropy
from keras_vit_scale.data import (
    ArraySource,
    Augmentation,
    EvalTransform,
    ReplaceBad,
    Subset,
    TrainTransform,
    WithAncestors,
    eval_batches,
    hold_out,
    hold_out_classes,
    label_lists,
    subset,
    train_batches,
)
from keras_vit_scale.data.hierarchy import ancestor_table, with_ancestors
from keras_vit_scale.data.identity import digest_of_labels
from keras_vit_scale.data.labels import multi_hot
from keras_vit_scale.evaluation import FewShot

C = 7
LISTS = [[3, 0], [], [6], [1, 2, 5]]
TREE = {"tabby": "cat", "lynx": "cat", "cat": "animal", "owl": "animal", "oak": "plant"}
NAMES = ["animal", "cat", "lynx", "oak", "owl", "plant", "tabby"]


def images(count):
    values = np.arange(count, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None], (count, 4, 4)).copy()


def dense(lists, classes=C):
    """Targets by a loop, and where there is a loss."""
    targets, known = np.zeros((len(lists), classes)), np.ones((len(lists), classes))
    for row, labels in enumerate(lists):
        for label in labels:
            if label >= 0:
                targets[row, label] = 1
            elif label < -1:
                known[row, -2 - label] = 0
    return targets, known


def definition(targets, logits, known=1.0):
    """The loss and its gradient in float64."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    terms = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    return (known * terms).sum(-1), known * (p - targets)


def loss_and_gradient(labels, logits, smoothing):
    """Of our loss, through a layer whose weights are the logits, on whichever backend."""
    layer = keras.layers.Embedding(len(logits), logits.shape[1])
    model = keras.Sequential([keras.Input((), dtype="int32"), layer])
    layer.embeddings.assign(logits)
    model.compile("sgd", SigmoidCrossEntropy(smoothing, reduction="sum"))
    model.optimizer.learning_rate = 1.0
    x = np.arange(len(logits))
    loss = model.evaluate(x, labels, batch_size=len(x), verbose=0)
    model.train_on_batch(x, labels)
    return loss, logits - as_numpy(layer.embeddings)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(
    "lists",
    [LISTS, [[2, -2 - 4], [-2 - 0, -2 - 6], [], [1, 5, -2 - 2]], [[3], [0], [6], [2]]],
    ids=["lists", "some ignored", "one each"],
)
def test_lists_have_the_loss_and_gradient_of_dense_targets(lists, smoothing, rng):
    logits = (rng.normal(size=(4, C)) * 3).astype(np.float32)
    targets, known = dense(lists)
    targets = targets * (1 - smoothing) + smoothing / 2
    expected, gradient = definition(targets, logits, known)
    loss, found = loss_and_gradient(label_lists(lists)[..., None], logits, smoothing)
    assert loss == pytest.approx(expected.sum(), rel=1e-5)
    np.testing.assert_allclose(found, gradient, atol=2e-5)
    each = SigmoidCrossEntropy(smoothing, reduction="none")(label_lists(lists)[..., None], logits)
    np.testing.assert_allclose(as_numpy(each), expected, rtol=1e-5)


def test_a_class_counts_once_and_what_is_none_not_at_all(rng):
    logits = rng.normal(size=(2, C)).astype(np.float32)
    loss = SigmoidCrossEntropy(reduction="none")
    odd = np.array([[3, 3, 0, 3], [6, C, -1, -2 - C]])[..., None]
    expected, _ = definition(dense([[3, 0], [6]])[0], logits)
    np.testing.assert_allclose(as_numpy(loss(odd, logits)), expected, rtol=1e-5)


def test_thirty_thousand_classes_are_told_apart(rng):
    """In half precision too, where 29,592 and 29,568 are one number."""
    lists = [[29_592, 7], [29_568], [-2 - 29_592]]
    logits = (rng.normal(size=(3, 29_593)) * 2).astype(np.float32)
    targets, known = dense(lists, 29_593)
    expected, _ = definition(targets, logits, known)
    labels = label_lists(lists)[..., None]
    found = as_numpy(SigmoidCrossEntropy(reduction="none")(labels, logits))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    half = keras.ops.cast(logits, "bfloat16")
    found = as_numpy(SigmoidCrossEntropy(reduction="none")(labels, half))
    rounded, _ = definition(targets, as_numpy(keras.ops.cast(half, "float32")), known)
    np.testing.assert_allclose(found, rounded, rtol=1e-5)


def test_soft_labels_are_their_own_targets(rng):
    shares = rng.dirichlet(np.ones(C), size=5).astype(np.float32)
    source = ArraySource(images(5), shares)
    assert source.class_names == tuple(map(str, range(C)))
    [(_, labels)] = eval_batches(source, EvalTransform(4), 5)
    np.testing.assert_array_equal(labels, shares)
    logits = rng.normal(size=(5, C)).astype(np.float32)
    expected, _ = definition(shares.astype(np.float64), logits)
    loss = SigmoidCrossEntropy(reduction="none")(labels, logits)
    np.testing.assert_allclose(as_numpy(loss), expected, rtol=1e-5)


def test_lists_flow_through_fit_and_keep_to_their_images():
    source = ArraySource(images(4), label_lists(LISTS), list("abcdefg"))
    still = TrainTransform(4, crop="none", flip=False)
    for x, y in train_batches(source, still, 3, stop=5):
        assert (y.shape, y.dtype) == ((3, 3, 1), np.int32)
        traced = np.rint((x[:, 0, 0, 0] + 1) * 127.5).astype(int)
        for i, label in zip(traced, y[..., 0], strict=True):
            assert sorted(label[label >= 0]) == sorted(LISTS[i])
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(C)]
    )
    model.compile("sgd", SigmoidCrossEntropy())
    batches = train_batches(source, still, 3, stop=4)
    history = model.fit(batches, steps_per_epoch=4, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    filled = eval_batches(source, EvalTransform(4), 3, pad=True)
    assert np.isfinite(model.evaluate(filled, steps=2, verbose=0))


def test_mixing_shares_what_lists_have():
    source = ArraySource(images(4), label_lists(LISTS), list("abcdefg"))
    still = TrainTransform(4, crop="none", flip=False)
    mixed = train_batches(source, still, 4, stop=1, augmentation=Augmentation(0, cutmix=0))
    [(_, labels)] = mixed
    assert labels.shape == (4, C)
    # Shares of all images together are what they were.
    np.testing.assert_allclose(labels.sum(), sum(map(len, LISTS)), atol=1.5)
    assert labels.max() <= 1 + 1e-6


def test_dense_targets_are_those_of_a_loop():
    np.testing.assert_array_equal(multi_hot(label_lists(LISTS), C), dense(LISTS)[0])
    np.testing.assert_array_equal(multi_hot(np.array([3, 0]), C), dense([[3], [0]])[0])


def climb(name):
    while name in TREE:
        name = TREE[name]
        yield name


@pytest.mark.parametrize("ancestors", ["on", "ignored"])
@pytest.mark.parametrize("single", [True, False])
def test_ancestors_are_those_of_a_walk_up_the_tree(ancestors, single):
    given = [[6], [3], [4], [0], [2]] if single else [[6, 1], [3, 4], [], [0], [2, 6, 5]]
    labels = np.array([g[0] for g in given]) if single else label_lists(given)
    source = WithAncestors(ArraySource(images(5), labels, NAMES), TREE, ancestors)
    for i, names in enumerate(given):
        own = set(names)
        above = {NAMES.index(a) for n in names for a in climb(NAMES[n])}
        on = own | above if ancestors == "on" else own
        ignored = set() if ancestors == "on" else above - own
        row = source.labels[i]
        assert sorted(row[row >= 0]) == sorted(on)
        assert sorted(-2 - row[row < -1]) == sorted(ignored)
        image, label = source[i]
        assert image[0, 0, 0] == i
        np.testing.assert_array_equal(label, row)
        # What fills up stands last.
        assert (row[len(on | ignored) :] == -1).all()


def test_a_class_that_is_ignored_is_switched_on_by_another():
    """An owl whose "animal" is unknown, and a cat beside it that says so."""
    table = ancestor_table(TREE, NAMES)
    lists = label_lists([[4, -2 - 0, -2 - 3], [4, -2 - 0]])
    found = with_ancestors(lists, table)
    assert [sorted(row) for row in found.tolist()] == [[-5, 0, 4], [-1, 0, 4]]


def test_parents_that_the_source_lacks_are_new_classes():
    source = WithAncestors(ArraySource(images(2), [0, 1], ["tabby", "oak"]), TREE)
    assert source.class_names == ("tabby", "oak", "animal", "cat", "lynx", "owl", "plant")
    assert source.labels.tolist() == [[0, 2, 3], [1, 6, -1]]


def test_sources_of_lists_are_parted_and_told_apart():
    source = ArraySource(images(4), label_lists(LISTS), list("abcdefg"))
    assert Subset(source, [3, 1]).labels.tolist() == [[1, 2, 5], [-1, -1, -1]]
    np.testing.assert_array_equal(Subset(source, [3])[0][1], [1, 2, 5])
    assert len(hold_out(source, 2)[0]) == len(subset(source, 2)) == 2
    assert ReplaceBad(source)[2][1].tolist() == [6, -1, -1]
    other = ArraySource(images(4), label_lists([[3, 1], *LISTS[1:]]), list("abcdefg"))
    assert digest_of_labels(source) == digest_of_labels(ReplaceBad(source))
    assert digest_of_labels(source) != digest_of_labels(other)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (label_lists([[3], [7]]), list("abcdefg"), r"in \[0, 7\).*\[7\]"),
        (label_lists([[3], [-9]]), list("abcdefg"), r"in \[0, 7\).*\[-9\]"),
        (label_lists([[3, 3], [0]]), None, r"once in the labels.*\[3, 3\] for image 0"),
        (label_lists([[1], [3, -5]]), None, r"once in the labels.*\[3, -5\] for image 1"),
        (label_lists([[3]]), None, "one integer an image, a list of them"),
        (np.zeros((2, 3, 1), int), None, "one integer an image"),
        (np.zeros((2, 0), int), None, "one integer an image"),
        (np.array(["a", "b"]), None, "one integer an image"),
        (np.array([[0.5, 1.5], [0, 0]]), None, r"shares in \[0, 1\].*0.0 to 1.5"),
        (np.array([[0.5, np.nan], [0, 0]]), None, r"shares in \[0, 1\]"),
        (np.array([[0.5, 0.5], [0, 0]]), list("abc"), "a share for each class"),
        (np.array([0, 1]), ["a", "b", "a"], r"a name of its own.*twice: \['a'\]"),
    ],
)
def test_labels_that_are_none_are_refused(labels, names, message):
    with pytest.raises(ValueError, match=message):
        ArraySource(images(2), labels, names)


@pytest.mark.parametrize(
    ("parents", "names", "message"),
    [
        ({"a": "b", "b": "a"}, None, r"own ancestor.*\['a', 'b'\]"),
        ({"a": "a"}, None, "own ancestor"),
        ({"a": "x"}, ["a", "b"], r"in the list of classes.*\['x'\]"),
        ({"a": "b"}, ["b", "a"], "must begin with those of the source"),
    ],
)
def test_trees_that_are_none_are_refused(parents, names, message):
    with pytest.raises(ValueError, match=message):
        WithAncestors(ArraySource(images(2), [0, 1], ["a", "b"]), parents, class_names=names)


def test_what_needs_one_class_an_image_says_so():
    lists = ArraySource(images(4), label_lists(LISTS), list("abcdefg"))
    soft = ArraySource(images(4), np.full((4, 2), 0.5))
    for use in (
        lambda: hold_out(lists, 2, stratified=True),
        lambda: subset(lists, 2, stratified=True),
        lambda: hold_out_classes(lists, ["a"]),
        lambda: Subset(lists, [0], classes=[0, 3]),
        lambda: FewShot(lists, lists, EvalTransform(4), shots=[1]),
        lambda: FewShot(soft, soft, EvalTransform(4), shots=[1]),
    ):
        with pytest.raises(ValueError, match=r"must have one class for .* Received: "):
            use()
    with pytest.raises(ValueError, match="Ancestors follow from classes"):
        WithAncestors(soft, {"0": "1"})
