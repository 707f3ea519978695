"""Names, shapes and their costs against Table 2 of the paper."""

import pytest

import keras_vit_scale
from keras_vit_scale import SIZES, TABLE_2, ViTConfig, preset
from keras_vit_scale.planning import forward_flops, parameters

# Name: width, depth, MLP, heads, M parameters, GFLOPs at 224, GFLOPs at 384.
PAPER = {
    "s/28": (256, 6, 1024, 8, 5.4, 0.7, 2.0),
    "s/16": (256, 6, 1024, 8, 5.0, 2.2, 7.8),
    "S/32": (384, 12, 1536, 6, 22, 2.3, 6.9),
    "Ti/16": (192, 12, 768, 3, 5.5, 2.5, 9.5),
    "B/32": (768, 12, 3072, 12, 87, 8.7, 26.0),
    "S/16": (384, 12, 1536, 6, 22, 9.2, 31.2),
    "B/28": (768, 12, 3072, 12, 87, 11.3, 30.5),
    "B/16": (768, 12, 3072, 12, 86, 35.1, 111.3),
    "L/16": (1024, 24, 4096, 16, 303, 122.9, 382.8),
    "g/14": (1408, 40, 6144, 16, 1011, 533.1, 1596.4),
    "G/14": (1664, 48, 8192, 16, 1843, 965.3, 2859.9),
}


def test_every_preset_of_table_2_has_a_row():
    assert tuple(PAPER) == TABLE_2


@pytest.mark.parametrize("name", PAPER)
def test_shape_and_cost_are_those_of_table_2(name):
    width, depth, mlp_dim, heads, millions, *gflops = PAPER[name]
    shape = preset(name)
    assert shape == ViTConfig(width, depth, mlp_dim, heads, int(name.split("/")[1]))
    digits = 1 if millions < 10 else 0
    assert round(parameters(shape) / 1e6, digits) == millions
    for size, printed in zip((224, 384), gflops, strict=True):
        counted = forward_flops(shape, size) / 1e9
        assert counted == pytest.approx(printed, rel=0.01, abs=0.2)


@pytest.mark.parametrize("name", PAPER)
def test_every_row_has_a_builder(name):
    builder = getattr(keras_vit_scale, f"ViT_{name.replace('/', '')}")
    assert name in builder.__doc__
    assert builder.__name__ == f"ViT_{name.replace('/', '')}"


#: Parameters that others publish for sizes: in torchvision with a [class] token that has a
#: position, in timm with MAP and no classes, in PaLI's paper (in millions) with MAP and JFT's.
ELSEWHERE = {
    "B/16": (86_567_656, "token", 1000),
    "L/32": (306_535_400, "token", 1000),
    "H/14": (632_045_800, "token", 1000),
    "So400m/14": (427_680_704, "map", None),
    "e/14": (3926e6, "map", 29_593),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_sizes_count_what_others_publish(name):
    published, pooling, classes = ELSEWHERE[name]
    counted = parameters(preset(name), pooling=pooling, num_classes=classes)
    if pooling == "token":
        counted += preset(name).width
    assert counted == pytest.approx(published, rel=2e-4 if name == "e/14" else 0)


def test_every_size_is_a_valid_shape():
    for size in SIZES:
        assert preset(f"{size}/14").patch_size == 14


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("b/16", "'B/16'"),
        ("B", "'B/16'"),
        ("So400/14", "'So400m/14'"),
        ("l/16", "'L/16'"),
        ("G/0", "'G/14'"),
        ("S/²", "'S/16'"),
        ("vit", "Known sizes: s, Ti, S"),
    ],
)
def test_unknown_preset_suggests_close_names(name, suggestion):
    with pytest.raises(ValueError, match="A preset is") as error:
        preset(name)
    assert suggestion in str(error.value)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, "`heads` must divide the width. Received: heads=5, width=16"),
        ({"depth": 0}, "`depth` must be a positive integer. Received: depth=0"),
        ({"width": 16.0}, "`width` must be a positive integer"),
        ({"patch_size": True}, "`patch_size` must be a positive integer"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(ValueError, match=r"must") as error:
        ViTConfig(**{"width": 16, "depth": 1, "mlp_dim": 8, "heads": 2, "patch_size": 4, **change})
    assert message in str(error.value)


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
@pytest.mark.parametrize("num_classes", [None, 7])
def test_parameters_equal_those_of_the_built_model(pooling, num_classes):
    shape = ViTConfig(width=12, depth=2, mlp_dim=17, heads=3, patch_size=4)
    model = keras_vit_scale.ViT(shape, num_classes, image_size=(8, 20), pooling=pooling)
    counted = parameters(shape, (8, 20), pooling=pooling, num_classes=num_classes)
    assert counted == model.count_params()


def test_fixed_positions_have_no_parameters():
    shape = ViTConfig(width=12, depth=2, mlp_dim=17, heads=3, patch_size=4)
    model = keras_vit_scale.ViT(shape, None, image_size=(8, 20), pooling="gap", positions="sincos")
    assert parameters(shape, (8, 20), positions="sincos") == model.count_params()
    with pytest.raises(ValueError, match="`positions` must be one of"):
        parameters(shape, positions="fixed")


def test_flops_of_a_hand_counted_model():
    # Two patches of 2 x 2 x 3 pixels, width 4, one block with an MLP of 5, MAP, 3 classes.
    shape = ViTConfig(width=4, depth=1, mlp_dim=5, heads=2, patch_size=2)
    embed = 2 * 12 * 4
    block = 4 * 2 * 4 * 4 + 2 * 2 * 2 * 4 + 2 * 2 * 4 * 5
    pool = (1 + 2 + 2 + 1) * 4 * 4 + 2 * 1 * 2 * 4 + 2 * 4 * 5
    products = embed + block + pool + 4 * 3
    assert forward_flops(shape, (2, 4), pooling="map", num_classes=3) == 2 * products
    # The [class] token makes them three, and comes after the embedding.
    block = 4 * 3 * 4 * 4 + 2 * 3 * 3 * 4 + 2 * 3 * 4 * 5
    products = embed + block + 4 * 3
    assert forward_flops(shape, (2, 4), pooling="token", num_classes=3) == 2 * products


def test_flops_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="at least one patch"):
        forward_flops(preset("B/16"), 15)
    with pytest.raises(ValueError, match="`pooling`"):
        forward_flops(preset("B/16"), pooling="tokn")
