"""Writes what this version of the package saves, so that no later one forgets how to read it.

    PYTHONPATH=. KERAS_BACKEND=jax python tests/golden/make.py  # with the lowest versions

With the lowest versions that `pyproject.toml` allows (`.ci/lowest` installs them), since a later
Keras reads what an earlier one saved, and not the other way round.

It writes the folder `tests/golden/<version>`, about 1 MB. That of a version which was released
is never written again, changed or deleted: `tests/test_golden.py` reads every one that there
is on every backend. This script refuses to touch one that has a tag.

The files depend on nothing but the code and its libraries: seeds are set, and runs are cut off
at a step, not at a time. Dates, seconds and the last digits of sums may differ.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import keras_vit_scale as kvs
from keras_vit_scale import cli
from keras_vit_scale.data import EvalTransform, TrainTransform, digits
from keras_vit_scale.evaluation import save_classifier
from keras_vit_scale.models import to_blocks
from keras_vit_scale.runs import FineTune, TrainConfig, branch, fine_tune, train
from keras_vit_scale.scaling import (
    DoubleSaturatingLaw,
    PowerLaw,
    PowerLawWithFloor,
    SigmoidalLaw,
    load_config,
    run_study,
    write_report,
)
from keras_vit_scale.training.checkpoints import CheckpointStore
from keras_vit_scale.training.loop import train_steps

GOLDEN = Path(__file__).parent
SHAPE = kvs.ViTConfig(width=12, depth=2, mlp_dim=20, heads=2, patch_size=4)
CLASSES = digits().class_names

#: Options of the models that are saved whole.
MODELS = {
    "map": {},
    "token": {"pooling": "token", "gelu": "exact", "epsilon": 1e-12, "positions": "learned"},
    "gap": {
        "pooling": "gap", "positions": "sincos", "dropout": 0.1, "stochastic_depth": 0.2,
        "frozen_blocks": 1, "remat": "full",
    },
}  # fmt: skip

#: What a checkpoint of each optimizer is made with.
OPTIMIZERS = {
    "adafactor": lambda: kvs.Adafactor(
        kvs.ReciprocalSqrt(1e-2, warmup_steps=2, timescale=9),
        weight_decay=kvs.head_and_body(0.1, 0.01),
    ),
    "adamw": lambda: kvs.AdamW(1e-3, use_ema=True),
}

RUN = TrainConfig(
    "width=6,depth=2,mlp_dim=7,heads=2,patch_size=4",
    "digits",
    validation=397,
    evaluate_every=2,
    image_size=8,
    batch_size=13,
    crop="shift",
    flip=False,
    resize="none",
    peak=0.1,
    clip_norm=100.0,
    warmup=2,
    timescale=10.0,
    average=4,
    loss="softmax",
    cool_down_file="cool-down",
    cooldown=6,
    checkpoint_every=5,
    log_every=1,
)

FINE_TUNING = FineTune(steps=2, warmup=1, batch_size=16, image_size=8, rates=(0.01,), crop="none")

STUDY = """
sizes: [a, B]
durations: [4, 8, 16]
image_size: 8
shapes:
  a: {width: 6, depth: 1, mlp_dim: 7, heads: 2, patch_size: 4}
  B: {width: 10, depth: 2, mlp_dim: 14, heads: 2, patch_size: 4}
