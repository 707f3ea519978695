"""Bad data: a result with its warning, or a refusal that says what was received."""

import json
import warnings

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale import cli
from keras_vit_scale.scaling import (
    LAWS,
    compare_laws,
    fit_curve,
    fit_frontier,
    fit_joint_law,
    fit_law,
)

pytestmark = numpy_alone

C = np.geomspace(1, 1e4, 16)
E = 0.6 * (C + 2) ** -0.3 + 0.1
RNG = np.random.default_rng(5)
NOISY = E * np.exp(0.02 * RNG.standard_normal(16))


def replaced(values, index, value):
    values = values.copy()
    values[index] = value
    return values


#: Compute, error, and the refusal (`None`: a result near the truth, whatever was added to it).
CASES = {
    "duplicates": (np.repeat(C, 3), np.repeat(E, 3), None),
    "unsorted": (C[::-1], E[::-1], None),
    "not monotone": (C, NOISY, None),
    "nan": (C, replaced(E, 4, np.nan), "Received: nan at point 5"),
    "infinite": (C, replaced(E, 4, np.inf), "Received: inf at point 5"),
    "error of 0": (C, replaced(E, 15, 0), "Received: 0.0 at point 16"),
    "negative compute": (-C, E, "Received: -1.0 at point 1"),
    "two points": (C[:2], E[:2], "Received: 2"),
    "none": (C[:0], E[:0], "Received: 0"),
    "one error": (C, np.full(16, 0.5), "Received"),
    "one compute": (np.ones(16), E, "Received: 1"),
    "rising": (C, E[::-1], "Received"),
    "words": (C, np.array(["a"] * 16), "must be numbers. Received"),
    "a table": (np.ones((4, 4)), np.ones((4, 4)), "one-dimensional"),
}  # fmt: skip

FITS = {
    "fit_law": lambda c, e: fit_law(c, e).predict,
    "fit_law, power": lambda c, e: fit_law(c, e, law="power").predict,
    "fit_law, sigmoidal": lambda c, e: fit_law(c, e, law="sigmoidal").predict,
    "fit_frontier": lambda c, e: fit_frontier(c, e, resamples=9).predict,
    "fit_curve": lambda c, e: fit_curve(c, e).predict,
    "compare_laws": lambda c, e: compare_laws(c, e)["fitted"].iloc[0].predict,
}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("case", CASES)
def test_a_result_or_the_reason(case, fit):
    compute, error, refusal = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if refusal is None:
            predicted = FITS[fit](compute, error)(C)
            np.testing.assert_allclose(predicted, E, rtol=0.25 if "power" in fit else 0.12)
        else:
            with pytest.raises(ValueError, match=refusal):
                FITS[fit](compute, error)


@pytest.mark.parametrize("value", [0.95, 0.05])
def test_an_outlier_is_told_and_a_robust_loss_leaves_it(value):
    error = replaced(E, 7, value)
    (told,) = (w for w in fit_law(C, error).warnings if "far off" in w)
    assert f"the error {value} at compute {C[7]:.4g}" in told
    robust = fit_law(C, error, loss="soft-l1", loss_scale=0.003)
    np.testing.assert_allclose(robust.predict(C), E, rtol=0.05)
    np.testing.assert_allclose(fit_curve(C, error).predict(C[4:]), E[4:], rtol=0.1)
    assert not any("far off" in warning for warning in fit_law(C, NOISY).warnings)


