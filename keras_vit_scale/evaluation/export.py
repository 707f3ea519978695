"""A classifier for other runtimes: the exported model, and what it needs to be used beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_vit_scale.data.preprocessing import to_input
from keras_vit_scale.evaluation.classifier import Classifier
from keras_vit_scale.models.export import export_model, float32_blocks, load_exported

#: Of float32, as a share of the largest logit where that is above 1: a few hundred roundings.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportCheck:
    """An exported model beside ours, on the same images.

    Attributes:
        images: How many.
        difference: The largest between two logits.
        largest_logit: Of ours, by its size.
        same_class: The share of images for which both have the same likeliest class.
    """

    images: int
    difference: float
    largest_logit: float
    same_class: float


def export_classifier(
    classifier: Classifier,
    path: str | Path,
    *,
    format: str | None = None,
    int8: bool = False,
    batch_size: int | None = None,
) -> Path:
    """Writes a classifier's model by `export_model`, and a JSON beside it.

    The JSON, `vit.onnx.json` beside `vit.onnx`, holds the shape and the values of the input,
    how EXIF's orientation is taken, the preprocessing as `EvalTransform` has it, the names of the
    classes in the order of the logits, and the activation that makes probabilities of these.

    Arguments and errors are those of `export_model`.

    Returns:
        The path of the JSON.
    """
    path = Path(path)
    export_model(classifier.model, path, format=format, int8=int8, batch_size=batch_size)
    _, height, width, channels = classifier.model.input_shape
    settings = {
        "input": {
            "shape": [batch_size, height, width, channels],
            "dtype": "float32",
            "channels": "RGB",
            "values": "byte * 2 / 255 - 1",
        },
        "orientation": classifier.orientation,
        "transform": asdict(classifier.transform),
        "class_names": list(classifier.class_names),
        "activation": classifier.activation,
        "int8": int8,
    }
    beside = path.with_name(f"{path.name}.json")
    beside.write_text(json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8")
    return beside


def check_export(
    classifier: Classifier,
    path: str | Path,
    images: np.ndarray | None = None,
    *,
    tolerance: float | None = TOLERANCE,
) -> ExportCheck:
    """Runs an exported model beside its classifier's.

    Args:
        classifier: What was exported.
        path: Where to.
        images: uint8 (N, H, W, 3) of the model's size; by default five of noise.
        tolerance: Of the difference, as a share of the largest logit where that is above 1;
            `None` to measure alone, as for int8, which is close to the model but not equal.

    Raises:
        ValueError: If logits differ by more.
        ImportError: If the runtime is missing; it says what to install.
    """
    exported = load_exported(path)
    if images is None:
        shape = (5, *classifier.model.input_shape[1:])
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    inputs = to_input(images)
    ours = np.asarray(float32_blocks(classifier.model).predict_on_batch(inputs), np.float64)
    theirs = np.asarray(exported(inputs), np.float64)
    if theirs.shape != ours.shape:
        raise ValueError(
            f"The exported model must have the classifier's outputs, {ours.shape}. "
            f"Received: {theirs.shape} from {str(path)!r}"
        )
    difference, largest = np.abs(theirs - ours).max(), np.abs(ours).max()
    # So that NaN is refused too.
    if tolerance is not None and not difference <= tolerance * max(1.0, largest):
        raise ValueError(
            f"The exported model must compute what ours does, to {tolerance:g} of its logits. "
            f"Received: a difference of {difference:.3g} for logits up to {largest:.3g} from "
            f"{str(path)!r}"
        )
    same = (theirs.argmax(1) == ours.argmax(1)).mean()
    return ExportCheck(len(images), float(difference), float(largest), float(same))
