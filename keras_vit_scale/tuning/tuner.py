"""KerasTuner's search over runs: a trial is a run in a folder, in a process of its own."""

import contextlib
import copy
import json
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_vit_scale.atomic import write_text
from keras_vit_scale.evaluation import load_classifier
from keras_vit_scale.formats import read_json, write_json
from keras_vit_scale.ownership import OwnedError, locking
from keras_vit_scale.runs.config import FREE
from keras_vit_scale.tuning.child import LeftError, run_in_process
from keras_vit_scale.tuning.hypermodels import RunHyperModel
from keras_vit_scale.tuning.library import Tuner, keras_tuner
from keras_vit_scale.tuning.resuming import take_up, write_at_once
from keras_vit_scale.tuning.trial import Job, Rung, check_trunk, metrics, run_job


class SearchError(Exception):
    """A search that cannot be done as it is described or with the folder it has."""


class RunTuner(Tuner):
    """A search whose trials are runs, each in a folder of its own beside KerasTuner's files.

    Random search, Bayesian optimization, grid search and Hyperband are KerasTuner's: its oracles
    choose what a trial is. What this class does is train it:

    - in a process of its own, so that its memory, the accelerator's too, is returned and a trial
      that runs out of memory ends no search: it is recorded as failed, with `failure.json`;
    - as a run that saves itself: a search that was interrupted goes on when it is made and called
      again, a trial on its way from its last checkpoint;
    - and for Hyperband as a trunk: a short rung is the cooldown of a trial's trunk, and a longer
      one trains that trunk on from before its cooldown. `max_epochs` are epochs of the data.

    KerasTuner's environment variables make it a chief or a worker of a search by several
    processes (see the guide). Failures in a row end a search, three of them unless the oracle's
    `max_consecutive_failed_trials` says otherwise.

    Args:
        oracle: One of `keras_tuner.oracles`, with `hypermodel.objective` or another objective
            among "val_loss", "val_accuracy" and "fewshot_accuracy".
        hypermodel: The search space.
        directory, project_name: The search's folder is `directory/project_name`.
        processes: Whether each trial has a process of its own.
        overwrite: Whether to delete a search that the folder holds.

    Raises:
        ImportError: If KerasTuner is not installed.
        SearchError: If the folder holds another search.
        ValueError: If the hypermodel is no space of runs, or its run cannot be trained.

    Example:

    >>> import contextlib, io, tempfile
    >>> import keras_tuner
    >>> from keras_vit_scale.runs import TrainConfig
    >>> from keras_vit_scale.tuning import RecipeHyperModel, RunTuner, search_results
    >>> run = TrainConfig("mu/4", "digits", steps=2, image_size=8, validation=500, crop="none")
    >>> space = RecipeHyperModel(run, peak=(1e-3, 1e-1))
    >>> folder = tempfile.mkdtemp()
    >>> with contextlib.redirect_stdout(io.StringIO()):
    ...     tuner = RunTuner(
    ...         keras_tuner.oracles.RandomSearchOracle(space.objective, max_trials=2, seed=1),
    ...         space, directory=folder, project_name="peaks", processes=False,
    ...     )
    ...     tuner.search()
    >>> search_results(f"{folder}/peaks")["status"].tolist()
    ['COMPLETED', 'COMPLETED']
    """

    def __init__(
        self,
        oracle: Any,
        hypermodel: RunHyperModel,
        *,
        directory: str | Path = ".",
        project_name: str = "search",
        processes: bool = True,
        overwrite: bool = False,
    ):
        keras_tuner()  # which says how to install it
        if not isinstance(hypermodel, RunHyperModel):
            raise ValueError(
                "`hypermodel` must be a space of runs, such as RecipeHyperModel; other models "
                f"are for KerasTuner's own tuners. Received: hypermodel={hypermodel!r}"
            )
        self.processes = processes
        if not overwrite:
            check_search(Path(directory) / project_name, _description(oracle, hypermodel))
        write_at_once(oracle)
        super().__init__(
            oracle,
            hypermodel,
            directory=str(directory),
            project_name=project_name,
            # A worker would delete what its chief has begun.
            overwrite=overwrite and not self._is_worker(),
        )
        if not self._is_worker():
            take_up(oracle)

    def _populate_initial_space(self):
        """Tells the oracle of the space, without building models in this process."""
        hp = self.oracle.get_space()
        config = self.hypermodel.config(hp)
        self.oracle.update_space(hp)
        config.plan(len(self.hypermodel.data[0]))
        if hasattr(self.oracle, "hyperband_iterations"):
            check_trunk(config)

    def search(
        self, *, callbacks: Sequence[keras.callbacks.Callback] = (), verbose: int = 1
    ) -> None:
        """Searches until the oracle has no more trials; what was begun before goes on.

        Args:
            callbacks: For every trial, copied. A log's folder, `log_dir` of Keras' TensorBoard
                or `directory` of `TensorBoardLog`, gets one for each trial.
            verbose: 0 prints nothing.

        Raises:
            SearchError: If another process searches in this folder, or too many trials in a row
                failed.
            keras_tuner.errors.FatalError: If a trial's process was asked to leave.
        """
        folder = Path(self.project_dir)
        path = folder / "search.json"
        with contextlib.ExitStack() as stack:
            try:
                # Of a chief and its workers, each has its own name.
                stack.enter_context(locking(folder / f".{self.tuner_id}"))
            except OwnedError as error:
                raise SearchError(
                    f"{error} Several processes search together as KerasTuner's chief and "
                    "workers, each with a KERASTUNER_TUNER_ID of its own."
                ) from None
            if not self._is_worker():
                write_json("search", path, _description(self.oracle, self.hypermodel))
                # Also of a search that is killed in its first trial.
                self.save()
            try:
                super().search(callbacks=list(callbacks), verbose=verbose)
            except RuntimeError as error:
                if "consecutive failures" not in str(error):
                    raise
                last = str(error).strip().splitlines()[-1]
                raise SearchError(
                    f"{self.oracle.max_consecutive_failed_trials} trials in a row failed, the last "
                    f"by: {last} Mend that, and the same search goes on; or raise the oracle's "
                    "`max_consecutive_failed_trials`. Each reason is in a failure.json in "
                    f"{folder}"
                ) from None

    def run_trial(
        self, trial: Any, *, callbacks: Sequence[keras.callbacks.Callback] = (), verbose: int = 1
    ) -> dict[str, float]:
        """Trains and judges a trial; KerasTuner calls it.

        Raises:
            keras_tuner.errors.FailedTrialError: If it failed, with the reason, which is written
                to `failure.json` in the trial's folder too.
        """
        folder = Path(self.get_trial_dir(trial.trial_id))
        values = trial.hyperparameters.values
        try:
            rung = None
            if "tuner/epochs" in values:
                before = values.get("tuner/trial_id")
                rung = Rung(None if before is None else self.get_trial_dir(before))
            job = Job(
                self.hypermodel.config(trial.hyperparameters),
                str(folder),
                self.hypermodel.probe,
                rung,
                callbacks_of_trial(callbacks, trial.trial_id),
            )
            (run_in_process if self.processes else run_job)(job)
        except LeftError as error:
            raise keras_tuner().errors.FatalError(str(error)) from None
        except Exception as error:
            # The log of a process has its own traceback already.
            told = str(error) if self.processes else traceback.format_exc()
            write_text(folder / "failure.json", json.dumps({"error": told.strip()}))
            raise keras_tuner().errors.FailedTrialError(told) from None
        (folder / "failure.json").unlink(missing_ok=True)
        # Of others KerasTuner would look for a direction, and make a metric of Keras on the device.
        objective = self.oracle.objective
        wanted = {each.name for each in getattr(objective, "objectives", [objective])}
        return {name: value for name, value in metrics(folder).items() if name in wanted}

    def load_model(self, trial: Any) -> keras.Model:
        """The trained model of a trial."""
        return load_classifier(Path(self.get_trial_dir(trial.trial_id)) / "run/model.keras").model


