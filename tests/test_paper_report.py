"""The report on the paper's results: its mathematics against other ways, and the committed page."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone

from keras_vit_scale.scaling import (
    DoubleSaturatingLaw,
    bottlenecks,
    fit_frontier,
    fit_law,
    held_out_predictions,
    images_to_reach,
    paper_results,
    pareto_frontier,
    sample_efficiency,
)

pytestmark = numpy_alone

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "paper_results" / "README.md"


# Sample efficiency


def test_images_to_reach_against_interp(rng):
    images = np.array([2e6, 3e6, 7e6, 13e6, 31e6])
    error = np.array([0.83, 0.61, 0.47, 0.29, 0.23])
    for target in rng.uniform(0.24, 0.82, 17):
        # np.interp wants rising abscissae: the curve falls.
        expected = np.exp(np.interp(np.log(target), np.log(error[::-1]), np.log(images[::-1])))
        assert images_to_reach(images, error, target) == pytest.approx(expected, rel=1e-12)


def test_images_to_reach_is_the_first_time_and_takes_many_curves():
    images = [1e6, 1e7, 1e8]
    curves = np.array([[0.8, 0.4, 0.5], [0.3, 0.2, 0.1], [0.9, 0.8, 0.7]])
    found = images_to_reach(images, curves, 0.4)
    np.testing.assert_allclose(found, [1e7, 0.0, np.inf])


def test_ratio_of_shifted_power_laws_and_its_interval():
    """Error 100 / sqrt(images), and the same with 11 times fewer images: the ratio is 11."""
    images = np.geomspace(1e5, 1e9, 13)
    error = np.concatenate([100 / np.sqrt(images), 100 / np.sqrt(11 * images)])
    keep = (error < 1) & (error > 0.004)
    size = np.repeat(["slow", "fast"], 13)[keep]
    given = {"images": np.tile(images, 2)[keep], "error": error[keep], "size": size}
    asked = {"slow": "slow", "fast": "fast", "resamples": 400}
    table = sample_efficiency(**given, **asked)
    np.testing.assert_allclose(table["ratio"], 11, rtol=1e-9)
    assert ((table["low"] < 11) & (table["high"] > 11)).all()
    # Noise of both trunks, divided by the slope 1/2: log ratio has a deviation of 2 sqrt(2) 0.025.
    wide = sample_efficiency(**given, **asked, point_noise=0.0)
    expected = 1.645 * 2 * np.sqrt(2) * 0.025
    np.testing.assert_allclose(np.log(wide["high"] / 11), expected, rtol=0.25)
    assert table.equals(sample_efficiency(**given, **asked))


def test_sample_efficiency_refuses():
    given = {"images": [1e6, 1e7] * 2, "error": [0.9, 0.8, 0.3, 0.2], "size": list("ssll")}
    with pytest.raises(ValueError, match="some error in common"):
        sample_efficiency(**given, slow="s", fast="l")
    with pytest.raises(ValueError, match="Received: none of 'x'"):
        sample_efficiency(**given, slow="x", fast="l")
    with pytest.raises(ValueError, match="a size for each result"):
        sample_efficiency([1e6, 1e7], [0.5, 0.4], ["s"], slow="s", fast="l")


# Bottlenecks


def test_bottlenecks_compare_over_the_images_that_both_saw():
    results = pd.DataFrame(
        [("S", 1e6, 1e7, 0.5), ("S", 1e6, 1e8, 0.52), ("L", 1e6, 1e7, 0.4), ("L", 1e6, 1e8, 0.3),
         ("S", 1e9, 1e7, 0.5), ("L", 1e9, 1e7, 0.2)],
        columns=["size", "data", "images", "error"],
    )  # fmt: skip
    cost = results["size"].map({"S": 2, "L": 7})
    found = bottlenecks(results.images, results.error, results["size"], results.data, cost=cost)
    first = found.iloc[0]
    assert (first["size"], first["best"], first["images_at_best"]) == ("S", 0.5, 1e7)
    assert first["rise"] == pytest.approx(np.log(0.52 / 0.5))
    assert first["from_size"] == pytest.approx(np.log(0.5 / 0.3))
    assert first["from_data"] == 0
    # L on 1e9 images saw 1e7: there L on 1e6 images had 0.4, not its 0.3 of later.
    assert found.iloc[2]["from_data"] == pytest.approx(np.log(0.4 / 0.2))
    assert found["bottleneck"].tolist() == ["size", "size", "data", ""]


def test_bottlenecks_of_the_paper():
    """The numbers that the paper's text tells of L/16."""
    r = paper_results("fewshot")
    cost = r["flops"] / r["images_seen"]
    found = bottlenecks(
        r["images_seen"], r["imagenet_10shot"], r["model"], r["images_in_dataset"], cost=cost
    ).set_index(["size", "data"])
    for data, expected in ((30e6, 0.278), (1e9, 0.190), (3e9, 0.185)):
        assert found.loc[("L/16", data), "best"] == expected
    assert found.loc[("L/16", 30e6), "images_at_best"] == 400_000 * 4096
    assert found.loc[("L/16", 30e6), "bottleneck"] == "data"
    assert found.loc[("Ti/16", 30e6), "bottleneck"] == "size"


