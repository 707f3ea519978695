"""Running a study: one trunk a size and seed, cooled down at every duration, then probed.

    out/
      study.yaml                       what the study is
      runs/<size>/seed-<n>/              or seed-<n>-images-<i>/ for i of the training images
        trunk/step-<m>/                a checkpoint wherever a cooldown leaves the trunk, the last
        steps-<m>/checkpoints/         those of a cooldown on its way
        steps-<m>/model.keras          the model at the end of a cooldown
        steps-<m>/result.json          its errors: the piece is done
      bad_images.csv                   image files that were replaced, if any was
      results.csv, law.json, frontier.png, report.html

Every file is written whole or not at all, and finished pieces are found by listing the
folders; so a study that was interrupted goes on where it stopped, and ends the same. Several
processes may work on one folder: each trunk, and each cooldown, is one's at a time.
"""

import time
from collections.abc import Callable
from pathlib import Path

from keras_vit_scale.atomic import write_text
from keras_vit_scale.distribution.peers import Peers
from keras_vit_scale.ownership import owning
from keras_vit_scale.processes import from_first, is_first, meet
from keras_vit_scale.runs.run import check_batch
from keras_vit_scale.scaling.config import (
    StudyConfig,
    StudyError,
    conflicts,
    dump_config,
    load_config,
    united,
)
from keras_vit_scale.scaling.study_data import open_data
from keras_vit_scale.scaling.study_run import StudyRun
from keras_vit_scale.training.progress import Progress, StepClock
from keras_vit_scale.training.stopping import Stopped, Stopping

#: Seconds between two looks at what other processes work on.
LOOK_AGAIN = 2.0


def run_study(
    config: StudyConfig,
    out: str | Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    stopping: Stopping | None = None,
) -> None:
    """Runs what is missing of a study in the folder `out`.

    Where several processes do, on one machine or on several with a shared file system, each
    takes the next trunk or cooldown that nobody works on, and at last waits for the others: a
    piece whose process dies is taken over by another, from its last checkpoint.

    Everything that can be checked is checked before the first step: the data, the
    examples that the probe needs, and that the folder holds no other study.

    Args:
        config: The study.
        out: Its folder, made if need be. If it holds the same study, only missing
            pieces are run; sizes, durations and seeds may have been added.
        on_progress: Called with a `Progress` several times a second.
        stopping: What may ask the study to stop, a signal or a time limit. The present step
            is saved; the same call goes on from there.

    Raises:
        StudyError: If the folder holds another study's results, or training
            diverges.
        Stopped: If `stopping` said so.
        ValueError: If the data do not serve the study.
    """
    out = Path(out)
    stopping = Stopping() if stopping is None else stopping
    data = open_data(config, out / "bad_images.csv")
    check_batch(config.recipe.batch_size)
    with Peers():
        claim_folder(config, out)
        meet("begun")
        runs = [
            StudyRun(config, size, seed, out, data, stopping, images)
            for images in (None, *config.data_sizes)
            for seed in config.seeds
            for size in config.sizes
        ]
        clock = StepClock(sum(run.steps_left() for run in runs), on_progress)
        while runs := [run for run in runs if run.unfinished()]:
            # Without what other processes have done meanwhile.
            clock.total = clock.done + sum(run.steps_left() for run in runs)
            if not any(run.execute(clock) for run in runs):
                clock.say("waiting for other processes")
                if reason := from_first(stopping.reason()):
                    raise Stopped(reason)
                time.sleep(LOOK_AGAIN)


def claim_folder(config: StudyConfig, out: Path) -> None:
    """Writes `study.yaml`: this study, with what the folder already holds of it.

    Of processes that do so at once, each adds to what the one before it wrote.

    Raises:
        StudyError: If the folder holds results that `config` contradicts, saying
            which settings differ.
    """
    path = out / "study.yaml"
    with owning(out, wait=True):
        if path.exists():
            held = load_config(path)
            reasons = conflicts(held, config)
            if reasons:
                raise StudyError(
                    f"{out} holds a study with other settings: {'; '.join(reasons)}. "
                    "Take another folder, or the settings of that study."
                )
            config = united(held, config)
        if is_first():
            write_text(path, dump_config(config))
