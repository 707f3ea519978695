"""Fine-tuning in one folder: rates judged on held-out images, then a run at the best of them.

    out/
      rates/0.03/, rates/0.01/    a run for each rate, where there are several
      rates.csv                   what each reached on the held-out images
      config.yaml, ...            the run at the best rate on all images: see `run.py`
      test.json                   its metrics on the test images

Each of these runs goes on where it was stopped; so does the whole.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_vit_scale.atomic import write_text
from keras_vit_scale.data import Source
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.formats import read_json, write_json
from keras_vit_scale.models import architecture
from keras_vit_scale.runs.config import FREE, TrainConfig
from keras_vit_scale.runs.fine_tune import FineTune
from keras_vit_scale.runs.images import open_data, open_named
from keras_vit_scale.runs.run import RunDivergedError, RunError, check_folder, train
from keras_vit_scale.runs.start import open_start
from keras_vit_scale.training.progress import Progress
from keras_vit_scale.training.stopping import Stopping

METRICS = ("accuracy", "top_5_accuracy", "loss")


def fine_tune(
    recipe: FineTune,
    model: str | Path,
    data: str,
    out: str | Path,
    *,
    test: str | None = None,
    check: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    stopping: Stopping | None = None,
) -> dict[str, Any]:
    """Fine-tunes a model on labelled images in the folder `out`, from wherever that stands.

    If the recipe has several rates, a model is trained at each on all but the held-out
    images, and the best of them (by accuracy, then loss) is taken for the run in `out`
    itself, on all images. A rate at which the loss is no longer finite is the worst.

    Args:
        recipe: The setting.
        model: What to start from: a run's folder, or a .keras file.
        data: Training images, as `open_source` names them.
        out: Folder, made if need be. What it holds of the same fine-tuning is kept.
        test: Images for the final model's metrics, of the same classes.
        check: Only judge the rates, even a single one, on the held-out images: no run
            on all of them, no test.
        on_progress, stopping: As in `train`.

    Returns:
        `rates`, a row for each that was judged: `rate`, and `accuracy`, `top_5_accuracy`
        and `loss` on the held-out images; `rate`, the best; `folder`, of the run whose
        model that is; `run`, its results; and `test`, metrics on the test images or `None`.

    Raises:
        RunError: If a folder holds another run or a damaged one, or all rates diverge.
        ValueError: If model, data and recipe do not go together; nothing is written then.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_vit_scale import FineTune, ViT
    >>> from keras_vit_scale.data import EvalTransform
    >>> from keras_vit_scale.evaluation import save_classifier
    >>> from keras_vit_scale.runs import fine_tune
    >>> recipe = FineTune(steps=2, warmup=1, batch_size=16, image_size=8, rates=(0.01,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     start, out = Path(folder, "cats.keras"), Path(folder, "tuned")
    ...     model = ViT("mu/4", 2, image_size=4)
    ...     save_classifier(model, start, EvalTransform(4), ["cat", "dog"])
    ...     found = fine_tune(recipe, start, "digits", out, test="digits")
    ...     (out / "model.keras").exists()
    True
    >>> found["rate"], found["run"]["images_seen"], found["test"]["images"]
    (0.01, 32, 1797)
    """
    out = Path(out)
    start = architecture(open_start(model)[0])

    def run(rate, held_out):
        return recipe.run(str(model), start, data, rate, held_out)

    rates = recipe.peak_rates()
    judged = rates if check or len(rates) > 1 else ()
    candidates = {rate: (run(rate, True), out / "rates" / f"{rate:g}") for rate in judged}
    for config, folder in candidates.values():
        check_folder(config, folder)
    # Which rate it will have is not known yet.
    check_folder(run(rates[0], False), out, free=(*FREE, "peak"))
    classes = check_data(run(rates[0], True))
    tested = None if test is None or check else open_test(test, classes, recipe)

    rows = []
    for rate, (config, folder) in candidates.items():
        rows.append(_judge(config, folder, _labelled(on_progress, f"rate {rate:g}"), stopping))
        write_text(out / "rates.csv", csv_text(rows))
    rate = best_rate(rows) if rows else rates[0]
    found = {"rates": rows, "rate": rate, "test": None}
    if check:
        config, folder = candidates[rate]
        return {**found, "folder": str(folder), "run": train(config, folder)}
    told = _labelled(on_progress, f"final run at {rate:g}")
    results = train(run(rate, False), out, told, stopping=stopping)
    if tested is not None:
        found["test"] = _test(out, test, tested)
    return {**found, "folder": str(out), "run": results}


def check_data(config: TrainConfig) -> tuple[str, ...]:
    """The classes of a run's data, once its parts and durations are known to be possible.

    Raises:
        ValueError: If they are not.
    """
    source, _ = open_data(config)
    config.plan(len(source))
    return source.class_names


def open_test(name: str, classes: tuple[str, ...], recipe: FineTune) -> Source:
    """Test images, read as the training images are.

    Raises:
        ValueError: If they cannot be read, or have other classes than the training images.
    """
    source = open_named(name, recipe)
    if source.class_names != classes:
        raise ValueError(
            "Test images must have the classes of the training images, in their order. "
            f"Received: {list(source.class_names)[:20]} in {name!r}; the training images have "
            f"{list(classes)[:20]}"
        )
    return source


def best_rate(rows: list[dict[str, Any]]) -> float:
    """The rate of the highest accuracy, among equals of the lowest loss.

    Raises:
        RunError: If training diverged at every rate.

    Example:

    >>> from keras_vit_scale.runs.fine_tune_run import best_rate
    >>> best_rate(
    ...     [
    ...         {"rate": 0.03, "accuracy": None, "loss": None},  # diverged
    ...         {"rate": 0.01, "accuracy": 0.75, "loss": 0.6},
    ...         {"rate": 0.003, "accuracy": 0.75, "loss": 0.5},
    ...     ]
    ... )
    0.003
    """
    finite = [row for row in rows if row["accuracy"] is not None]
    if not finite:
        rates = [row["rate"] for row in rows]
        raise RunError(f"Training diverged at every rate: give lower `rates`. Received: {rates}")
    return max(finite, key=lambda row: (row["accuracy"], -row["loss"]))["rate"]


def _judge(config, folder, on_progress, stopping):
    """What the run at one rate reaches on its held-out images."""
    try:
        metrics = train(config, folder, on_progress, stopping=stopping)["validation"]
    except RunDivergedError:
        metrics = {}
    return {"rate": config.peak, **{name: metrics.get(name) for name in METRICS}}


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows of the same names as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _test(out, name, source):
    """Metrics of the model in `out` on test images, from the file if they are there."""
    path = out / "test.json"
    if path.is_file():
        found = read_json("test", path)
        if found["data"] == name:
            return found
    found = {"data": name, **load_classifier(out / "model.keras").evaluate(source)}
    write_json("test", path, found)
    return found


def _labelled(on_progress, label):
    """`on_progress`, told which of several runs it is."""
    if on_progress is None:
        return None
    return lambda p: on_progress(replace(p, doing=f"{label}, {p.doing}"))