# Hidden results


def test_hidden_results_are_judged_on_the_frontier_beyond_what_was_seen():
    truth = DoubleSaturatingLaw(a=0.6, b=0.3, c=0.05, d=0.5)
    compute = np.geomspace(1e-1, 1e4, 41)
    error = truth.predict(compute)
    # A hidden result off the frontier is not judged.
    compute, error = np.append(compute, 5e3), np.append(error, 0.9)
    hidden = compute > 500
    found = held_out_predictions(
        compute, error, cases={"large": hidden}, laws=["double-saturating", "power"], resamples=30
    )
    judged = np.sort(compute[hidden & (error < 0.9)])
    for law, mine in found.groupby("law"):
        np.testing.assert_allclose(mine["compute"], judged)
        np.testing.assert_allclose(mine["reach"], judged / compute[~hidden].max())
        by_hand = fit_law(compute[~hidden], error[~hidden], law=law).predict(judged)
        np.testing.assert_allclose(mine["predicted"], by_hand, rtol=2e-3)
    assert found.query("law == 'double-saturating'")["off"].abs().max() < 2e-3
    with pytest.raises(ValueError, match="42 results"):
        held_out_predictions(compute, error, cases={"bad": hidden[1:]})


# The page


def run_report(out, *arguments):
    command = [sys.executable, ROOT / "examples" / "paper" / "report.py", "--out", out, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_report_is_the_same_again(tmp_path):
    fast = ["--resamples", "20", "--sections", "figure2", "figure3", "bottlenecks"]
    texts = [run_report(tmp_path / name, *fast) for name in "ab"]
    assert texts[0] == texts[1]
    for name in re.findall(r"\]\((\w+\.png)\)", texts[0]):
        picture = tmp_path / "a" / name
        assert 0 < picture.stat().st_size < 200_000
        assert picture.read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_committed_page_agrees_with_a_fresh_computation():
    page = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"\]\((\w+\.png)\)", page):
        assert 0 < (PAGE.parent / name).stat().st_size < 200_000
    r = paper_results("fewshot")
    fit = fit_frontier(
        r["tpuv3_core_days"], r["imagenet_10shot"], r["trunk"], law="double-saturating",
        resamples=1000,
    )  # fmt: skip
    ends = fit.parameter_intervals()
    for name in "abcd":
        low, high = ends[name]
        assert f"| {name} | {getattr(fit.law, name):.3f} | {low:.3f} to {high:.3f} |" in page
    compute, error = (r[c].to_numpy() for c in ("tpuv3_core_days", "imagenet_10shot"))
    seen = ~r["model"].isin(["g/14", "G/14"]).to_numpy()
    (row,) = held_out_predictions(
        compute, error, r["trunk"], cases={"g": ~seen}, laws=["power+floor"], resamples=100
    ).tail(1).itertuples()  # fmt: skip
    on = pareto_frontier(compute, error)
    assert row.compute == compute[on[-1]]
    assert f"{row.predicted:.3f} ({row.low:.3f} to {row.high:.3f})" in page
