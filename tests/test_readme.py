"""The README's Python runs as printed, its numbers made small."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

SMALLER = [
    ('ImageFolder("photos"), 1000', 'ImageFolder("photos"), 4'),
    ("TrainTransform(224)", "TrainTransform(32)"),
    ("EvalTransform(224)", "EvalTransform(32)"),
    ("batch_size=256", "batch_size=4"),
    ("batch_size=250), steps=4", "batch_size=4), steps=1"),
    ("steps_per_epoch=1_000, epochs=20", "steps_per_epoch=2, epochs=2"),
    ("num_classes=len(train.class_names)", "num_classes=len(train.class_names), image_size=32"),
]


def test_python_of_the_readme_runs(tmp_path, monkeypatch, rng):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for printed, small in SMALLER:
        assert printed in code
        code = code.replace(printed, small)
    for i in range(12):
        folder = tmp_path / "photos" / f"class{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + i, 50 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert int(names["model"].optimizer.iterations) == 4
    loaded = keras.saving.load_model("vit.keras")
    assert loaded.output_shape == (None, 3)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_of_the_readme_lead_somewhere(path):
    assert (Path(__file__).parent.parent / path).exists()
