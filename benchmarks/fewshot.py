"""The few-shot probe beside scikit-learn's ridge, on features of ViT-G/14's size.

    KERAS_BACKEND=jax python benchmarks/fewshot.py

Measured: the seconds from features to predicted classes, 10 shots of 1,000 classes, 1,664
features, 10,000 images to classify, in float32: `keras_vit_scale.evaluation.linear_probe` against
scikit-learn's `RidgeClassifier`, which is given the same standardised features with the same
constant feature, and whose time includes making them (NumPy, as a user would). They take turns in
one process, on the same data. The two must predict the same class for all but one in a thousand of
the test images, else the benchmark fails: rounding decides only what is nearly a tie.

About half a minute on two CPU cores.
"""

import argparse
import datetime
import shlex
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from devices import cpu_name
from sklearn.linear_model import RidgeClassifier

from keras_vit_scale.evaluation import linear_probe

#: The paper's penalty, and the standardisation of Appendix D.
L2, EPSILON, BIAS_FEATURE = 2.0**10, 1e-5, 100.0


def features(classes, shots, width, tests, seed=0):
    """Features (N, D) and labels of examples and tests: noise about the centres of classes."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, width), dtype="float32")

    def around(labels):
        noise = rng.standard_normal((len(labels), width), dtype="float32")
        return (3 + centres[labels] + 5 * noise).astype("float32")

    labels = np.repeat(np.arange(classes), shots)
    test_labels = rng.integers(0, classes, tests)
    return around(labels), labels, around(test_labels), test_labels


def scikit_learn(train, labels, test):
    mean, deviation = train.mean(0), train.std(0) + EPSILON

    def standardised(x):
        x = (x - mean) / deviation
        return np.concatenate([x, np.full((len(x), 1), BIAS_FEATURE, x.dtype)], axis=1)

    # The constant feature is the intercept, penalised as the paper's is.
    classifier = RidgeClassifier(alpha=L2, fit_intercept=False)
    return classifier.fit(standardised(train), labels).predict(standardised(test))


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--classes", type=int, default=1000)
    add("--shots", type=int, default=10, help="examples of a class")
    add("--features", type=int, default=1664, help="width of the representation")
    add("--tests", type=int, default=10_000, help="images to classify")
    add("--rounds", type=int, default=5, help="times that each is timed, in turn")
    add("--out", type=Path, help="also write what is printed, as Markdown")
    arguments = parser.parse_args()

    train, labels, test, test_labels = features(
        arguments.classes, arguments.shots, arguments.features, arguments.tests
    )
    seconds = {"linear_probe": [], "RidgeClassifier": []}
    for turn in range(arguments.rounds + 1):
        ours, predicted = timed(
            lambda: linear_probe(train, labels, test, arguments.classes, L2)
        )  # fmt: skip
        theirs, expected = timed(lambda: scikit_learn(train, labels, test))
        if turn:  # the first warms the caches
            seconds["linear_probe"].append(ours)
            seconds["RidgeClassifier"].append(theirs)
    agreement = (predicted == expected).mean()
    if agreement < 0.999:
        raise SystemExit(f"The two predict the same class for {agreement:.2%} of the images only.")

    ratios = [
        theirs / ours
        for ours, theirs in zip(seconds["linear_probe"], seconds["RidgeClassifier"], strict=True)
    ]
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("numpy", "scipy", "scikit-learn"))
    lines = [
        "# Few-shot probe and scikit-learn",
        "",
        f"{cpu_name()}, {datetime.date.today()}; {versions}. {len(train):,} examples x "
        f"{arguments.features:,} features x {arguments.classes:,} classes, {len(test):,} tests, "
        f"{arguments.rounds} rounds.",
        "",
        f"    {shlex.join(['python', 'benchmarks/fewshot.py', *sys.argv[1:]])}",
        "",
        "| | seconds, median | least | most |",
        "|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(s):.2f} | {min(s):.2f} | {max(s):.2f} |"
            for name, s in seconds.items()
        ),
        "",
        f"RidgeClassifier / linear_probe, round by round: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}). The same class for {agreement:.2%} of the "
        f"tests; accuracy {(predicted == test_labels).mean():.3f}.",
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
