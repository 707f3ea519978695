"""The verbs `estimate`, `max-batch` and `shapes`, as the library tells the same."""

import json

import keras
import pandas as pd
import pytest

from keras_vit_scale import cli
from keras_vit_scale.planning import estimate, max_batch, search_shapes

ELSEWHERE = keras.backend.backend() != "jax"

OPTIONS = {"dtype": "mixed_bfloat16", "remat": "full", "device": "H100 SXM"}
GIVEN = ["--remat", "full", "--device", "H100 SXM"]


def told(capsys, *arguments):
    code = cli.run(arguments)
    output = capsys.readouterr()
    assert code == 0, output.err
    return output.out


def test_estimate_in_words_and_as_json(capsys):
    expected = estimate("S/16", 64, **OPTIONS)
    call = ["estimate", "S/16", "--batch-size", "64", *GIVEN, "--steps", "100", "--price", "2"]
    rows = json.loads(told(capsys, *call, "--json"))
    assert rows["memory"] == {**vars(expected.memory), "total": expected.memory.total}
    assert rows["parameters"] == expected.parameters
    assert rows["training"] == expected.training(100, 2)
    words = told(capsys, *call)
    assert "It fits: a program can have 76.80 GiB of H100 SXM." in words
    assert "100 steps: 6,400 images" in words
    assert f"{expected.memory.total / 2**30:,.2f} GiB" in words


def test_estimate_of_several_devices(capsys):
    call = ["estimate", "S/16", "--batch-size", "64", *GIVEN, "--json"]
    four = json.loads(told(capsys, *call, "--mesh", "data=4", "--fully-sharded"))
    assert four["devices"] == 4
    copies = json.loads(told(capsys, *call, "--mesh", "data=4", "--fully-sharded", "--shards", "2"))
    assert copies["memory"]["parameters"] > four["memory"]["parameters"]
    assert four["memory"]["parameters"] < json.loads(told(capsys, *call))["memory"]["parameters"]


def test_max_batch(capsys):
    expected = max_batch("S/16", multiple=8, **OPTIONS)
    call = ["max-batch", "S/16", *GIVEN, "--multiple", "8"]
    assert json.loads(told(capsys, *call, "--json"))["batch_size"] == expected.batch_size
    assert f"S/16: {expected.batch_size:,} images" in told(capsys, *call)


def test_shapes_are_kept_and_drawn(capsys, tmp_path):
    grid = ["--widths", "64", "96", "--depths", "3", "--mlp-dims", "128", "--heads", "2"]
    call = ["shapes", *grid, "--memory", "0.1", "--out", str(tmp_path)]
    words = told(capsys, *call)
    assert "Adam, [class] token" in " ".join(words.split())
    assert (tmp_path / "shapes.png").stat().st_size > 10_000
    expected = search_shapes(0.1 * 2**30, widths=[64, 96], depths=[3], mlp_dims=[128], heads=[2])
    kept = pd.read_csv(tmp_path / "shapes.csv")
    assert kept.fits.tolist() == expected.fits.tolist()
    assert kept.needed.tolist() == expected.needed.tolist()
    assert json.loads(told(capsys, *call, "--json")) == expected.to_dict(orient="records")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["estimate", "S/16", "--device", "H100 SMX"], "Did you mean one of ['H100 SXM'"),
        (["estimate", "S/61x"], "Received: 'S/61x'"),
        (["estimate", "S/16", "--batch-size", "0"], "batch_size=0"),
        (["estimate", "S/16", "--price", "2"], "give --steps"),
        (["estimate", "S/16", "--mesh", "data=3"], "batch_size=4096, data=3"),
        (["estimate", "S/16", "--shards", "2"], "shards=2, data=1, fully_sharded=False"),
        (["estimate", "S/16", "--mesh", "data=4,model=4"], "mesh's model axis, 4"),
        (["estimate", "S/16", "--exact", "--device", "H200"], "KERAS_BACKEND" if ELSEWHERE else
         "for the device that is here"),
        (["max-batch", "S/16", "--memory", "0.001"], "at least 1 images"),
        (["shapes", "--heads", "7", "--widths", "64"], "heads that divide the width"),
        (["shapes", "--memory", "-1"], "memory=-1"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_line(call, message, capsys):
    assert cli.run(call) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
