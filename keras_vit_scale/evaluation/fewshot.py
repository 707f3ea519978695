"""The few-shot linear probe: ridge regression in closed form on frozen features."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import scipy.linalg

from keras_vit_scale.checks import check_one_of, check_positive, check_positive_integers
from keras_vit_scale.data import EvalTransform, Source, Subset
from keras_vit_scale.data.labels import check_single
from keras_vit_scale.evaluation.features import extract_features, representation

#: The constant feature, penalised like the others: large, so that it costs little.
BIAS_FEATURE = 100.0

#: Added to the deviation of each feature before dividing by it.
EPSILON = 1e-5


def ridge(x: np.ndarray, y: np.ndarray, l2: float) -> np.ndarray:
    """Weights (F, C) that minimise `|x w - y|^2 + l2 |w|^2`, for x (N, F) and y (N, C).

    With at least as many examples as features it solves (x'x + l2) w = x'y, F x F.
    With fewer, w is a combination x'a of the examples, which leaves (x x' + l2) a = y,
    N x N. Both matrices are positive definite, so Cholesky's factors serve; no
    decomposition into eigenvalues is needed for a single l2.
    """
    n, f = x.shape
    if n >= f:
        return _solve(x.T @ x, x.T @ y, l2)
    return x.T @ _solve(x @ x.T, y, l2)


def _solve(gram, right, l2):
    gram[np.diag_indices_from(gram)] += l2
    return scipy.linalg.solve(gram, right, assume_a="pos", overwrite_a=True, check_finite=False)


def choose_examples(labels: np.ndarray, classes: int, shots: int, seed: int) -> np.ndarray:
    """Indices (classes, shots): the first `shots` of a seeded permutation of each class.

    Fewer shots of the same seed are the first of more.

    Raises:
        ValueError: If a class has fewer than `shots` examples.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for c in range(classes):
        members = rng.permutation(np.flatnonzero(labels == c))
        if len(members) < shots:
            raise ValueError(
                "Each class must have as many examples as the probe has shots. "
                f"Received: {len(members)} examples of class {c}, shots={shots}"
            )
        chosen.append(members[:shots])
    return np.stack(chosen)


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, l2: float
) -> np.ndarray:
    """Classes predicted for `test` (M, D) by a ridge fitted to `train` (N, D).

    Features are standardised by the training examples' mean and population
    deviation (+ 1e-5), a constant 100 is appended, and the targets are 1 for an
    example's class and -1 for the others.
    """
    mean, deviation = train.mean(0), train.std(0) + EPSILON
    targets = np.full((len(train), classes), -1, train.dtype)
    targets[np.arange(len(train)), labels] = 1
    weights = ridge(_with_bias((train - mean) / deviation), targets, l2)
    return (_with_bias((test - mean) / deviation) @ weights).argmax(1)


def _with_bias(x):
    return np.concatenate([x, np.full((len(x), 1), BIAS_FEATURE, x.dtype)], axis=1)


class FewShotResult(NamedTuple):
    """Accuracy of one probe, between 0 and 1."""

    shots: int
    seed: int
    accuracy: float


class FewShot:
    """The paper's few-shot linear probe of a model's representation.

    The features of every image are computed once; each number of shots and each
    seed is then a small solve.

    Args:
        train: Where the few labelled examples come from.
        test: What is classified; no image of it may be in `train`. Its classes
            must be those of `train`.
        transform: Preprocessing; the paper's squashes to 256 and crops 224.
        shots: Examples a class.
        seeds: Choices of the examples, reported apart.
        l2: Penalty of the ridge; the paper's 2^10 by default.
        batch_size: Images at a time for the features.
        dtype: "float32" or "float64", for the solve.

    Raises:
        ValueError: If the classes differ, a class has fewer examples than shots,
            or an option is out of range.

    Source: Zhai et al., arXiv 2106.04560, Appendix D, and its authors' evaluator.

    Example:

    >>> from keras_vit_scale import ViT
    >>> from keras_vit_scale.data import EvalTransform, digits, hold_out
    >>> from keras_vit_scale.evaluation import FewShot
    >>> test, train = hold_out(digits(), 500)
    >>> probe = FewShot(train, test, EvalTransform(8, resize="none"), shots=[1, 5], seeds=[0])
    >>> [r.shots for r in probe(ViT("mu/2", num_classes=None, image_size=8))]
    [1, 5]
    """

    def __init__(
        self,
        train: Source,
        test: Source,
        transform: EvalTransform,
        *,
        shots: Sequence[int] = (1, 5, 10, 25),
        seeds: Sequence[int] = (0, 1, 2),
        l2: float = 2.0**10,
        batch_size: int = 64,
        dtype: str = "float32",
    ):
        if tuple(train.class_names) != tuple(test.class_names):
            raise ValueError(
                "`train` and `test` must have the same classes. "
                f"Received: {list(train.class_names)[:20]} and {list(test.class_names)[:20]}"
            )
        for source in (train, test):
            check_single(source.labels, "the few-shot probe")
        if not shots or not seeds:
            raise ValueError(
                "A probe needs at least one number of shots and one seed. "
                f"Received: shots={shots}, seeds={seeds}"
            )
        check_positive_integers(**{f"shots[{i}]": s for i, s in enumerate(shots)})
        check_positive(l2=l2)
        check_one_of(("float32", "float64"), dtype=dtype)
        self.shots, self.seeds, self.l2, self.dtype = tuple(shots), tuple(seeds), l2, dtype
        self.transform, self.batch_size = transform, batch_size
        self.classes = len(train.class_names)
        # Examples by seed, (classes, most shots), as indices into `train`.
        chosen = {
            seed: choose_examples(train.labels, self.classes, max(self.shots), seed)
            for seed in self.seeds
        }
        # Only what some seed chose is ever decoded.
        used = np.unique(np.concatenate([c.ravel() for c in chosen.values()]))
        self.examples = {seed: np.searchsorted(used, c) for seed, c in chosen.items()}
        self.train, self.test = Subset(train, used), test

    def __call__(self, model: keras.Model) -> list[FewShotResult]:
        """Accuracies of every number of shots and seed, for a model with or without head."""
        model = representation(model)
        train, test = (
            extract_features(model, source, self.transform, self.batch_size).astype(self.dtype)
            for source in (self.train, self.test)
        )
        return self.probe(train, test)

    def probe(self, train: np.ndarray, test: np.ndarray) -> list[FewShotResult]:
        """The same from features, (N, D) of `self.train` and (M, D) of `self.test`."""
        results = []
        for shots in self.shots:
            for seed in self.seeds:
                few = self.examples[seed][:, :shots].ravel()
                predicted = linear_probe(
                    train[few], self.train.labels[few], test, self.classes, self.l2
                )
                accuracy = float((predicted == self.test.labels).mean())
                results.append(FewShotResult(shots, seed, accuracy))
        return results
