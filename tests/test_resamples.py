"""Resamples of a study against the covariances that their noise should have."""

import numpy as np
from conftest import numpy_alone

from keras_vit_scale.scaling.noise import Anatomy
from keras_vit_scale.scaling.resamples import draw_errors

pytestmark = numpy_alone

TRUNK = np.array([0, 0, 0, 1, 1])
SAME = TRUNK[:, None] == TRUNK
TILTS = np.array([-0.02, 0, 0.03, -0.01, 0.01])
BEHIND = np.array([0, 0.1, 0, 0, 0.2])


def anatomy(freedom, trunk_noise=0.03, tilts=TILTS):
    return Anatomy(
        theta=np.zeros(4),
        touching=BEHIND == 0,
        behind=BEHIND,
        trunk_noise=trunk_noise,
        freedom=freedom,
        point_noise=0.02,
        tilts=tilts,
    )


def test_results_of_a_trunk_share_its_noise_and_its_tilt(rng):
    """The variance of a trunk for its results together, that of a result for it alone."""
    drawn = draw_errors(rng, np.full(5, -2.0), anatomy(freedom=1e9), TRUNK, 40_000)
    np.testing.assert_allclose(drawn.mean(0), BEHIND - 2, atol=1e-3)
    expected = SAME * (0.03**2 + np.outer(TILTS, TILTS)) + 0.02**2 * np.eye(5)
    # 40,000 draws: a covariance of 0.001 is known to 1e-5.
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=4e-5)


def test_a_deviation_known_from_little_has_long_tails_with_an_end(rng):
    """Of Student's t with 4 degrees of freedom; no trunk has thrice the noise, no error is 1."""
    parts = anatomy(freedom=4.0, trunk_noise=0.5, tilts=np.zeros(5))
    drawn = draw_errors(rng, np.full(5, -9.0), parts, TRUNK, 40_000)[:, 0] + 9
    shares = [(np.abs(drawn) > 0.5 * t).mean() for t in (0.741, 2.132)]
    np.testing.assert_allclose(shares, [0.5, 0.1], atol=0.01)
    assert draw_errors(rng, np.full(5, -0.1), parts, TRUNK, 100).max() == 0
