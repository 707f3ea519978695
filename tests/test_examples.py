"""The examples run, in miniature."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_vit_scale.data import open_source

# The library's own tests cover each backend.
pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"

MINIATURES = {
    "one_trunk_many_lengths.py": (["--lengths", "30", "40"], "40 steps, the last 12"),
    "choose_rates.py": (
        ["digits", "--steps", "30", "--sizes", "4x1/4", "--rates", "0.01", "0.02", "--seeds", "0"],
        "peaks:",
    ),
    "quick_start.py": (["--steps", "3", "--batch-size", "2"], "predicted: ["),
    "train_from_scratch.py": (
        ["digits", "digits", "--steps", "20 steps", "--image-size", "8",
         "--size", "width=4,depth=1,mlp_dim=4,heads=2,patch_size=4"],
        "Accuracy on the test images:",
    ),
    "few_shot_probe.py": (["--steps", "3", "--shots", "1", "2"], "random weights       1 shots 0."),
    "draw_schedules.py": (["schedules.png"], "wrote schedules.png"),
    "law_of_your_runs.py": (["--figure", "law.png"], "10 times the most compute: error 0.152"),
    "choose_for_a_budget.py": (["8 H100 days"], "8 H100 days               L/16 "),
    "other_projects_weights.py": (["--out", "vit"], "features differ by 0.0e+00"),
    "lora.py": (
        ["--steps", "4", "--depth", "1", "--epochs", "1", "--shots", "2", "--seeds", "1",
         "--rates", "1", "--ways", "lora"],
        "parameters, logits differ by",
    ),
    "hide_the_largest_size.py": ([EXAMPLES / "fashion_mnist"], "Law without 64x4/7"),
    "fashion_mnist/prepare.py": (["--source", "idx"], "fashion-mnist-test.npz: 3 images"),
    "shapes_that_fit.py": (
        ["--widths", "64", "--depths", "2", "--mlp-dims", "128", "--figure", "shapes.png"],
        "wrote shapes.png",
    ),
    "near_duplicates.py": ([], "of 28 images are left to train on"),
    "emoji/hierarchy.py": (
        [".", "--vendors", "round", "plain", "--steps", "2", "--size", "16", "--shots", "1"],
        "round: 6 of 24, 6 the same; 3 are flags",
    ),
    "paper/report.py": (
        ["--out", ".", "--resamples", "20", "--sections", "bottlenecks"], "with 1 sections",
    ),
    "ablations/decay.py": (
        ["train.npz", "test.npz", "--held-out", "2", "3", "--steps", "2", "--head", "0.3", "3",
         "--body", "0.03", "--seeds", "0", "--shots", "3"],
        "best few-shot:",
    ),
    "ablations/schedules.py": (
        ["train.npz", "test.npz", "--held-out", "2", "3", "--durations", "10", "20", "--rates",
         "0.01", "--shots", "3", "--validation", "5",
         "--size", "width=4,depth=1,mlp_dim=4,heads=2,patch_size=14"],
        "peaks: rsqrt 0.01, constant 0.01, linear 0.01",
    ),
    "ablations/resolution.py": (
        ["train.npz", "test.npz", "--held-out", "2", "3", "--steps", "2", "--width", "4",
         "--depth", "1", "--sides", "4", "--shots", "3"],
        "16 tokens: patch 14 at 56 pixels",
    ),
    "fine_tune/compare.py": (
        ["train.npz", "test.npz", "--classes", "2", "3", "--trunk-steps", "2", "--steps", "2",
         "--images", "15", "--rates", "0.1",
         "--size", "width=4,depth=1,mlp_dim=4,heads=2,patch_size=4"],
        "Accuracy on 20 test images of 2, 3:",
    ),
}  # fmt: skip

#: Examples whose miniatures are a minute of compiling.
TRAINING = (
    "choose_rates.py", "lora.py", "fine_tune/compare.py", "quick_start.py", "train_from_scratch.py",
    "few_shot_probe.py", "one_trunk_many_lengths.py", "emoji/hierarchy.py", "ablations/decay.py",
    "ablations/schedules.py", "ablations/resolution.py",
)  # fmt: skip


def test_every_example_has_a_miniature():
    scripts = {str(p.relative_to(EXAMPLES)) for p in EXAMPLES.rglob("*.py")}
    # The report's sections are imported by it; `test_paper_report.py` runs them. So are the images
    # of the ablations.
    parts = {name for name in scripts if name.startswith("paper/")} - {"paper/report.py"}
    parts |= {"ablations/clothes.py"}
    assert scripts - parts == set(MINIATURES)


@pytest.mark.parametrize("name", MINIATURES)
def test_example_runs(name, tmp_path):
    if name in TRAINING and keras.backend.backend() != "torch":
        pytest.skip("trains several models, each compiled for moments: once, on torch, is enough")
    if name == "fashion_mnist/prepare.py":
        write_idx_files(tmp_path / "idx")
    if name == "emoji/hierarchy.py":
        draw_emoji(tmp_path)
    if name.startswith(("fine_tune/", "ablations/")):
        for part in ("train", "test"):
            pixels = np.random.default_rng(1).integers(0, 256, (40, 28, 28), dtype=np.uint8)
            np.savez(tmp_path / f"{part}.npz", images=pixels, labels=np.arange(40) % 4)
    arguments, expected = MINIATURES[name]
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    if name == "fashion_mnist/prepare.py":
        source = open_source(tmp_path / "fashion-mnist.npz")
        assert source.class_names[:2] == ("T-shirt/top", "trouser")
        np.testing.assert_array_equal(source[1][0][..., 0], IMAGES[1])


def draw_emoji(folder):
    """Two vendors' packages of 24 emoji in two categories: noise, a fourth of it shared."""
    kinds = [("Flags", "country-flag"), ("Food & Drink", "drink")]
    for v, vendor in enumerate(("round", "plain")):
        package = folder / vendor / "package"
        (package / "img" / vendor / "64").mkdir(parents=True)
        entries = []
        for i in range(24):
            rng = np.random.default_rng(i if i % 4 == 0 else (v, i))
            blocks = rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
            blocks[..., 3] = 255
            image = Image.fromarray(blocks).resize((64, 64))
            image.save(package / "img" / vendor / "64" / f"{i}.png")
            group, kind = kinds[i // 4 % 2]
            entries.append(
                {"category": group, "subcategory": kind, "sort_order": i, "image": f"{i}.png",
                 "short_name": f"e{i}"}
            )  # fmt: skip
        (package / "emoji.json").write_text(json.dumps(entries))


# Numbers in IDX files are big-endian: 0x08 for bytes, the number of sizes, the sizes.
IMAGES = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)


def write_idx_files(folder):
    folder.mkdir()
    for part in ("train", "t10k"):
        images = b"\0\0\x08\x03" + np.array([3, 5, 7], ">u4").tobytes() + IMAGES.tobytes()
        labels = b"\0\0\x08\x01" + np.array([3], ">u4").tobytes() + bytes([0, 9, 4])
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
