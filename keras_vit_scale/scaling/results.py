"""A study's results as tables."""

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from keras_vit_scale.formats import FormatError, read_json
from keras_vit_scale.scaling.bottleneck import bottlenecks
from keras_vit_scale.scaling.config import StudyError

#: Columns that every study's results have.
LABELS = ("size", "task")
NUMBERS = (
    "seed", "steps", "images_seen", "parameters", "flops", "tpuv3_core_days", "shots", "error",
    "error_sd", "classified",
)  # fmt: skip


def collect_results(out: str | Path) -> pd.DataFrame:
    """Finished results of a study folder: one row a run, duration, task and shots.

    `error` is the mean over the choices of the few examples, `error_sd` its standard
    deviation, `classified` the images over all choices. Sorted by task, shots, size (by compute)
    and steps.
    """
    rows = []
    for path in sorted(Path(out).glob("runs/*/*/*/result.json")):
        try:
            rows += _rows(read_json("study result", path))
        except FormatError as later:
            raise StudyError(str(later)) from later
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise StudyError(
                f"{path} must be a result as a study writes it: {problem!r}; remove its folder, "
                "and the study will run it again."
            ) from problem
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    # The order of tasks is the study's: that in which each result was probed.
    tasks = {task: i for i, task in enumerate(dict.fromkeys(table["task"]))}
    return (
        table.assign(cost=table["flops"] / table["images_seen"], order=table["task"].map(tasks))
        .sort_values(["order", "shots", "cost", "size", "seed", "steps"])
        .drop(columns=["cost", "order"])
        .reset_index(drop=True)
    )


def _rows(result):
    """One row a task and number of shots of one run's result."""
    probes = pd.DataFrame(result.pop("probes"))
    return [
        {
            **result,
            "task": task,
            "shots": int(shots),
            "error": group["error"].mean(),
            "error_sd": group["error"].std(ddof=0),
            "classified": group["test_images"].sum(),
        }
        for (task, shots), group in probes.groupby(["task", "shots"], sort=False)
    ]


def study_results(out: str | Path) -> pd.DataFrame:
    """Results of a study's runs, or of its `results.csv` where the runs are not there."""
    results = collect_results(out)
    path = Path(out) / "results.csv"
    if results.empty and path.exists():
        try:
            results = pd.read_csv(path, dtype=dict.fromkeys(LABELS, str))
        except (ValueError, OSError) as problem:
            raise StudyError(f"Cannot read {path} as CSV: {problem}") from problem
        missing = [c for c in (*LABELS, *NUMBERS) if c not in results]
        words = [c for c in NUMBERS if c in results and not is_numeric_dtype(results[c])]
        if missing or words:
            raise StudyError(
                f"{path} must have the columns of a study's results: {LABELS} and the numbers "
                f"{NUMBERS}. Received: no {missing}, no numbers in {words}"
            )
    return results


def count_half_a_mistake(results: pd.DataFrame) -> pd.DataFrame:
    """Results in which probes without a single mistake count as half a mistake.

    It is the least that they could tell: a law in log error has no place for 0.
    """
    if results.empty:
        return results
    return results.assign(error=results["error"].clip(lower=0.5 / results["classified"]))


def on_all_images(results: pd.DataFrame) -> pd.DataFrame:
    """Results without those of runs on a part of the training images."""
    if "data_size" not in results:
        return results
    return results[results["data_size"].isna() | (results["data_size"] == results["data_whole"])]


def study_points(results: pd.DataFrame, task: str, shots: int) -> pd.DataFrame:
    """One point a size and duration on all images, its error the mean over the seeds.

    The frontier of single runs would take the luckiest seed of each.
    """
    chosen = on_all_images(_of_measure(results, task, shots))
    keys = ["size", "steps", "images_seen", "parameters", "flops", "tpuv3_core_days"]
    return chosen.groupby(keys, sort=False, as_index=False)["error"].mean()


def study_runs(results: pd.DataFrame, task: str, shots: int) -> pd.DataFrame:
    """Every single result on all images of one measure, as a law is fitted to it.

    Its trunk is the run of a size and seed; its index is the line of results.csv.
    """
    chosen = on_all_images(_of_measure(results, task, shots))
    trunk = chosen["size"].astype(str) + " / " + chosen["seed"].astype(str)
    return pd.DataFrame(
        {
            "compute": chosen["flops"].astype(float),
            "error": chosen["error"],
            "trunk": trunk,
            "size": chosen["size"],
        }
    ).set_axis(chosen.index + 2)


def by_data_size(results: pd.DataFrame, task: str, shots: int) -> pd.DataFrame:
    """What holds each size back on each number of training images, as `bottlenecks` tells.

    Errors are means over the seeds. Empty where every run had all images.
    """
    chosen = _of_measure(results, task, shots)
    if "data_size" not in chosen or chosen["data_size"].eq(chosen["data_whole"]).all():
        return pd.DataFrame()
    # Results from before studies had parts do not say that they had all images.
    whole = chosen["data_whole"].max()
    chosen = chosen.assign(data_size=chosen["data_size"].fillna(whole).astype(int))
    keys = ["size", "data_size", "steps", "images_seen", "flops"]
    points = chosen.groupby(keys, sort=False, as_index=False)["error"].mean()
    return bottlenecks(
        points["images_seen"],
        points["error"],
        points["size"],
        points["data_size"],
        cost=points["flops"] / points["images_seen"],
    )


def _of_measure(results, task, shots):
    return count_half_a_mistake(results[(results["task"] == task) & (results["shots"] == shots)])
