"""Which shapes fit: the grid, the paper's claims, interrupted searches, and the picture."""

import json
import subprocess
import sys
import time

import keras
import pandas as pd
import pytest

from keras_vit_scale import ViTConfig
from keras_vit_scale.ownership import OwnedError, owning
from keras_vit_scale.planning import (
    FIGURE_8,
    Setting,
    draw_shapes,
    estimate,
    search_shapes,
)
from keras_vit_scale.planning import shapes as module
from keras_vit_scale.planning.shapes import TRIALS, grid
from keras_vit_scale.planning.shapes_picture import COLOURS, first_that_fits
from keras_vit_scale.planning.state import Slots
from keras_vit_scale.planning.trial import Trial

SMALL = {
    "widths": [6, 10], "depths": [1, 3], "mlp_dims": [7], "heads": [2, 3], "patch": 7,
    "image_size": 14, "num_classes": 5, "batch_size": 3,
}  # fmt: skip
GIB = 2**30


def test_a_grid_has_the_shapes_whose_heads_divide_the_width():
    shapes = list(grid(7, [6, 10], [1, 3], [7], [2, 3]))
    assert [(c.width, c.heads, c.depth) for c in shapes] == [
        (6, 2, 1), (6, 3, 1), (6, 2, 3), (6, 3, 3), (10, 2, 1), (10, 2, 3),
    ]  # fmt: skip
    assert all((c.mlp_dim, c.patch_size) == (7, 7) for c in shapes)


def test_each_row_is_an_estimate():
    table = search_shapes(**SMALL, memory=110_000)
    assert len(table) == 6 * 3
    row = table[(table.width == 10) & (table.depth == 3) & (table.setting == "Adafactor, MAP")]
    told = estimate(
        ViTConfig(10, 3, 7, 2, 7), 3, image_size=14, num_classes=5, dtype="mixed_bfloat16",
        remat="full", device="TPU v3 core",
    )  # fmt: skip
    assert row.needed.item() == told.needed
    assert row.fits.item() == (told.needed <= 110_000)
    assert row.images_per_second.item() == told.images_per_second
    assert row.parameters.item() == sum(told.parameters.values())
    assert table.fits.nunique() == 2


def test_the_papers_claims_for_a_core_of_tpu_v3():
    """g/14 fits with Adafactor and not as before; thin models of 100 blocks fit."""
    g = search_shapes(widths=[1408], depths=[40], mlp_dims=[6144], heads=[16], batch_size=4)
    fits = dict(zip(g.setting, g.fits, strict=True))
    assert fits["Adafactor, MAP"]
    assert not fits["Adam, [class] token"]
    # G/14 does not: weights and state of 4 + 2 and gradients of 4 bytes a parameter.
    assert not search_shapes(
        widths=[1664], depths=[48], mlp_dims=[8192], heads=[16], batch_size=1
    ).fits.any()
    thin = search_shapes(widths=[768], depths=[100], mlp_dims=[3072], heads=[12])
    assert thin.fits[thin.setting == "Adafactor, MAP"].all()


@pytest.mark.slow
def test_settings_that_need_less_fit_what_others_fit():
    table = search_shapes(
        widths=range(1024, 2049, 256), depths=[16, 32, 64], mlp_dims=[4096, 8192], heads=[8]
    )
    shape = ["width", "depth", "mlp_dim", "heads"]
    fits = table.pivot(index=shape, columns="setting", values="fits")[list(FIGURE_8)]
    before, bfloat16, adafactor = (fits[name] for name in FIGURE_8)
    assert (bfloat16 | ~before).all()
    assert (adafactor | ~bfloat16).all()
    assert 0 < before.sum() < bfloat16.sum() < adafactor.sum() < len(fits)


def test_an_optimizer_is_asked_once_for_each_shape_of_a_weight(monkeypatch):
    """However many blocks there are: so thousands of shapes take seconds."""
    asked, built = [], Slots._built

    def counted(self, variables):
        asked.append(variables)
        return built(self, variables)

    monkeypatch.setattr(Slots, "_built", counted)
    search_shapes(**SMALL)
    once = len(asked)
    table = search_shapes(**{**SMALL, "depths": range(1, 41)})
    assert len(table) == 3 * 40 * 3
    assert len(asked) == 2 * once


# A search in a folder


def test_an_interrupted_search_goes_on(tmp_path, monkeypatch):
    """It makes the trials that are missing; of half a line the trial is missing."""
    whole = search_shapes(**SMALL, memory=110_000)
    made, estimated, most = [], module.Estimator.__call__, 7

    def limited(self, config, batch_size):
        if len(made) == most:
            raise KeyboardInterrupt
        made.append(config)
        return estimated(self, config, batch_size)

    monkeypatch.setattr(module.Estimator, "__call__", limited)
    with pytest.raises(KeyboardInterrupt):
        search_shapes(**SMALL, memory=110_000, folder=tmp_path)
    path = tmp_path / TRIALS
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 7
    path.write_text("\n".join(lines)[:-9])
    most = 18 + 1  # one of the seven is made again
    table = search_shapes(**SMALL, memory=110_000, folder=tmp_path)
    pd.testing.assert_frame_equal(table, whole)
    assert len(path.read_text().splitlines()) == 1 + 18