data: {upstream: digits, held_out: 597, validation: 100, crop: shift, flip: false}
recipe: {batch_size: 16, peak: 0.01, warmup_steps: 2, timescale: 10, cooldown: 0.5}
probe: {shots: [1, 5], seeds: [0, 1], resize: none}
"""

LAWS = [
    PowerLaw(a=0.63, b=0.32, points=7, compute_range=(1.0, 1e4), warnings=("few",)),
    PowerLawWithFloor(a=0.63, b=0.32, c=0.12),
    DoubleSaturatingLaw(a=0.63, b=0.32, c=0.12, d=0.52, rms_log_error=0.01),
    SigmoidalLaw(c=0.12, e0=0.9, alpha=1.3, beta=10.0, b=0.32),
]


def vit(**options):
    """A model of which no weight is zero or one."""
    model = kvs.ViT(SHAPE, len(CLASSES), image_size=8, name="vit", **options)
    rng = np.random.default_rng(5)
    for weight in model.weights:
        if weight.dtype == "float32":
            value = keras.ops.convert_to_numpy(weight)
            weight.assign(value + 0.3 * rng.normal(size=value.shape))
    return model


def compiled(model, optimizer):
    model.compile(optimizer, kvs.SigmoidCrossEntropy(), jit_compile=False)
    transform = TrainTransform(8, crop="shift", flip=False)
    train_steps(model, digits(), transform, batch_size=8, seed=3, stop=3)
    return model


def save_models(folder):
    """Whole models, weights in every format that we write, and what they answer."""
    images = np.random.default_rng(1).uniform(-1, 1, (3, 8, 8, 3)).astype("float32")
    models = {name: vit(**options) for name, options in MODELS.items()}
    models["blocks"] = to_blocks(models["map"])
    models["compiled"] = compiled(vit(), OPTIMIZERS["adafactor"]())
    answers = {name: model.predict(images, verbose=0) for name, model in models.items()}
    np.savez(folder / "answers.npz", images=images, **answers)
    (folder / "models").mkdir()
    for name in ("blocks", "compiled", "gap", "token"):
        models[name].save(folder / "models" / f"{name}.keras")
    (folder / "weights").mkdir()
    models["map"].save_weights(folder / "weights" / "map.weights.h5")
    kvs.save_weights_as(models["map"], folder / "weights" / "big_vision.npz", "big_vision")
    kvs.save_weights_as(models["map"], folder / "weights" / "timm", "timm")
    kvs.save_weights_as(models["token"], folder / "weights" / "transformers", "transformers")


def save_checkpoints(folder):
    for name, make in OPTIMIZERS.items():
        keras.utils.set_random_seed(7)
        model = compiled(vit(dropout=0.1), make())
        store = CheckpointStore(folder / "checkpoints" / name)
        store.save(model, 3)
        store.wait()


class CutOffError(Exception):
    """Raised in the middle of a run, like a kill."""


def save_runs(folder):
    """A run that was cut off in its cooldown, the same at its end, and a fine-tuned model."""
    run = folder / "run"

    def cut_off(progress):
        if progress.doing == "evaluation" and (run / "checkpoints" / "step-00000005").exists():
            raise CutOffError

    with contextlib.chdir(folder):
        Path("cool-down").touch()  # begins the cooldown at once
        with contextlib.suppress(CutOffError):
            train(RUN, run, cut_off)
        Path("cool-down").unlink()
    shutil.copytree(run, folder / "finished-run")
    train(RUN, folder / "finished-run")
    model = compiled(vit(), OPTIMIZERS["adamw"]())
    transform = EvalTransform(8, resize="none")
    save_classifier(model, folder / "classifier.keras", transform, CLASSES, activation="sigmoid")
    # By relative names, as in a folder that was moved.
    with contextlib.chdir(folder):
        fine_tune(FINE_TUNING, "classifier.keras", "digits", "fine-tuned", test="digits")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            cli.run(["fewshot", "classifier.keras", "digits", "--shots", "1", "5", "--json"])
    (folder / "fewshot.json").write_text(printed.getvalue())
    with contextlib.chdir(folder):
        branch("run", "branch", at=5, cooldown=2)
        origin = Path("branch", "branch.json")
        origin.write_text(origin.read_text().replace(str(run.resolve()), "/runs/trunk"))
    for done in ("finished-run", "fine-tuned", "branch"):
        shutil.rmtree(folder / done / "checkpoints")


def save_study(folder):
    out = folder / "study"
    out.mkdir()
    (out / "study.yaml").write_text(STUDY)
    run_study(load_config(out / "study.yaml"), out)
    write_report(out)
    # What is large, and no part of the package reads again.
    for pattern in ("report.html", "frontier.png", "runs/*/*/*/model.keras"):
        for path in out.glob(pattern):
            path.unlink()
    for first in out.glob("runs/*/*/trunk"):
        for early in sorted(first.glob("step-*"))[:-1]:
            shutil.rmtree(early)


def save_laws(folder):
    compute = [1.0, 7.0, 1e3, 1e6]
    laws = [{"stored": x.to_dict(), "predicts": x.predict(compute).tolist()} for x in LAWS]
    (folder / "laws.json").write_text(json.dumps({"compute": compute, "laws": laws}, indent=1))


def save_configs(folder):
    """Every class that Keras stores, none of its arguments at its default."""
    sys.path.insert(0, str(GOLDEN.parent))
    from test_serialisation import CASES

    stored = [keras.saving.serialize_keras_object(case.kind(**case.options)) for case in CASES]
    (folder / "configs.json").write_text(json.dumps(stored, indent=1))


def digests(folder):
    """A digest of every file of a folder but the list of them itself."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "digests.json"
    }


def main():
    folder = GOLDEN / kvs.__version__
    known = subprocess.run(
        ["git", "tag", "--list", f"v{kvs.__version__}"],
        capture_output=True, text=True, check=True, cwd=GOLDEN,
    )  # fmt: skip
    if known.stdout:
        sys.exit(f"{kvs.__version__} was released: its files stay. Give the package a new version.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    keras.utils.set_random_seed(7)
    for save in (save_models, save_checkpoints, save_runs, save_study, save_laws, save_configs):
        save(folder)
    for path in folder.rglob(".owner"):  # says which process has the folder
        path.unlink()
    (folder / "digests.json").write_text(json.dumps(digests(folder), indent=1) + "\n")
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder.name}: {len(digests(folder))} files, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    if os.environ.get("KERAS_BACKEND") != "jax":
        sys.exit("Set KERAS_BACKEND=jax, as for every version before.")
    main()
