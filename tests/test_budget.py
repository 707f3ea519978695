"""Budgets in the words that people use."""

import math

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale.planning import TPUV3_CORE_FLOPS, TYPICAL_MFU, training_flops
from keras_vit_scale.scaling import parse_budget

pytestmark = numpy_alone

DAY = 86_400
H100 = 989.4e12 * TYPICAL_MFU

BUDGETS = {
    "1e21 FLOPs": 1e21,
    "1e21 flop": 1e21,
    "1.5 EFLOP": 1.5e18,
    "100 exaFLOPs": 1e20,
    "2,000 PFLOPs": 2e18,
    "10 PFLOP/s-days": 10e15 * DAY,
    "8 H100 days": 8 * DAY * H100,
    "8 H100-days": 8 * DAY * H100,
    "1 H100 8 days": 8 * DAY * H100,
    "8x H100 for 2 weeks": 8 * 14 * DAY * H100,
    "8 H100s for 2 weeks": 8 * 14 * DAY * H100,
    "3 days on 8 H100": 24 * DAY * H100,
    "0.5 H200 h": 1800 * H100,
    "2 A100 hours": 7200 * 312e12 * TYPICAL_MFU,
    "2 NVIDIA A100-80GB hours": 7200 * 312e12 * TYPICAL_MFU,
    # A number that belongs to the name, and one that does not.
    "1 RTX 4090 days": DAY * 165.2e12 * TYPICAL_MFU,
    "1 RTX 4090 2 days": 2 * DAY * 165.2e12 * TYPICAL_MFU,
    "1 T4 30 min": 1800 * 65e12 * TYPICAL_MFU,
    "64 TPUv4 chips 3 days": 64 * 3 * DAY * 275e12 * TYPICAL_MFU,
    "300 TPUv3 core-days": 300 * DAY * TPUV3_CORE_FLOPS,
    "150 TPU v3 days": 300 * DAY * TPUV3_CORE_FLOPS,
    "150 TPUv3 chip-days": 300 * DAY * TPUV3_CORE_FLOPS,
    2.5e20: 2.5e20,
}


@pytest.mark.parametrize("text", BUDGETS)
def test_budget_in_flops(text):
    assert parse_budget(text).flops == pytest.approx(BUDGETS[text], rel=1e-12)


def test_utilization_is_stated_and_can_be_given():
    assert "40% of its peak (an assumption" in parse_budget("1 H100 day").assumption
    assert "the paper's cost of g/14" in parse_budget("1 TPUv3 core-day").assumption
    assert parse_budget("1e20 FLOPs").assumption is None
    own = parse_budget("2 TPUv3 core-hours", mfu=0.5)
    assert own.flops == pytest.approx(2 * 3600 * 61.5e12 * 0.5)
    assert parse_budget(own) is own


REFUSED = {
    "1e21": "needs a unit",
    "1e15 FLOP/s": "is a speed",
    "0 H100 days": "positive",
    "-3 H100 days": "positive",
    "nan FLOPs": "positive",
    "8 H100 -2 days": "positive",
    "8 H1000 days": "'H100 SXM'",
    "8 TPUv5 days": "'TPU v5p', 'TPU v5e'",
    "2 TPU v4 core-days": "'TPU v4'",
    "8 H100": "amount of compute",
    "500 $": "amount of compute",
    "": "amount of compute",
    math.inf: "positive",
    True: "positive",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_the_cure(text):
    with pytest.raises(ValueError, match="Received: ") as refused:
        parse_budget(text)
    assert REFUSED[text].replace("\\", "") in str(refused.value)


@pytest.mark.parametrize("mfu", [0, -0.1, 1.2, math.nan])
def test_utilization_out_of_range_is_refused(mfu):
    with pytest.raises(ValueError, match="part of the peak"):
        parse_budget("8 H100 days", mfu)


def test_training_flops_of_integers_do_not_overflow():
    forward, images = np.array([531_926_089_728]), np.array([16_000_000_000])
    assert training_flops(forward, images)[0] == pytest.approx(3 * 531_926_089_728 * 16e9)
