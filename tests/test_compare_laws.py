"""Which law the points support: by hand, by SciPy's likelihood, and by what was hidden."""

import numpy as np
import pytest
from conftest import numpy_alone
from scipy.stats import norm

from keras_vit_scale.scaling import (
    LAWS,
    DoubleSaturatingLaw,
    PowerLaw,
    compare_laws,
    paper_results,
)
from keras_vit_scale.scaling.compare import held_out_error, hidden_cases, information_criteria

pytestmark = numpy_alone


def test_criteria_are_those_of_the_likelihood(rng):
    """-2 log likelihood at the best deviation, up to a constant of the points."""
    residual = rng.normal(size=13) * 0.03
    rms = np.sqrt(np.mean(residual**2))
    minus_two = -2 * norm.logpdf(residual, scale=rms).sum()
    ours = information_criteria(13, 3, rms)
    constant = 13 * (1 + np.log(2 * np.pi))
    assert ours["bic"] + constant == pytest.approx(minus_two + 4 * np.log(13))
    assert ours["aicc"] + constant == pytest.approx(minus_two + 2 * 4 * 13 / (13 - 4 - 1))
    assert information_criteria(5, 4, 0.01)["aicc"] == np.inf


@pytest.mark.parametrize(
    "truth", [PowerLaw(0.5, 0.15), DoubleSaturatingLaw(0.5, 0.4, 0.1, 3.0)], ids=lambda t: t.name
)
def test_the_law_that_made_the_points_is_found(truth, rng):
    compute = np.geomspace(0.3, 1e4, 30)
    error = truth.predict(compute) * np.exp(0.003 * rng.standard_normal(30))
    table = compare_laws(compute, error).set_index("law")
    assert table["bic"].idxmin() == truth.name
    assert table.loc[truth.name, "held_out"] < 0.05
    assert table.loc[truth.name, "cases"] == 2


def test_largest_groups_are_hidden_in_turn():
    compute = np.array([1, 2, 3, 4, 10, 20, 30, 40.0])
    groups = np.array(["c", "c", "a", "a", "d", "d", "b", "b"])
    cases = hidden_cases(compute, groups)
    # By most compute: c 2, a 4, d 20, b 40; the half with the least is never hidden.
    assert {name: np.flatnonzero(hidden).tolist() for name, hidden in cases.items()} == {
        "d and larger": [4, 5, 6, 7],
        "b and larger": [6, 7],
    }
    with pytest.raises(ValueError, match="a group for each point"):
        hidden_cases(compute, groups[1:])


def test_paper_supports_a_law_with_a_floor():
    """It describes the frontier best, and foretells g/14 and G/14 where a power law fails."""
    results = paper_results("fewshot")
    compute, error = (results[n].to_numpy() for n in ("tpuv3_core_days", "imagenet_10shot"))
    table = compare_laws(compute, error).set_index("law")
    assert table["refused"].isna().all()
    assert table["bic"].idxmin() in ("double-saturating", "sigmoidal")
    hidden = results["model"].isin(["g/14", "G/14"]).to_numpy()
    missed = {n: held_out_error(LAWS[n], compute, error, hidden) for n in LAWS}
    assert missed["double-saturating"] < 0.05 < 0.1 < missed["power"]


def test_a_law_with_too_few_points_is_refused_with_the_reason():
    table = compare_laws([1, 3, 9, 27], [0.8, 0.6, 0.5, 0.45]).set_index("law").loc[list(LAWS)]
    assert table["refused"].isna().tolist() == [True, True, False, False]
    assert "at least 5 points" in table.loc["double-saturating", "refused"]
    with pytest.raises(ValueError, match="at least 3 points"):
        compare_laws([1, 3], [0.8, 0.6])
