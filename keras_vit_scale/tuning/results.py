"""Finished and failed trials of a search, as a table and a picture."""

import json
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd

from keras_vit_scale.formats import read_json
from keras_vit_scale.tuning.trial import RESULT

#: Trials below which nothing is said of importance.
FEWEST = 8


def search_results(folder: str | Path) -> pd.DataFrame:
    """A row for each trial of a search, also of one that is still running.

    Args:
        folder: The search's folder, `directory/project_name`.

    Returns:
        "trial", "status" (KerasTuner's: COMPLETED, FAILED, RUNNING), "score"; the metrics;
        the hyperparameters; "size", "steps", "parameters" and "flops" of the run; and "error",
        the last line of why a trial failed. In the order of the trials.

    Raises:
        ValueError: If the folder holds no trial.
    """
    paths = sorted(Path(folder).glob("trial_*/trial.json"))
    if not paths:
        raise ValueError(
            "A search's folder must hold trials; it is `directory/project_name` of the tuner. "
            f"Received: {str(folder)!r}"
        )
    return pd.DataFrame([_row(path) for path in paths])


def _row(path: Path) -> dict[str, Any]:
    trial = json.loads(path.read_text(encoding="utf-8"))
    row = {"trial": trial["trial_id"], "status": trial["status"], "score": trial["score"]}
    result, failure = path.parent / RESULT, path.parent / "failure.json"
    about: dict[str, Any] = {}
    if result.is_file():
        found = read_json("trial", result)
        row |= found["metrics"]
        about = {name: found[name] for name in ("size", "steps", "parameters", "flops")}
    values = trial["hyperparameters"]["values"]
    row |= {name: value for name, value in values.items() if name not in row} | about
    message = trial["message"]
    if failure.is_file():
        # A worker's trial comes to its chief without a message.
        message = json.loads(failure.read_text(encoding="utf-8"))["error"]
    lines = [line for line in (message or "").splitlines() if line.strip()]
    return {**row, "error": lines[-1].strip() if lines else None}


def searched(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The hyperparameters of a search by name, each with its kind and its range."""
    state = json.loads((Path(folder) / "oracle.json").read_text(encoding="utf-8"))
    return {
        entry["config"]["name"]: {"kind": entry["class_name"], **entry["config"]}
        for entry in state["hyperparameters"]["space"]
    }


def importance(table: pd.DataFrame, names: list[str], seed: int = 0) -> pd.Series:
    """How much of what is known of the score each hyperparameter carries.

    A random forest is fitted to the completed trials; importance is how much worse it explains
    their scores when the values of one hyperparameter are shuffled, as parts of the sum. It
    speaks of the ranges that were searched, and with few trials roughly.

    Args:
        table: As `search_results` gives it.
        names: Hyperparameters, columns of the table.
        seed: Of the forest and of the shuffling.

    Returns:
        Parts by name, the largest first; zeros where no score differs.

    Raises:
        ValueError: If fewer than 8 trials are completed.

    Example:

    >>> import numpy as np, pandas as pd
    >>> from keras_vit_scale.tuning import importance
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"peak": rng.uniform(size=40), "decay": rng.uniform(size=40)})
    >>> table["score"], table["status"] = table["peak"] ** 2, "COMPLETED"
    >>> importance(table, ["peak", "decay"]).round(1).to_dict()
    {'peak': 1.0, 'decay': 0.0}
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    done = completed(table)
    if len(done) < FEWEST:
        raise ValueError(
            f"Importance needs at least {FEWEST} completed trials. Received: {len(done)}"
        )
    x = np.stack([positions(done[name])[0] for name in names], axis=1)
    y = done["score"].to_numpy(float)
    forest = RandomForestRegressor(n_estimators=200, min_samples_leaf=2, random_state=seed)
    found = permutation_importance(forest.fit(x, y), x, y, n_repeats=20, random_state=seed)
    parts = np.maximum(found.importances_mean, 0)
    total = parts.sum()
    return pd.Series(parts / total if total else parts, names).sort_values(ascending=False)


