"""What victims do: a run whose labels are its samples' ids, one that a file cools down, a study,
and somebody's own `fit`."""

import numpy as np

#: Every image is a class of its own, whose label tells which sample it is.
SAMPLES = 211

#: Dropout, stochastic depth, flips, shifts, averages, evaluations; saved every 4 steps of 60.
RUN = (
    "train", "width=6,depth=2,mlp_dim=7,heads=2,patch_size=4", "--validation", "29",
    "--image-size", "8", "--batch-size", "13", "--crop", "shift", "--resize", "none",
    "--dropout", "0.1", "--stochastic-depth", "0.2", "--average", "4", "--peak", "0.01",
    "--warmup", "2", "--timescale", "10", "--checkpoint-every", "4", "--log-every", "1",
)  # fmt: skip

STUDY = """
sizes: [a, B]
durations: [6, 10, 20]
image_size: 8
checkpoint_every: 3
shapes:
  a: {width: 8, depth: 1, mlp_dim: 16, heads: 2, patch_size: 4}
  B: {width: 12, depth: 2, mlp_dim: 24, heads: 2, patch_size: 4}
data: {upstream: digits, held_out: 597, crop: shift, flip: false}
recipe: {batch_size: 16, peak: 0.01, warmup_steps: 2, timescale: 10, cooldown: 0.5}
probe: {shots: [1, 5], seeds: [0, 1], resize: none}
"""


def write_data(path):
    """An .npz file of `SAMPLES` images, each of its own class."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (SAMPLES, 8, 8, 3), dtype="uint8")
    np.savez(path, images=images, labels=np.arange(SAMPLES))


def run_job(folder, steps=60, precision="float32"):
    """A run whose end is planned."""
    data = folder / "data.npz"
    if not data.exists():
        write_data(data)
    return (
        *RUN, "--data", data, "--out", folder / "out", "--steps", steps, "--cooldown", "0.3",
        "--evaluate-every", max(5, steps // 3), "--precision", precision,
    )  # fmt: skip


def file_job(folder):
    """A run whose cooldown a file begins."""
    data = folder / "data.npz"
    if not data.exists():
        write_data(data)
    return (
        *RUN, "--data", data, "--out", folder / "out", "--cool-down-file", folder / "cool",
        "--cooldown", "20", "--evaluate-every", "20",
    )  # fmt: skip


def study_job(folder):
    """Two sizes, three durations, and the report."""
    config = folder / "study.yaml"
    config.write_text(STUDY)
    return "study", "run", config, "--out", folder / "out"


def fit_job(folder):
    """See `fitting.py`."""
    return "fit", folder / "out"


JOBS = {"run": run_job, "cooldown": file_job, "study": study_job, "fit": fit_job}

#: Phases, as `victim.py` calls them, in which a job is hurt: a row a run, one after the other.
PHASES = {
    "run": (
        ("training", "evaluation", "restore", "save", "start-up"),
        ("save", "start-up", "training", "save", "model"),
        ("evaluation", "restore", "training", "save", "model"),
    ),
    "cooldown": (("training", "evaluation", "restore", "save", "training"),),
    "study": (
        ("trunk", "save", "branch", "start-up", "report"),
        ("save", "branch", "trunk", "branch", "report"),
    ),
    "fit": (("training", "save", "save", "restore", "training"),),
}

#: Those that come again and again, so that the second time serves as well.
RECURRING = ("save", "evaluation", "trunk", "branch")
