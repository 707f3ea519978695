"""Train, then evaluate, predict, embed and probe, as the command's user does."""

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_vit_scale import ViT, ViTConfig, cli
from keras_vit_scale.training import CheckpointStore

# The command above a run, whose own tests cover each backend.
pytestmark = pytest.mark.slow

SHAPE = "width=6,depth=1,mlp_dim=7,heads=2,patch_size=4"
OPTIONS = [
    "--image-size", "8", "--batch-size", "16", "--crop", "shift", "--no-flip", "--resize", "none",
    "--peak", "0.03", "--head-decay", "0.01", "--timescale", "100",
]  # fmt: skip
CLASSES = ("dark", "light", "striped")


def draw(kind, rng):
    """A noisy picture of a class, of any size."""
    height, width = rng.integers(8, 13, 2)
    values = {"dark": 20, "light": 230, "striped": np.where(np.arange(width) % 8 < 4, 10, 245)}
    picture = np.broadcast_to(values[kind], (height, width)) + rng.integers(-9, 10, (height, width))
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(5)
    for kind in CLASSES:
        (root / kind).mkdir()
        for i in range(23):
            draw(kind, rng).save(root / kind / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run's folder, made by the command, and what that printed."""
    out = tmp_path_factory.mktemp("trained") / "my run"
    arguments = ["train", SHAPE, "--data", str(photos), *OPTIONS, "--steps", "8 epochs"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.run([*arguments, "--validation", "7", "--out", str(out)]) == 0
    return out, printed.getvalue()


def test_train_tells_what_came_out_and_what_to_do_next(trained):
    out, printed = trained
    # By hand: 8 x (69 - 7) images in batches of 16.
    assert f"{SHAPE}: 31 steps, 496 images seen" in printed
    assert "On 7 held-out images:" in printed
    assert f"keras-vit-scale evaluate '{out}'" in printed
    for name in ("config.yaml", "log.csv", "model.keras", "results.json"):
        assert (out / name).is_file()


def test_run_again_it_is_done(trained, photos, capsys):
    out, _ = trained
    arguments = ["train", SHAPE, "--data", str(photos), *OPTIONS, "--steps", "8 epochs",
                 "--validation", "7", "--out", str(out)]  # fmt: skip
    assert cli.run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 31
    assert cli.run([*arguments, "--peak", "0.1", "--loss", "softmax"]) == 2
    line = capsys.readouterr().err.strip()
    assert "holds a run with other settings: loss was 'sigmoid', now 'softmax'; peak was" in line


def test_branch_cools_down_and_says_where_from(trained, tmp_path, capsys):
    out = tmp_path / "cooled"
    call = ["branch", f"{trained[0]}@31", "--cooldown", "2", "--batch-size", "8", "--out", str(out)]
    assert cli.run([*call, "--flip", "True"]) == 0
    printed = capsys.readouterr().out
    assert f"From step 31 of {trained[0].resolve()}, at a rate of" in printed
    assert "33 steps, 512 images seen" in printed
    assert cli.run([*call, "--flip", "True", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    # By hand: 31 x 16 images in the trunk, 2 x 8 here.
    assert (results["images_seen"], results["branch"]["images_seen"]) == (496 + 16, 16)
    assert cli.run(call) == 2
    assert "another branch: flip was True, now 'not given'" in capsys.readouterr().err


def test_predict_names_the_trained_classes(trained, tmp_path, capsys):
    rng = np.random.default_rng(99)
    files = []
    for kind in CLASSES:
        files.append(tmp_path / f"new {kind}.png")
        draw(kind, rng).save(files[-1])
    assert cli.run(["predict", str(trained[0]), *map(str, files), "--top", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [str(f) for f in files]
    assert [row["classes"][0]["class"] for row in rows] == list(CLASSES)
    for row in rows:
        first, second = (found["probability"] for found in row["classes"])
        assert 1 >= first > second >= 0
    assert cli.run(["predict", str(trained[0] / "model.keras"), str(files[1])]) == 0
    assert "light" in capsys.readouterr().out


def test_evaluate_and_fewshot(trained, photos, capsys):
    assert cli.run(["evaluate", str(trained[0]), str(photos), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 69
    assert found["accuracy"] > 0.9
    assert found["top_5_accuracy"] == 1
    assert found["loss"] > 0

    probe = ["fewshot", str(trained[0]), str(photos), "--shots", "1", "5", "--seeds", "0", "3", "4"]
    assert cli.run([*probe, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["test_images"] == 34
    for row, shots in zip(found["results"], (1, 5), strict=True):
        assert row["shots"] == shots
        assert len(row["accuracies"]) == 3
        assert row["least"] <= row["mean"] <= row["most"] == max(row["accuracies"])
    assert cli.run([*probe, "--test", str(photos)]) == 0
    printed = capsys.readouterr().out
    assert "on 69 images" in printed
    assert "mean" in printed


def test_embed_writes_features_labels_and_files(trained, photos, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    arrays, table, alone = (tmp_path / n for n in ("f.npz", "f.parquet", "alone.npz"))
    first = photos / "dark" / "0.png"
    assert cli.run(["embed", str(trained[0]), str(photos), "--out", str(arrays)]) == 0
    assert "69 images of 6 features" in capsys.readouterr().out
    assert cli.run(["embed", str(trained[0]), str(photos), "--out", str(table)]) == 0
    capsys.readouterr()
    assert cli.run(["embed", str(trained[0]), str(first), "--out", str(alone), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(alone), "images": 1, "features": 6}
    labels = [name for name in CLASSES for _ in range(23)]
    with np.load(arrays) as found, np.load(alone) as single:
        features = found["features"]
        assert found["class_names"][found["labels"]].tolist() == labels
        assert found["files"][0] == str(first)
        np.testing.assert_allclose(single["features"], features[:1], atol=1e-5)
        assert sorted(single) == ["features", "files"]
    rows = pd.read_parquet(table)
    np.testing.assert_allclose(np.stack(rows["features"]), features, atol=1e-6)
    assert rows["class"].tolist() == labels
    assert rows["file"][0] == str(first)


def test_embed_without_pyarrow_says_what_to_install(trained, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "f.parquet"
    assert cli.run(["embed", str(trained[0]), "digits", "--out", str(out)]) == 2
    assert "pip install pyarrow" in capsys.readouterr().err
    assert not out.exists()


TRAIN = ["train", SHAPE, "--data", "digits", *OPTIONS]

MISTAKES = {
    "no data": (["train", "S/16", "--steps", "9"], "--data"),
    "misspelt option": ([*TRAIN, "--step", "9"], "--steps"),
    "misspelt choice": ([*TRAIN, "--steps", "9", "--schedule", "rsqr"], "rsqrt"),
    "no end": (TRAIN, "A run needs an end"),
    "two ends": ([*TRAIN, "--steps", "9", "--cool-down-at", "3"], "where the cooldown ends"),
    "no multiple": ([*TRAIN, "--steps", "9", "--image-size", "10"], "multiple of the patch size"),
    "durations": ([*TRAIN, "--steps", "9", "--warmup", "9"], "must not be longer than the run"),
    "unit": ([*TRAIN, "--steps", "9 epohs"], "'epochs'"),
    "unknown data": (["train", "S/16", "--data", "digit", "--steps", "9"], "Did you mean 'digits'"),
    "no trunk": (["branch", "none", "--cooldown", "3"], "folder must hold a config.yaml"),
    "no such step": (["branch", "RUN@30", "--steps", "40"], "a checkpoint of that step"),
    "no such name": (["branch", "RUN@best", "--steps", "40"], "'best'; there are ["),
    "no length": (["branch", "RUN@31"], "must end after the step at which it begins, 31"),
    "another's": (["branch", "RUN@31", "--seed", "3"], "--seed"),
    "no model": (["evaluate", "none", "digits"], "A model must be a run's folder or"),
    "no run": (["evaluate", "empty", "digits"], "which holds no run"),
    "unfinished": (["predict", "begun", "a.png"], "a run that has not ended"),
    "no bundle": (["evaluate", "plain.keras", "digits"], "plain.keras"),
    "no model at all": (["evaluate", "broken.keras", "digits"], "broken.keras"),
    "other classes": (["evaluate", "RUN", "digits"], "classes"),
    "no file": (["predict", "RUN", "none.png"], "An image file must exist"),
    "no files": (["predict", "RUN"], "at least one image"),
    "no image": (["predict", "RUN", "broken.keras"], "broken.keras"),
    "none on top": (["predict", "RUN", "broken.keras", "--top", "0"], "`top` must be a positive"),
    "no shots": (["fewshot", "RUN", "digits", "--shots", "999"], "as many examples"),
    "no test": (["fewshot", "RUN", "digits", "--test-fraction", "1"], "`test_fraction`"),
    "no format": (["embed", "RUN", "digits", "--out", "f.csv"], "must end in .npz or .parquet"),
    "no folder": (["embed", "RUN", "digits", "--out", "no/f.npz"], "folder of `out` must exist"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model that Keras saved, without preprocessing and class names."""
    path = tmp_path_factory.mktemp("plain") / "plain.keras"
    ViT(ViTConfig(6, 1, 7, 2, 4), 3, image_size=8).save(path)
    return path


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments, message, trained, plain, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").touch()
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    shutil.copy(plain, "plain.keras")
    before = sorted(tmp_path.rglob("*"))
    assert cli.run([a.replace("RUN", str(trained[0])) for a in arguments]) == 2
    printed = capsys.readouterr()
    line, *more = printed.err.strip().splitlines()
    assert line.startswith("keras-vit-scale: error: ")
    assert message in line
    assert "tyro" not in line
    assert not more
    assert not printed.out
    assert sorted(tmp_path.rglob("*")) == before


def test_interrupted_between_steps_it_leaves_a_checkpoint(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_vit_scale_command", *TRAIN, "--steps", "1000000",
         "--checkpoint-every", "20", "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not list(out.glob("checkpoints/*/manifest.json")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopping after this step" in errors
    assert "the same command goes on" in errors
    (told,) = re.findall(r"step (\d+) is saved", errors)
    assert CheckpointStore(out / "checkpoints").steps()[-1] == int(told)
    assert not (out / "results.json").exists()
