"""Noise of results, known to a few percent."""

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.scaling.noise import point_noise

pytestmark = numpy_alone


@pytest.mark.parametrize("spacing", [(1, 1), (1, 9)])
def test_noise_of_results_is_theirs_and_not_their_neighbours(spacing, rng):
    """A result lies off the line between its neighbours by the noise of all three."""
    trunks, results = 400, 50
    log_x = np.tile(np.cumsum(np.resize(spacing, results)), trunks).astype(float)
    trunk = np.repeat(np.arange(trunks), results)
    log_e = rng.standard_normal(trunks)[trunk] - 0.1 * log_x
    noisy = log_e + 0.01 * rng.standard_normal(len(log_e))
    # 20,000 results: their median is known to about 1 %.
    assert point_noise(log_x, noisy, trunk) == pytest.approx(0.01, rel=0.04)