def completed(table: pd.DataFrame) -> pd.DataFrame:
    """The trials of a table that came to a score."""
    return table[(table["status"] == "COMPLETED") & table["score"].notna()]


def positions(values: pd.Series) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where values stand on an axis from 0 to 1, and what is written at which places.

    Numbers of which ratios count (all positive, over a decade or more) stand by their logarithm;
    texts, truths and few numbers evenly, in their order.

    Example:

    >>> import pandas as pd
    >>> from keras_vit_scale.tuning.results import positions
    >>> positions(pd.Series(["gap", "map", "gap"]))
    (array([0., 1., 0.]), [(0.0, 'gap'), (1.0, 'map')])
    """
    choices = sorted(values.unique())
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not numeric or len(choices) <= 5:
        at = {choice: i / max(len(choices) - 1, 1) for i, choice in enumerate(choices)}
        places = [(place, _written(choice)) for choice, place in at.items()]
        return values.map(at).to_numpy(float), places
    x = values.to_numpy(float)
    form: Any = np.asarray
    if x.min() > 0 and x.max() > 10 * x.min():
        form = np.log
    low, high = form(x.min()), form(x.max())
    places = []
    for part in (0.0, 0.5, 1.0):
        value = low + part * (high - low)
        places.append((part, _written(np.exp(value) if form is np.log else value)))
    return (form(x) - low) / (high - low), places


def _written(value):
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def draw_search(folder: str | Path) -> matplotlib.figure.Figure:
    """A picture of a search: parallel coordinates of its trials, and what was important.

    Each completed trial is a line through its hyperparameters to its score, the better the
    darker, the best one drawn thick.

    Args:
        folder: The search's folder.

    Raises:
        ValueError: If no trial is completed.
    """
    table = search_results(folder)
    done = completed(table)
    if done.empty:
        raise ValueError(
            f"A picture needs completed trials. Received: {folder}, whose {len(table)} trials "
            "have none"
        )
    # With Hyperband's lengths, on which its scores depend too.
    asked = [*searched(folder), "tuner/epochs"]
    names = [name for name in asked if name in done and done[name].notna().all()]
    objective, direction = read_json("search", Path(folder) / "search.json")["objective"]
    scores = done["score"].to_numpy(float)
    order = np.argsort(scores if direction == "max" else -scores)
    rank = np.empty(len(order))
    rank[order] = np.linspace(0, 1, len(order))

    figure = matplotlib.figure.Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    axes = [*names, objective]
    columns = [positions(done[name]) for name in names] + [positions(done["score"])]
    lines = np.stack([places for places, _ in columns], axis=1)
    colours = matplotlib.colormaps["viridis_r"](rank)
    for i in order:
        best = i == order[-1]
        left.plot(
            range(len(axes)),
            lines[i],
            color=colours[i],
            linewidth=3 if best else 1,
            alpha=1 if best else 0.7,
        )
    for column, (_, places) in enumerate(columns):
        left.axvline(column, color="grey", linewidth=0.6, zorder=0)
        for place, text in places:
            left.annotate(
                text, (column, place), fontsize=7, xytext=(3, 0), textcoords="offset points",
                bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}, va="center",
            )  # fmt: skip
    left.set_xticks(range(len(axes)), axes, fontsize=8)
    left.set_yticks([])
    left.set_title(f"{len(done)} of {len(table)} trials completed; thick: the best", fontsize=9)
    for side in ("left", "right", "top"):
        left.spines[side].set_visible(False)
    if len(done) < FEWEST:
        right.set_axis_off()
        right.set_title(f"importance: after {FEWEST} trials", fontsize=9)
    else:
        parts = importance(table, names)[::-1]
        right.barh(parts.index, parts)
        right.set_title("importance, part of the sum", fontsize=9)
        right.tick_params(labelsize=8)
    return figure