def callbacks_of_trial(
    callbacks: Sequence[keras.callbacks.Callback], trial: str
) -> list[keras.callbacks.Callback]:
    """Copies of callbacks for a trial, whose logs go to a folder of its name.

    Example:

    >>> from keras_vit_scale.training import TensorBoardLog
    >>> from keras_vit_scale.tuning.tuner import callbacks_of_trial
    >>> callbacks_of_trial([TensorBoardLog("logs", every=10)], "07")[0].directory.as_posix()
    'logs/07'
    """
    copies = copy.deepcopy(list(callbacks))
    for callback in copies:
        for name in ("log_dir", "directory"):
            folder = getattr(callback, name, None)
            if isinstance(folder, str | Path):
                setattr(callback, name, type(folder)(os.path.join(folder, trial)))
    return copies


def check_search(folder: Path, description: dict[str, Any]) -> None:
    """Refuses a folder that holds another search, saying what differs.

    Raises:
        SearchError: If it does, or holds KerasTuner's files without this package's.
    """
    path = folder / "search.json"
    if not path.is_file():
        if (folder / "oracle.json").is_file():
            raise SearchError(
                f"{folder} holds a search of another kind: take another `project_name`, or "
                "overwrite=True, which deletes it."
            )
        return
    held = read_json("search", path)
    new = json.loads(json.dumps(description))
    reasons = [
        f"{name} was {held.get(name)!r}, now {new.get(name)!r}"
        for name in sorted(held.keys() | new.keys())
        if name not in FREE and held.get(name) != new.get(name)
    ]
    if reasons:
        raise SearchError(
            f"{folder} holds another search: {'; '.join(reasons)}. Take another `project_name`, "
            "the settings of that search, or overwrite=True, which deletes it."
        )


def _description(oracle, hypermodel):
    oracle = getattr(oracle, "_oracle", oracle)
    objective = oracle.objective
    return {
        "oracle": type(oracle).__name__,
        "objective": [objective.name, objective.direction],
        **hypermodel.described(),
    }
