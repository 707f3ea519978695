"""The table of accelerators, and how devices are recognised in it."""

import keras
import pytest

from keras_vit_scale import planning
from keras_vit_scale.planning import ACCELERATORS, accelerator, recognised, this_accelerator


def test_peaks_agree_with_what_the_hardware_is_made_of():
    """Units x multiply-adds a clock x 2 x clock, from the makers' architecture papers."""
    arithmetic = {
        # chips' matrix units of 128 x 128 (v6e: 256 x 256) x 2 FLOPs x clock
        ("TPU v2", "bfloat16"): 2 * 128**2 * 2 * 0.7e9,
        ("TPU v3", "bfloat16"): 4 * 128**2 * 2 * 0.94e9,
        ("TPU v4", "bfloat16"): 8 * 128**2 * 2 * 1.05e9,
        ("TPU v5e", "bfloat16"): 4 * 128**2 * 2 * 1.5e9,
        ("TPU v5p", "bfloat16"): 8 * 128**2 * 2 * 1.75e9,
        ("TPU v6e", "bfloat16"): 4 * 256**2 * 2 * 1.75e9,
        # tensor cores x multiply-adds a clock x 2 x boost clock
        ("V100-16GB", "float16"): 640 * 64 * 2 * 1.53e9,
        ("T4", "float16"): 320 * 64 * 2 * 1.59e9,
        ("A10G", "float16"): 320 * 64 * 2 * 1.71e9,
        ("L4", "bfloat16"): 232 * 128 * 2 * 2.04e9,
        ("A100-40GB", "bfloat16"): 432 * 256 * 2 * 1.41e9,
        ("H100 SXM", "bfloat16"): 528 * 512 * 2 * 1.83e9,
        ("H100 PCIe", "bfloat16"): 456 * 512 * 2 * 1.62e9,
        ("RTX 3090", "bfloat16"): 328 * 64 * 2 * 1.695e9,
        ("RTX 4090", "bfloat16"): 512 * 128 * 2 * 2.52e9 / 2,  # half rate for float32 sums
        ("RTX 5090", "bfloat16"): 680 * 128 * 2 * 2.407e9 / 2,
        # float32 lanes x 2 x boost clock
        ("V100-32GB", "float32"): 5120 * 2 * 1.53e9,
        ("T4", "float32"): 2560 * 2 * 1.59e9,
        ("A10G", "float32"): 10240 * 2 * 1.71e9,
        ("L4", "float32"): 7424 * 2 * 2.04e9,
        ("A100-80GB", "float32"): 6912 * 2 * 1.41e9,
        ("H100 SXM", "float32"): 16896 * 2 * 1.98e9,
        ("RTX 3090", "float32"): 10496 * 2 * 1.695e9,
        ("RTX 4090", "float32"): 16384 * 2 * 2.52e9,
        ("RTX 5090", "float32"): 21760 * 2 * 2.407e9,
    }
    for (name, dtype), flops in arithmetic.items():
        assert accelerator(name).peak(dtype) == pytest.approx(flops, rel=0.03), name


def test_a_chip_of_two_cores_is_two_cores():
    for name in ("TPU v2", "TPU v3"):
        chip, core = accelerator(name), accelerator(f"{name} core")
        assert (chip.bfloat16, chip.memory) == (2 * core.bfloat16, 2 * core.memory)


def test_an_h200_computes_as_an_h100():
    h100, h200 = accelerator("H100 SXM"), accelerator("H200")
    for dtype in ("float16", "bfloat16", "float32"):
        assert h200.peak(dtype) == h100.peak(dtype)


def test_the_papers_rate_is_below_the_peak_of_a_core():
    assert 0.5 < planning.TPUV3_CORE_FLOPS / accelerator("TPU v3 core").bfloat16 < 0.6


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("TPU v2", "TPU v2 core"), ("TPU v3", "TPU v3 core"), ("TPU v4", "TPU v4"),
        ("TPU v5 lite", "TPU v5e"), ("TPU v5e", "TPU v5e"), ("TPU v5", "TPU v5p"),
        ("TPU v5p", "TPU v5p"), ("TPU v6 lite", "TPU v6e"), ("TPU v6e", "TPU v6e"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"), ("Tesla V100-SXM2-32GB", "V100-32GB"),
        ("Tesla T4", "T4"), ("NVIDIA A10G", "A10G"), ("NVIDIA L4", "L4"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"), ("A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"), ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"), ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"), ("NVIDIA B200", "B200"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"), ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
    ],
)  # fmt: skip
def test_devices_are_recognised_by_their_reported_names(reported, name):
    assert recognised(reported) is accelerator(name)


@pytest.mark.parametrize(
    "reported",
    ["NVIDIA A10", "NVIDIA L40", "NVIDIA H100 NVL", "NVIDIA GeForce RTX 3090 Ti", "cpu",
     "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 4090 Laptop GPU"],
)  # fmt: skip
def test_a_near_name_is_another_device(reported):
    assert recognised(reported) is None


def test_every_accelerator_is_whole():
    for name, a in ACCELERATORS.items():
        assert a.name == name
        assert a.float16 or a.bfloat16
        assert 8 * 2**30 <= a.memory <= 192 * 2**30


@pytest.mark.parametrize(("name", "near"), [("h100 sxm5", "H100 SXM"), ("A100", "A100-40GB")])
def test_an_unknown_name_is_refused_with_those_that_come_near(name, near):
    with pytest.raises(ValueError, match=near):
        accelerator(name)


def test_the_mfu_of_tpu_v3_is_that_of_the_papers_cost():
    core = accelerator("TPU v3 core")
    assert core.mfu * core.peak("bfloat16") == pytest.approx(planning.TPUV3_CORE_FLOPS, rel=0.01)


@pytest.mark.parametrize(
    "options", [{"memory": 0}, {"bfloat16": -1.0}, {"mfu": 0}, {"mfu": 1.1}, {"mfu": True}]
)
def test_a_row_of_ones_own_is_checked(options):
    row = {"name": "mine", "float16": None, "bfloat16": 1e12, "float32": None, "memory": 2**30}
    assert recognised("mine") is None
    assert planning.Accelerator(**row).mfu == planning.TYPICAL_MFU
    with pytest.raises(ValueError, match=next(iter(options))):
        planning.Accelerator(**{**row, **options})


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="float8"):
        accelerator("H200").peak("float8")


def test_this_accelerator_is_a_known_one_or_none():
    """On a machine without an accelerator `None`; with one, a row of the table or `None`."""
    found = this_accelerator()
    assert found is None or ACCELERATORS[found.name] is found
    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() == "cpu":
            assert found is None
