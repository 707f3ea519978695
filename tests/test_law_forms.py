"""Every law: derivatives, inverse, units, files; and fits of planted ones."""

import json

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.scaling import (
    LAWS,
    DoubleSaturatingLaw,
    JointLaw,
    PowerLaw,
    PowerLawWithFloor,
    SigmoidalLaw,
    fit_joint_law,
    fit_law,
    law_from_dict,
)
from keras_vit_scale.scaling.joint import log_error as joint_log_error

pytestmark = numpy_alone

TRUTHS = [
    PowerLaw(0.5, 0.2),
    PowerLawWithFloor(0.4, 0.3, 0.07),
    DoubleSaturatingLaw(0.63, 0.32, 0.12, 0.52),
    SigmoidalLaw(c=0.1, e0=0.93, alpha=0.7, beta=2.0, b=0.6),
    SigmoidalLaw(c=0.05, e0=0.9, alpha=2.0, beta=5.0, b=0.5),
]
IDS = [f"{law.name}-{i}" for i, law in enumerate(TRUTHS)]


def test_every_law_has_a_truth():
    assert {law.name for law in TRUTHS} == set(LAWS)


@pytest.mark.parametrize("name", LAWS)
def test_derivatives_are_those_of_finite_differences(name, rng):
    kind = LAWS[name]
    log_x = rng.normal(size=7) * 2
    theta = rng.normal(size=(3, len(kind.parameters))) * 0.7 - 0.5
    x = np.tile(log_x, (3, 1))
    value, jacobian = kind.log_error(theta, x)
    assert value.shape == (3, 7)
    for i in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[:, i] = 1e-6
        difference = kind.log_error(theta + step, x)[0] - kind.log_error(theta - step, x)[0]
        np.testing.assert_allclose(jacobian[..., i], difference / 2e-6, atol=1e-7, rtol=1e-6)


def test_joint_derivatives_are_those_of_finite_differences(rng):
    log_n, log_d = rng.normal(size=(2, 11))
    theta = rng.normal(size=5)
    _, jacobian = joint_log_error(theta, log_n, log_d)
    for i, step in enumerate(1e-6 * np.eye(5)):
        ends = [joint_log_error(theta + s, log_n, log_d)[0] for s in (step, -step)]
        np.testing.assert_allclose(jacobian[:, i], (ends[0] - ends[1]) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("law", TRUTHS, ids=IDS)
def test_vector_and_fields_are_the_same_law(law):
    """What is fitted predicts what the fitted law does."""
    compute = np.geomspace(0.3, 3e3, 31)
    fitted = fit_law(compute, np.minimum(law.predict(compute), 1), law=law.name)
    np.testing.assert_allclose(
        fitted.predict(compute), np.minimum(law.predict(compute), 1), rtol=2e-3
    )
    assert fitted.rms_log_error < 1e-3


@pytest.mark.parametrize("law", TRUTHS, ids=IDS)
def test_inverse_units_and_files(law):
    for compute in (2.0, 70.0):
        error = float(law.predict(compute))
        assert law.compute_for(error) == pytest.approx(compute, rel=1e-6)
        assert float(law.in_unit(24).predict(24 * compute)) == pytest.approx(error, rel=1e-9)
    assert law_from_dict(json.loads(json.dumps(law.to_dict()))) == law
    floor = getattr(law, "c", 0.0)
    with pytest.raises(ValueError, match=f"does not go below {floor:.4g}"):
        law.compute_for(floor)


def test_sigmoidal_law_obeys_its_equation():
    law = SigmoidalLaw(c=0.1, e0=0.93, alpha=0.7, beta=2.0, b=0.6)
    compute = np.geomspace(1e-8, 1e8, 37)
    error = law.predict(compute)
    assert (np.diff(error) < 0).all()
    assert 0.1 < error[-1] < error[0] < 0.93
    np.testing.assert_allclose(
        np.log(error - 0.1) - 0.7 * np.log(0.93 - error), np.log(2.0 * compute**-0.6), rtol=1e-5
    )
    assert law.compute_for(0.95) == 0


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"law": "powre"}, "`law` must be one of"),
        ({"law": "power", "a": 1.0}, "must have the fields"),
        ({"law": "power", "a": 1.0, "b": 0.3, "x": 1}, "must have the fields"),
    ],
)
def test_unknown_files_are_refused(stored, message):
    with pytest.raises(ValueError, match=message):
        law_from_dict(stored)


def test_joint_law_is_recovered_and_splits_best(rng):
    truth = JointLaw(A=20.0, alpha=0.31, B=60.0, beta=0.37, c=0.08)
    sizes, images = (
        v.ravel() for v in np.meshgrid(np.geomspace(5e6, 1e9, 5), np.geomspace(1e8, 1e10, 7))
    )
    error = truth.predict(sizes, images) * np.exp(0.002 * rng.normal(size=35))
    law = fit_joint_law(sizes, images, error)
    assert law.alpha == pytest.approx(0.31, rel=0.1)
    assert law.beta == pytest.approx(0.37, rel=0.1)
    assert law.c == pytest.approx(0.08, rel=0.1)
    # An outlier moves it little.
    error[17] *= 1.5
    assert fit_joint_law(sizes, images, error).c == pytest.approx(law.c, rel=0.1)
    n, d = truth.best_split(1e18)
    assert n * d == pytest.approx(1e18)
    others = n * np.array([0.9, 1.1])
    assert (truth.predict(others, 1e18 / others) > truth.predict(n, d)).all()
    assert truth.images_for(n, float(truth.predict(n, d))) == pytest.approx(d)
    with pytest.raises(ValueError, match="whatever the images"):
        truth.images_for(1e6, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": [1e6] * 7}, "more than one size"),
        ({"images": [1e6] * 7}, "more than one number of images"),
        ({"error": [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.0]}, "Received: 0.0 at point 7"),
        ({"weights": [1, 1, 1, 1, 0, 0, 0]}, "at least 6 results"),
        ({"weights": [1, 1, 1, 1, 1, 1, -1]}, "not negative"),
    ],
)
def test_results_without_a_joint_law_are_refused(change, message):
    given = {
        "parameters": [1e6, 1e6, 1e6, 1e7, 1e7, 1e7, 1e8],
        "images": [1e6, 1e7, 1e8, 1e6, 1e7, 1e8, 1e9],
        "error": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
    }
    with pytest.raises(ValueError, match=message):
        fit_joint_law(**{**given, **change})
