"""`export`: a model for other runtimes."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from keras_vit_scale.cli.output import print_json
from keras_vit_scale.runs import model_file


def export(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    out: Path,
    int8: bool = False,
    batch_size: int | None = None,
    check: bool = True,
    json: bool = False,
) -> None:
    """Write a model for another runtime: ONNX, LiteRT or TensorFlow's SavedModel.

    Beside it a JSON with the preprocessing and the names of the classes. The written model is run
    on images of noise, and must give the same logits; with --int8, close ones.

    What each backend can write and which packages it takes: docs/export.md.

    For example:

      keras-vit-scale export run/ --out vit.onnx
      KERAS_BACKEND=tensorflow keras-vit-scale export run/ --out vit.tflite --int8

    Args:
        model: A run's folder, or a model.keras that a run wrote.
        out: What to write: .onnx, .tflite, or a folder for a SavedModel.
        int8: Quantise the dense layers: a quarter of the size.
        batch_size: So many images at once and no others; by default any number.
        check: Run what was written beside the model.
        json: Print JSON.
    """
    from keras_vit_scale.evaluation import load_classifier
    from keras_vit_scale.evaluation.export import TOLERANCE, check_export, export_classifier
    from keras_vit_scale.models.export import RUNTIMES, check_route, has_runtime

    path = model_file(model)
    format = check_route(out, None, int8=int8, batch_size=batch_size)
    classifier = load_classifier(path)
    beside = export_classifier(classifier, out, int8=int8, batch_size=batch_size)
    found = None
    if check and has_runtime(format):
        found = check_export(classifier, out, tolerance=None if int8 else TOLERANCE)
    if json:
        told = {"model": str(path), "file": str(out), "settings": str(beside), "int8": int8}
        checked = None if found is None else dataclasses.asdict(found)
        print_json({**told, "check": checked})
        return
    print(f"Written: {out} and {beside}")
    if found is not None:
        print(
            f"Run beside {path} on {found.images} images of noise: logits up to "
            f"{found.largest_logit:.3g} differ by {found.difference:.2g} at most"
        )
    elif check:
        print(f"Not run beside {path}: {RUNTIMES[format]} cannot be imported here")
