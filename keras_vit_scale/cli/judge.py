"""`evaluate` and `fewshot`: how good a model is, as it stands and as features."""

import dataclasses
import statistics
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from keras_vit_scale.checks import check_fractions
from keras_vit_scale.cli.output import print_json
from keras_vit_scale.cli.progress import ImageBar
from keras_vit_scale.runs import model_file

_MODEL = Annotated[Positional[Path], arg(metavar="MODEL")]
_DATA = Annotated[Positional[str], arg(metavar="DATA")]


def evaluate(
    model: _MODEL,
    data: _DATA,
    /,
    protocol: Literal["own", "real", "imagenet-v2", "objectnet"] = "own",
    labels: str = "",
    batch_size: int = 64,
    json: bool = False,
) -> None:
    """Accuracy, top-5 accuracy and loss of a model on labelled images.

    The images are prepared as the model says; its classes must be theirs.

    A model of ImageNet's 1000 classes, in the order of their WordNet numbers, can also be judged
    on other test sets of these: there is no loss, several labels may be right for an image, and
    images without any are left out.

    For example:

      keras-vit-scale evaluate run/ test_photos/
      keras-vit-scale evaluate run/model.keras test.npz --json
      keras-vit-scale evaluate run/ ILSVRC2012_val/ --protocol real --labels real.json
      keras-vit-scale evaluate run/ imagenetv2-matched-frequency/ --protocol imagenet-v2
      keras-vit-scale evaluate run/ objectnet-1.0/images --protocol objectnet
        --labels objectnet-1.0/mappings

    Args:
        model: A run's folder, or a model.keras that a run wrote.
        data: Images: digits, a folder of class folders, or an .npz file.
        protocol: What tells the labels: own, the data; real, ReaL's real.json; imagenet-v2,
            folders named 0 to 999; objectnet, its folder of mappings.
        labels: The file real.json, or ObjectNet's folder of mappings.
        batch_size: Images at a time.
        json: Print JSON.
    """
    from keras_vit_scale.data import open_source
    from keras_vit_scale.evaluation import evaluate_accepted, load_classifier

    path = model_file(model)
    if protocol == "own":
        _check_labels(protocol, labels, wanted=False)
        classifier = load_classifier(path)
        source = open_source(data, orientation=classifier.orientation)
        judge = classifier.evaluate
    else:
        _check_labels(protocol, labels, wanted=protocol != "imagenet-v2")
        classifier = load_classifier(path)
        source = _open_protocol(protocol, data, labels, classifier)
        judge = partial(evaluate_accepted, classifier)
    with ImageBar("evaluate") as bar:
        bar.begin(len(source))
        metrics = judge(bar.watch(source), batch_size=batch_size)
    if json:
        found = {"model": str(path), "data": data, "protocol": protocol}
        print_json({**found, **metrics})
        return
    left_out = metrics.pop("left_out", 0)
    without = f" ({left_out:,} without a label left out)" if left_out else ""
    print(f"{path} on {metrics.pop('images'):,} images of {data}{without}")
    for name, value in metrics.items():
        print(f"  {name.replace('_', ' ')} {value:.4f}")


def _check_labels(protocol, labels, wanted):
    if wanted and not labels:
        raise ValueError(
            "`labels` must be given: real.json for `--protocol real`, the folder of mappings for "
            f"`--protocol objectnet`. Received: protocol={protocol!r} without"
        )
    if labels and not wanted:
        raise ValueError(
            f"`labels` has no meaning with `--protocol {protocol}`, whose folders tell the labels. "
            f"Received: labels={labels!r}"
        )


def _open_protocol(protocol, data, labels, classifier):
    from keras_vit_scale.evaluation import imagenet_v2, objectnet, real

    classes, orientation = len(classifier.class_names), classifier.orientation
    if protocol == "imagenet-v2":
        return imagenet_v2(data, classes, orientation=orientation)
    opened = {"real": real, "objectnet": objectnet}[protocol]
    return opened(data, labels, classes, orientation=orientation)


def fewshot(
    model: _MODEL,
    data: _DATA,
    /,
    test: str = "",
    test_fraction: float = 0.5,
    shots: tuple[int, ...] = (1, 5, 10, 25),
    seeds: tuple[int, ...] = (0, 1, 2),
    l2: float = 1024.0,
    resize: str = "",
    batch_size: int = 64,
    json: bool = False,
) -> None:
    """Few-shot linear accuracy of a model's features, on images of any classes.

    A ridge regression on the features of the few examples, in closed form; as in the paper.

    For example:

      keras-vit-scale fewshot run/ pets/ --shots 1 5 10
      keras-vit-scale fewshot run/ pets/train --test pets/test --seeds 0 1 2 3 4 --json

    Args:
        model: A run's folder, or a model.keras that a run wrote.
        data: Images to take the examples from: digits, a folder of class folders, or an .npz file.
        test: Images to classify; without it a part of DATA.
        test_fraction: That part of DATA, between 0 and 1.
        shots: Examples a class.
        seeds: Choices of the examples.
        l2: Penalty of the ridge.
        resize: Preprocessing: short, squash (the paper's probe) or none; by default the model's.
        batch_size: Images at a time.
        json: Print JSON.
    """
    from keras_vit_scale.data import hold_out, open_source
    from keras_vit_scale.evaluation import FewShot, load_classifier

    check_fractions(test_fraction=test_fraction)
    path = model_file(model)
    classifier = load_classifier(path)
    source = open_source(data, orientation=classifier.orientation)
    if test:
        examples, tested = source, open_source(test, orientation=classifier.orientation)
    else:
        examples, tested = hold_out(source, round(test_fraction * len(source)))
    transform = classifier.transform
    if resize:
        transform = dataclasses.replace(transform, resize=resize)
    with ImageBar("features") as bar:
        probe = FewShot(
            bar.watch(examples),
            bar.watch(tested),
            transform,
            shots=shots,
            seeds=seeds,
            l2=l2,
            batch_size=batch_size,
        )
        bar.begin(len(probe.train) + len(probe.test))
        results = probe(classifier.model)
    rows = []
    for count in shots:
        accuracies = [r.accuracy for r in results if r.shots == count]
        rows.append(
            {
                "shots": count,
                "mean": statistics.mean(accuracies),
                "least": min(accuracies),
                "most": max(accuracies),
                "accuracies": accuracies,
            }
        )
    if json:
        found = {"model": str(path), "data": data, "test_images": len(tested), "seeds": list(seeds)}
        print_json({**found, "results": rows})
        return
    table = Table(
        title=f"Few-shot accuracy on {len(tested):,} images, {len(seeds)} choices of examples",
        title_justify="left",
    )
    for title in ("shots", "mean", "least", "most"):
        table.add_column(title, justify="right")
    for row in rows:
        shown = (f"{row[name]:.4f}" for name in ("mean", "least", "most"))
        table.add_row(str(row["shots"]), *shown)
    Console().print(table)
