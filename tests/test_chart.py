"""The numbers behind the page: axes with their laws, what is drawn, how cells are written."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone

from keras_vit_scale.scaling import fit_frontier, paper_results
from keras_vit_scale.scaling.chart import MOST_DRAWN, axes_of, cell, chart, drawn
from keras_vit_scale.scaling.evidence import weigh

pytestmark = numpy_alone


@pytest.fixture(scope="module")
def paper():
    results = paper_results("fewshot")
    points = pd.DataFrame(
        {
            "compute": results["flops"],
            "error": results["imagenet_10shot"],
            "trunk": results["trunk"],
            "size": results["model"],
        }
    ).set_axis(results.index + 2)
    columns = results[["model", "steps", "images_seen", "flops", "tpuv3_core_days"]]
    evidence = weigh(points)
    return results, evidence, columns, axes_of(evidence, columns, "flops")


def test_axes_are_what_measures_a_cost(paper):
    assert [a.column for a in paper[3]] == ["flops", "tpuv3_core_days", "images_seen", "steps"]
    # Steps could be anything to the page: no law along them.
    assert [a.law is not None for a in paper[3]] == [True, True, True, False]


@pytest.mark.parametrize(("axis", "unit"), [(1, "tpuv3_core_days"), (2, "images_seen")])
def test_the_law_along_an_axis_is_that_of_a_fit_in_its_unit(axis, unit, paper):
    results, _, _, axes = paper
    refit = fit_frontier(
        results[unit], results["imagenet_10shot"], results["trunk"], results["model"]
    )
    x = np.geomspace(*refit.law.compute_range, 7)
    np.testing.assert_allclose(axes[axis].law.predict(x), refit.predict(x), rtol=1e-3)
    for shown, again in zip(axes[axis].interval(x, 0.9), refit.interval(x), strict=True):
        np.testing.assert_allclose(shown, again, rtol=2e-3)
    shown, again = axes[axis].parameter_intervals(0.9), refit.parameter_intervals(0.9)
    for name in again:
        np.testing.assert_allclose(shown[name], again[name], rtol=0.05)


def test_the_chart_holds_the_results_and_is_json(paper):
    results, evidence, columns, axes = paper
    shown = json.loads(json.dumps(chart(evidence, axes, columns, "r.csv", 0.9), allow_nan=False))
    rows = [i for s in shown["series"] for run in s["runs"] for i in run]
    assert sorted(rows) == list(range(len(results)))
    for i in (0, 100, 261):
        line = int(shown["told"][i][-1].removeprefix("r.csv, line "))
        assert shown["error"][i] == results["imagenet_10shot"][line - 2]
        assert shown["axes"][2]["x"][i] == pytest.approx(results["images_seen"][line - 2], rel=1e-5)
    along = shown["axes"][0]
    used, off = along["residuals"]["rows"], np.array(along["residuals"]["off"])
    # Of the residuals in log error, the root mean square is what the law says of itself.
    rms = np.sqrt(np.mean(np.log1p(off) ** 2))
    assert rms == pytest.approx(evidence.law.rms_log_error, rel=1e-3)
    assert len(used) == evidence.law.points


def test_of_too_many_results_the_frontier_is_drawn():
    compute = np.geomspace(1, 1e4, 20_011)
    error = 0.5 + 0.4 * np.sin(np.arange(20_011)) ** 2
    error[::997] = 0.6 * compute[::997] ** -0.2
    points = pd.DataFrame({"compute": compute, "error": error})
    evidence = weigh(points, all_points=True)  # without intervals, which take a while
    rows = drawn(evidence, axes_of(evidence, pd.DataFrame(index=points.index), "compute"))
    assert len(rows) == len(set(rows)) == MOST_DRAWN
    assert set(evidence.frontier) <= set(rows)
    assert (np.diff(compute[rows]) > 0).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("8x1/7", "8x1/7"), (250, "250"), (16000, "16,000"), ("-12345", "-12,345"),
        ("00012345", "00012345"), (3.5006565372350407e-10, "3.501e-10"), ("0.176", "0.176"),
        ("2026-11-23", "2026-11-23"), ("a\n b", "a b"), ("x" * 99, "x" * 59 + "…"), ("1e5", "1e5"),
    ],
)  # fmt: skip
def test_cells_are_written_for_people(value, text):
    assert cell(value) == text
