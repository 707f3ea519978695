"""A classifier in one `.keras` file: Keras' own, with one more member.

The member `keras_vit_scale.json` holds a format version, the preprocessing, the names of the
classes, the activation, and how EXIF's orientation is taken. `keras.saving.load_model` reads the
file as it would without it.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.atomic import replacing
from keras_vit_scale.data import EvalTransform
from keras_vit_scale.evaluation.classifier import Classifier
from keras_vit_scale.formats import check_format, with_format

MEMBER = "keras_vit_scale.json"
KEYS = {"format", "transform", "class_names", "activation", "orientation"}

#: What a file says of itself since a later format than the first, and what the first meant; and
#: what its preprocessing says since the third.
LATER = {"orientation": "ignore"}
LATER_TRANSFORM = {"filter": "bilinear", "antialias": True}

#: Bytes of the member that are read at most; 29,593 long names take 3 MB.
LARGEST = 2**25


def save_classifier(
    model: keras.Model,
    path: str | Path,
    transform: EvalTransform,
    class_names: Sequence[str],
    *,
    activation: str = "softmax",
    orientation: str = "ignore",
) -> None:
    """Writes a model, its preprocessing and its classes to one `.keras` file.

    The optimizer is left out, so that the file loads on every backend. The file is
    replaced at once: a crash leaves the old or the new.

    Args:
        model: As for `Classifier`.
        path: Where to; must end with `.keras`.
        transform: Preprocessing of an image.
        class_names: Names of the classes, in the order of the logits.
        activation: "softmax" or "sigmoid".
        orientation: "ignore" or "apply", as for `Classifier`.

    Raises:
        ValueError: If the parts do not belong together, as for `Classifier`, or the
            path ends otherwise.

    Example:

    >>> import tempfile
    >>> from keras_vit_scale import ViT
    >>> from keras_vit_scale.data import EvalTransform
    >>> from keras_vit_scale.evaluation import load_classifier, save_classifier
    >>> model = ViT("mu/8", 2, image_size=16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_classifier(model, f"{folder}/pets.keras", EvalTransform(16), ["cat", "dog"])
    ...     load_classifier(f"{folder}/pets.keras").class_names
    ('cat', 'dog')
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"A classifier's file must end with '.keras'. Received: {str(path)!r}")
    classifier = Classifier(model, transform, class_names, activation, orientation)
    values = {
        "transform": asdict(transform),
        "class_names": list(classifier.class_names),
        "activation": activation,
        "orientation": orientation,
    }
    settings = with_format("classifier", values)
    # The same layers as a model that was never compiled: Keras would store the optimizer.
    # Not its lists of one input and output, which the loaded model would then ask for.
    bare = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    with replacing(path, ".keras") as temporary:
        bare.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, json.dumps(settings, indent=1))


def load_classifier(path: str | Path) -> Classifier:
    """The classifier that `save_classifier` wrote.

    Nothing is unpickled, and what the file says is checked before the model is built.

    Raises:
        ValueError: If the file is damaged or missing, is a Keras model without
            preprocessing and classes, is of a later format, or its parts do not
            belong together.
    """
    path = Path(path)
    settings = _read_settings(path)
    try:
        transform = _transform(settings["transform"])
        if not isinstance(settings["class_names"], list):
            raise ValueError(f"`class_names` must be a list. Received: {settings['class_names']!r}")
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        return Classifier(
            model,
            transform,
            settings["class_names"],
            settings["activation"],
            settings["orientation"],
        )
    # Keras raises whatever the damaged part of a file led it to.
    except Exception as error:
        raise ValueError(f"Cannot load the classifier {str(path)!r}: {error}") from error


def _read_settings(path):
    """The checked keys of a file's member, their values unchecked but for the format."""
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise ValueError(
                    f"A classifier's file must hold {MEMBER!r}. Received: {str(path)!r} without "
                    "it; load the model with `keras.saving.load_model` and write it with "
                    "`save_classifier`, which takes the preprocessing and the classes"
                )
            with archive.open(MEMBER) as member:
                text = member.read(LARGEST + 1)
    except (OSError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"Cannot read the classifier {str(path)!r}: {error}") from error
    if len(text) > LARGEST:
        raise ValueError(
            f"{MEMBER!r} must have at most {LARGEST} bytes. Received: more, in {str(path)!r}"
        )
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{MEMBER!r} in {str(path)!r} is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{MEMBER!r} must hold names. Received: {settings!r:.80} in {str(path)!r}")
    check_format("classifier", settings.get("format"), repr(str(path)))
    if settings["format"] == 1:
        settings = LATER | settings
    if set(settings) != KEYS:
        raise ValueError(
            f"{MEMBER!r} must hold {sorted(KEYS)}. "
            f"Received: {sorted(settings)[:20]} in {str(path)!r}"
        )
    if settings["format"] < 3 and isinstance(settings["transform"], dict):
        settings["transform"] = LATER_TRANSFORM | settings["transform"]
    return settings


def _transform(values: Any) -> EvalTransform:
    names = {field.name for field in fields(EvalTransform)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"`transform` must hold {sorted(names)}. Received: {values!r}")
    size, margin = values["image_size"], values["margin"]
    if type(margin) not in (int, float):
        raise ValueError(f"`margin` must be a number. Received: margin={margin!r}")
    # JSON has lists for tuples.
    values = values | {"image_size": tuple(size) if isinstance(size, list) else size}
    return EvalTransform(**values)