@pytest.mark.parametrize("name", LAWS)
def test_few_points_give_finite_laws(name):
    """As few as are taken, and noisy ones: finite, falling, and told what is not known."""
    few = len(LAWS[name].parameters) + 1
    law = fit_law(C[:: 15 // (few - 1)][:few], NOISY[:: 15 // (few - 1)][:few], law=name)
    predicted = law.predict(np.geomspace(1e-3, 1e9, 50))
    assert np.isfinite(predicted).all()
    assert (np.diff(predicted) <= 0).all()


def test_one_size_alone_says_that_its_noise_is_assumed():
    fit = fit_frontier(C, NOISY, trunk=["S/16"] * 16, resamples=50)
    assert any("touched by 1 trunk only" in warning for warning in fit.warnings)
    low, high = fit.interval(100.0)
    assert high / low > 1.03


def test_a_million_rows():
    compute = np.exp(RNG.uniform(0, 9, 1_000_000))
    error = np.minimum((0.6 * (compute + 2) ** -0.3 + 0.1) * np.exp(0.02 * RNG.random(10**6)), 1)
    law = fit_law(compute, error)
    np.testing.assert_allclose(law.predict(C), E * np.exp(0.01), rtol=0.01)
    near = slice(0, 2003)
    with pytest.raises(ValueError, match=r"at most 2,000 results near the frontier. Received: 2,0"):
        fit_frontier(compute[near], error[near])


def test_many_rows_far_behind_cost_little():
    behind = np.exp(RNG.uniform(0, 9, 500_000))
    compute = np.append(C, behind)
    error = np.append(E, np.minimum(1, 1.5 * (0.6 * (behind + 2) ** -0.3 + 0.1)))
    fit = fit_frontier(compute, error, resamples=20)
    np.testing.assert_allclose(fit.predict(C), E, rtol=0.01)


def test_joint_law_of_outliers(capsys):
    sizes, images = (
        v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e7, 1e10, 5))
    )
    error = 20 * sizes**-0.3 + 30 * images**-0.3 + 0.1
    error[7] = min(1, 1.7 * error[7])
    law = fit_joint_law(sizes, images, error)
    assert law.c == pytest.approx(0.1, rel=0.1)


BAD_FILES = {
    "label missing": ("1,0.5,a,1\n2,0.4,,1\n", ["--trunk", "run"], "line 3: column 'run'"),
    "weight": ("1,0.5,a,1\n2,0.4,b,-1\n", ["--weight", "w"], "line 3: column 'w' must be a number"),
    "no such column": ("1,0.5,a,1\n", ["--trunk", "rum"], "no ['rum']"),
    "size without trunk": ("1,0.5,a,1\n", ["--size", "run"], "give --trunk too"),
    "weights of trunks": ("1,0.5,a,1\n", ["--trunk", "run", "--weight", "w"], "leave --weight"),
    "law": ("1,0.5,a,1\n", ["--law", "cubic"], "must be one of ('power'"),
    "at": ("1,0.5,a,1\n", ["--at", "0"], "--at must be positive amounts of compute"),
    "level": ("1,0.5,a,1\n", ["--level", "90"], "between 0 and 1. Received: level=90"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "options", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_and_options_are_refused_in_a_line(rows, options, message, tmp_path, capsys):
    path = tmp_path / "r.csv"
    path.write_text("flops,error,run,w\n" + rows)
    assert cli.run(["law", "fit", str(path), *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_command_gives_intervals_where_it_knows_trunks(tmp_path, capsys):
    rows = [f"{c},{e},{i // 4},{i // 8},1" for i, (c, e) in enumerate(zip(C, NOISY, strict=True))]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["flops,error,run,model,w", *rows]))
    options = ["--trunk", "run", "--size", "model", "--at", "1e5"]
    assert cli.run(["law", "fit", str(path), *options, "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)
    low, high = group["predictions"][0]["interval"]
    assert low < group["predictions"][0]["error"] < high
    assert set(group["intervals"]) == {"a", "b", "c", "d"}
    assert cli.run(["law", "fit", str(path), *options]) == 0
    printed = capsys.readouterr().out
    assert "(90% interval)" in printed
    assert f"   ({low:.4f} to {high:.4f})   (extrapolation)" in printed
    assert cli.run(["law", "fit", str(path), "--weight", "w", "--law", "power+floor"]) == 0
    assert "C^-" in capsys.readouterr().out
