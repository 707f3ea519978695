"""`predict` and `embed`: what a model makes of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from keras_vit_scale.cli.output import print_json
from keras_vit_scale.cli.progress import ImageBar
from keras_vit_scale.runs import model_file

_MODEL = Annotated[Positional[Path], arg(metavar="MODEL")]


def predict(
    model: _MODEL,
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILES")],
    /,
    top: int = 3,
    batch_size: int = 64,
    json: bool = False,
) -> None:
    """The likeliest classes of image files, with their probabilities.

    For example:

      keras-vit-scale predict run/ cat.jpg
      keras-vit-scale predict run/ photos/*.jpg --top 1 --json

    Args:
        model: A run's folder, or a model.keras that a run wrote.
        files: Image files of any size.
        top: How many classes to print for each.
        batch_size: Images at a time.
        json: Print JSON.
    """
    from keras_vit_scale.checks import check_positive_integers
    from keras_vit_scale.evaluation import load_classifier
    from keras_vit_scale.evaluation.classifier import ImageList

    check_positive_integers(top=top, batch_size=batch_size)
    path = model_file(model)
    classifier = load_classifier(path)
    source = ImageList(files, classifier.orientation)
    with ImageBar("predict") as bar:
        bar.begin(len(source))
        probabilities = classifier.predict(bar.watch(source), batch_size)
    rows: list[dict[str, Any]] = []
    for file, chances in zip(files, probabilities, strict=True):
        likeliest = np.argsort(-chances, kind="stable")[:top]
        classes = [
            {"class": classifier.class_names[i], "probability": float(chances[i])}
            for i in likeliest
        ]
        rows.append({"file": str(file), "classes": classes})
    if json:
        print_json(rows)
        return
    table = Table()
    table.add_column("file")
    table.add_column("class")
    table.add_column("probability", justify="right")
    for row in rows:
        for place, found in enumerate(row["classes"]):
            name = "" if place else row["file"]
            table.add_row(name, found["class"], f"{found['probability']:.4f}")
    Console().print(table)


def embed(
    model: _MODEL,
    data: Annotated[Positional[tuple[str, ...]], arg(metavar="DATA|FILES")],
    /,
    out: Path = Path("features.npz"),
    batch_size: int = 64,
    json: bool = False,
) -> None:
    """Write a model's features of images to a file: one vector an image, before its head.

    An .npz file holds `features` (N, D), and for labelled data `labels` and `class_names`,
    for files `files`; a .parquet file the same as the columns features, label, class, file.

    For example:

      keras-vit-scale embed run/ photos/ --out features.npz
      keras-vit-scale embed run/ a.jpg b.jpg --out features.parquet

    Args:
        model: A run's folder, or a model.keras that a run wrote.
        data: A data set (digits, a folder of class folders, an .npz file), or image files.
        out: The file to write: .npz or .parquet.
        batch_size: Images at a time.
        json: Print JSON.
    """
    from keras_vit_scale.checks import check_positive_integers
    from keras_vit_scale.data import open_source
    from keras_vit_scale.data.folder import IMAGE_SUFFIXES
    from keras_vit_scale.evaluation import load_classifier
    from keras_vit_scale.evaluation.classifier import ImageList

    check_positive_integers(batch_size=batch_size)
    path = model_file(model)
    write = check_output(out)
    labelled = len(data) == 1 and Path(data[0]).suffix.lower() not in IMAGE_SUFFIXES
    classifier = load_classifier(path)
    orientation = classifier.orientation
    source = (
        open_source(data[0], orientation=orientation) if labelled else ImageList(data, orientation)
    )
    with ImageBar("embed") as bar:
        bar.begin(len(source))
        columns = {"features": classifier.embed(bar.watch(source), batch_size)}
    if labelled:
        columns |= {"labels": source.labels, "class_names": np.array(source.class_names)}
    files = getattr(source, "files", None) if labelled else data
    if files is not None:
        columns["files"] = np.array([str(file) for file in files])
    write(out, columns)
    count, width = columns["features"].shape
    if json:
        print_json({"file": str(out), "images": count, "features": width})
        return
    print(f"Written: {out}, {count:,} images of {width:,} features")


def check_output(out: Path) -> Callable[[Path, dict[str, np.ndarray]], None]:
    """The function that writes features to such a file, before they are computed.

    Raises:
        ValueError: If its name ends in no known way or its folder does not exist.
        ImportError: If Parquet's library is not installed.
    """
    if out.suffix not in (".npz", ".parquet"):
        raise ValueError(f"`out` must end in .npz or .parquet. Received: {str(out)!r}")
    if not out.parent.is_dir():
        raise ValueError(f"The folder of `out` must exist. Received: {str(out)!r}")
    if out.suffix == ".npz":
        return _write_npz
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ImportError(
            "Parquet files need pyarrow: run `pip install pyarrow`, or write an .npz file. "
            f"Received: {str(out)!r}"
        ) from None
    return _write_parquet


def _write_npz(out, columns):
    np.savez(out, **columns)


def _write_parquet(out, columns):
    import pandas as pd

    table = {"features": list(columns["features"])}
    if "labels" in columns:
        table["label"] = columns["labels"]
        table["class"] = columns["class_names"][columns["labels"]]
    if "files" in columns:
        table["file"] = columns["files"]
    pd.DataFrame(table).to_parquet(out, engine="pyarrow", index=False)
