"""The model that a run starts with: a new one, or one with the weights of another."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.models import ViT, architecture
from keras_vit_scale.runs.recipe import head_bias
from keras_vit_scale.sharding import assign_shares, to_host
from keras_vit_scale.weights import from_pretrained, resample_positions

if TYPE_CHECKING:
    from keras_vit_scale.runs.config import TrainConfig

POSITIONS = "position_embedding/embedding"


def build_model(config: "TrainConfig", class_names: Sequence[str]) -> keras.Model:
    """The model at step 0: with random weights, or those of `config.init`.

    Raises:
        ValueError: If the weights to start from do not fit.
    """
    options = {}
    if config.init is not None:
        other, classes = open_start(config.init)
        found = architecture(other)
        options = {name: getattr(found, name) for name in ("positions", "gelu", "epsilon")}
    model = ViT(
        config.shape(),
        len(class_names),
        image_size=config.image_size,
        pooling=config.pooling,
        head_bias=head_bias(config.loss, len(class_names)),
        dropout=config.dropout,
        stochastic_depth=config.stochastic_depth,
        remat=config.remat,
        dtype=config.precision,
        name="vit",
        **options,
    )
    if config.init is not None:
        same = not config.new_head and classes == tuple(class_names)
        start_from(model, other, keep_head=same)
    return model


def start_from(model: keras.Model, other: keras.Model, keep_head: bool) -> None:
    """Gives a `ViT` the weights of another of the same shape, in place.

    Args:
        model: Whose weights are set.
        other: Where they come from. Of another image size, its learned position
            embeddings are resampled.
        keep_head: Whether the head's weights come too; else they stay new.

    Raises:
        ValueError: If a weight is missing on either side or does not fit, naming all
            such; nothing is changed then.
    """
    ours = {w.path: w for w in model.weights if keep_head or not w.path.startswith("head/")}
    theirs = {w.path: w for w in other.weights if w.path in ours or not w.path.startswith("head/")}
    values = {path: to_host(w.value) for path, w in theirs.items()}
    if POSITIONS in values and POSITIONS in ours:
        old, new = architecture(other).grid, architecture(model).grid
        if old != new:
            values[POSITIONS] = resample_positions(values[POSITIONS], old, new)
    problems = [f"{path} is missing" for path in ours if path not in values]
    problems += [f"{path} is unknown" for path in values if path not in ours]
    problems += [
        f"{path} is {values[path].shape}, not {tuple(ours[path].shape)}"
        for path in ours.keys() & values.keys()
        if values[path].shape != tuple(ours[path].shape)
    ]
    if problems:
        raise ValueError(
            "The model to start from must have the shape and pooling of the new one. "
            f"Received one of which {'; '.join(sorted(problems))}"
        )
    for path, weight in ours.items():
        assign_shares(weight, values[path].__getitem__)


def open_start(source: str | Path) -> tuple[keras.Model, tuple[str, ...]]:
    """A model to start from, and the names of its classes, of which weights alone have none.

    Args:
        source: A run's folder, a .keras file that a run or `save_classifier` wrote, or
            another project's weights as for `from_pretrained`.

    Raises:
        ValueError: If there is no model, or it cannot be read.
    """
    if is_weights(source):
        return from_pretrained(source, num_classes=None), ()
    classifier = load_classifier(model_file(source))
    return classifier.model, classifier.class_names


def is_weights(source: str | Path) -> bool:
    """Whether a source can only be another project's weights: an address, a file, a folder of them.

    A folder with a run's config.yaml or model.keras is none.

    Example:

    >>> from keras_vit_scale.runs.start import is_weights
    >>> is_weights("hf://owner/name"), is_weights("my-run")
    (True, False)
    """
    if "://" in str(source):
        return True
    path = Path(source)
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        return bool(names) and not names & {"config.yaml", "model.keras"}
    return path.is_file() and path.suffix != ".keras"


def model_file(path: str | Path) -> Path:
    """The .keras file that a path means: itself, or that of a run's folder.

    Raises:
        ValueError: If there is none; of an unfinished run it says so.
    """
    path = Path(path)
    if path.is_dir():
        found = path / "model.keras"
        if not found.is_file():
            unfinished = (path / "config.yaml").is_file()
            raise ValueError(
                "A run's folder must hold a model.keras, which the end of the run writes. "
                f"Received: {str(path)!r}, "
                + ("a run that has not ended" if unfinished else "which holds no run")
            )
        return found
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(
            f"A model must be a run's folder or an existing .keras file. Received: {str(path)!r}"
        )
    return path