def test_a_search_goes_on_with_a_larger_grid_and_nothing_else(tmp_path):
    search_shapes(**SMALL, memory=110_000, folder=tmp_path)
    larger = {**SMALL, "widths": [6, 10, 14]}
    assert len(search_shapes(**larger, memory=110_000, folder=tmp_path)) == 8 * 3
    with pytest.raises(ValueError, match=r"batch_size=3, now 4\. Take another folder"):
        search_shapes(**{**SMALL, "batch_size": 4}, memory=110_000, folder=tmp_path)
    with pytest.raises(ValueError, match="memory=110000, now 1"):
        search_shapes(**SMALL, memory=1, folder=tmp_path)


def test_two_searches_in_one_folder_are_refused(tmp_path):
    with owning(tmp_path), pytest.raises(OwnedError, match="Another process works in"):
        search_shapes(**SMALL, memory=110_000, folder=tmp_path)


def test_what_is_run_is_each_shape_in_a_process(monkeypatch):
    asked = []

    def trial(config, batch, **options):
        asked.append((config, batch, options))
        return Trial(config.depth == 1, 0.5 if config.depth == 1 else None)

    monkeypatch.setattr(module, "run_trial", trial)
    setting = Setting("momentum", "gap", "float32", None)
    table = search_shapes(**SMALL, method="run", settings={"mine": setting}, steps=2)
    assert table.fits.tolist() == (table.depth == 1).tolist()
    assert table.images_per_second.dropna().tolist() == [3 / 0.5] * int(table.fits.sum())
    assert asked[0][2] == {
        "steps": 2, "memory": None, "optimizer": "momentum", "pooling": "gap", "dtype": "float32",
        "remat": None, "num_classes": 5, "image_size": 14,
    }  # fmt: skip


@pytest.mark.slow
def test_a_search_that_is_killed_while_it_runs_goes_on(tmp_path):
    """Two of three shapes fit the processor's memory as it is limited, and one does not."""
    code = (
        "from keras_vit_scale.planning import Setting, search_shapes; "
        "search_shapes(2**29, widths=[8], depths=[1], mlp_dims=[8, 16, 3 * 10**7], heads=[1], "
        "patch=7, image_size=14, num_classes=3, batch_size=2, device=None, method='run', "
        f"steps=1, settings={{'a': Setting(dtype='float32')}}, folder={str(tmp_path)!r})"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    path = tmp_path / TRIALS
    while first.poll() is None and (not path.exists() or path.read_text().count("\n") < 2):
        time.sleep(0.1)
    first.kill()
    first.communicate()
    kept = path.read_text().splitlines()[1]
    subprocess.run([sys.executable, "-c", code], check=True)
    rows = path.read_text().splitlines()[1:]
    assert rows[0] == kept
    assert [json.loads(row)["fits"] for row in rows] == [True, True, False]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX compiles ahead")
@pytest.mark.libtpu
def test_by_compiling_the_compiler_says_what_is_needed():
    one = {**SMALL, "widths": [10], "heads": [2], "depths": [3]}
    table = search_shapes(**one, memory=GIB, method="compile", settings={"a": Setting()})
    assert table.fits.all()
    exact = estimate(
        ViTConfig(10, 3, 7, 2, 7), 3, image_size=14, num_classes=5, dtype="mixed_bfloat16",
        remat="full", device="TPU v3 core", exact=True,
    )  # fmt: skip
    assert table.needed.item() == exact.compiled


# The picture


def test_a_shape_has_the_colour_of_the_first_setting_that_fits():
    rows = [
        {"width": w, "depth": 1, "mlp_dim": 4, "heads": 1, "setting": s, "fits": f,
         "images_per_second": v}
        for w, s, f, v in [
            (1, "a", True, 8.0), (1, "b", True, 8.0), (2, "a", False, 4.0), (2, "b", True, 2.0),
            (3, "a", False, 1.0), (3, "b", False, 1.0),
        ]
    ]  # fmt: skip
    best = first_that_fits(pd.DataFrame(rows), ["a", "b"])
    assert best.setting.tolist()[:2] == ["a", "b"]
    assert pd.isna(best.setting[2])
    # The fastest has the whole colour, the slowest the palest.
    fastest = tuple(int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5))
    assert best.colour[0] == pytest.approx(fastest)
    second = [int(COLOURS[1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert best.colour[1] == pytest.approx([1 - 0.4 * (1 - part) for part in second])


def test_the_picture_has_a_panel_a_mlp_width_and_a_legend(tmp_path):
    table = search_shapes(**{**SMALL, "mlp_dims": [7, 9]}, memory=110_000)
    path = tmp_path / "shapes.png"
    figure = draw_shapes(table, path)
    assert path.stat().st_size > 10_000
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["MLP 7, 2 heads", "MLP 9, 2 heads", "MLP 7, 3 heads", "MLP 9, 3 heads"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0].startswith("fits with Adam, [class] token (")
    counted = [int(label.rpartition("(")[2].split()[0]) for label in labels[:4]]
    assert sum(counted) == 12


def test_too_many_panels_are_refused():
    table = search_shapes(**{**SMALL, "mlp_dims": range(1, 14)}, memory=110_000)
    with pytest.raises(ValueError, match="13 MLP widths"):
        draw_shapes(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "memory=0"),
        ({"device": "TPU v33"}, "Did you mean"),
        ({"widths": [6, 0]}, "widths=0"),
        ({"depths": []}, "must have a shape"),
        ({"heads": [7]}, "heads that divide the width"),
        ({"patch": 0}, "patch=0"),
        ({"image_size": 15}, "multiple of the patch"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"method": "try"}, "method='try'"),
        ({"settings": {}}, "name at least one"),
        ({"settings": {"a": Setting("adamx")}}, "optimizer='adamx'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        search_shapes(**{"memory": 110_000, **SMALL, **options})
