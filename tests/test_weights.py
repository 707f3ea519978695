"""Other projects' weights, in and out, with small files that NumPy writes."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise
from safetensors.numpy import load_file, save_file

from keras_vit_scale import ViT, ViTConfig, from_pretrained, load_weights_from, save_weights_as
from keras_vit_scale.models import to_blocks
from keras_vit_scale.models.architecture import architecture
from keras_vit_scale.weights import WeightsError, resample_patches, resample_positions
from keras_vit_scale.weights.layout import transposed
from keras_vit_scale.weights.saving import _ratio

RECORDED = np.load(Path(__file__).parent / "references" / "big_vision.npz")
CASES = sorted({name.partition("/")[0] for name in RECORDED})


def recorded_file(case, folder):
    """A file as big_vision or vision_transformer wrote it, from what was recorded."""
    start = f"{case}/file/"
    arrays = {k.removeprefix(start): v for k, v in RECORDED.items() if k.startswith(start)}
    path = folder / f"{case}.npz"
    np.savez(path, **arrays)
    return path


def tiny(pooling, classes=5, **options):
    """A model whose every weight has a value."""
    model = ViT(TINY, classes, image_size=(6, 10), pooling=pooling, **options)
    randomise(model, np.random.default_rng(3))
    return model


def same_weights(model, other):
    assert [w.path for w in model.weights] == [w.path for w in other.weights]
    for w, v in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(w), as_numpy(v), err_msg=w.path)


# What big_vision itself computed.


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_big_vision(case, tmp_path):
    model = from_pretrained(recorded_file(case, tmp_path), grid=(3, 3))
    both = keras.Model(model.input, [model.get_layer("pooling").output, model.output])
    features, logits = (as_numpy(x) for x in both(RECORDED[f"{case}/images"], training=False))
    np.testing.assert_allclose(features, RECORDED[f"{case}/features"], atol=1e-5, rtol=0)
    if f"{case}/logits" in RECORDED:
        np.testing.assert_allclose(logits, RECORDED[f"{case}/logits"], atol=1e-5, rtol=0)
    else:
        assert architecture(model).num_classes is None


@pytest.mark.parametrize("case", ["tok", "map"])
def test_big_vision_gets_its_own_file_back(case, tmp_path):
    path = recorded_file(case, tmp_path)
    save_weights_as(from_pretrained(path), tmp_path / "again.npz", "big_vision")
    again, first = np.load(tmp_path / "again.npz"), np.load(path)
    assert set(again) == set(first)
    for name in first:
        np.testing.assert_array_equal(again[name], first[name], err_msg=name)


# Out and in again.


@pytest.mark.parametrize("pooling", ["map", "gap", "token"])
@pytest.mark.parametrize("format", ["timm", "big_vision", "transformers"])
def test_out_and_in_again_is_bit_identical(format, pooling, tmp_path):
    classes = None if (format, pooling) == ("transformers", "map") else 5
    size = 10 if format == "transformers" else (6, 10)
    gelu = "tanh" if format == "big_vision" else "exact"
    epsilon = 1e-5 if format == "transformers" else 1e-6
    model = ViT(TINY, classes, image_size=size, pooling=pooling, gelu=gelu, epsilon=epsilon)
    randomise(model, np.random.default_rng(3))
    path = tmp_path / ("vit.npz" if format == "big_vision" else "vit")
    save_weights_as(model, path, format)
    grid = (3, 5) if size == (6, 10) else None
    again = from_pretrained(path, grid=grid)
    assert architecture(again) == architecture(model)
    same_weights(again, model)
    other = ViT(TINY, classes, image_size=size, pooling=pooling, gelu=gelu, epsilon=epsilon)
    load_weights_from(other, path, grid=grid)
    same_weights(other, model)


def test_frozen_and_half_precision_models_go_out_and_in(tmp_path):
    model = tiny("map", gelu="exact")
    save_weights_as(model, tmp_path / "vit", "timm")
    frozen = from_pretrained(tmp_path / "vit", frozen_blocks=1, dtype="mixed_bfloat16")
    assert frozen.get_layer("encoder").frozen_blocks == 1
    save_weights_as(frozen, tmp_path / "again", "timm")
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("vit", "again"))
    for name in first:
        np.testing.assert_array_equal(again[name], first[name], err_msg=name)


# Tables, each against arrays that NumPy writes.


def test_joined_matrices_are_cut_in_the_order_of_torch(tmp_path):
    """Row by row: output unit u of query, key, value is row u, D + u, 2D + u."""
    model = tiny("map", None, gelu="exact")
    save_weights_as(model, tmp_path / "vit", "timm")
    arrays = load_file(tmp_path / "vit" / "model.safetensors")
    d, f = TINY.width, TINY.head_dim
    weights = {w.path: as_numpy(w) for w in model.weights}
    for part, name in enumerate(("query", "key", "value")):
        for block in range(TINY.depth):
            for u in range(d):
                row = arrays[f"blocks.{block}.attn.qkv.weight"][part * d + u]
                expected = weights[f"encoder/{name}_kernel"][block, :, u // f, u % f]
                np.testing.assert_array_equal(row, expected)
    for part, name in enumerate(("key", "value")):
        expected = weights[f"pooling/{name}_bias"].reshape(-1)
        bias = arrays["attn_pool.kv.bias"][part * d : (part + 1) * d]
        np.testing.assert_array_equal(bias, expected)
    kernel = arrays["patch_embed.proj.weight"]
    for channel in range(3):
        np.testing.assert_array_equal(
            kernel[:, channel], weights["patch_embedding/kernel"][:, :, channel].transpose(2, 0, 1)
        )


@pytest.mark.parametrize("shape", [(3, 5), (256, 700), (601, 257)])
def test_matrices_of_several_tiles_are_transposed(shape, rng):
    matrix = rng.normal(size=shape)
    np.testing.assert_array_equal(transposed(matrix), matrix.T)


def test_the_mlp_is_as_wide_in_timm_as_here():
    """It makes `int(width * ratio)` of it, which the plain quotient misses for one pair in 30."""
    pairs = [(width, mlp_dim) for width in range(1, 60) for mlp_dim in range(1, 250)]
    assert any(int(width * (mlp_dim / width)) != mlp_dim for width, mlp_dim in pairs)
    for width, mlp_dim in pairs:
        assert int(width * _ratio(width, mlp_dim)) == mlp_dim


#: Modules of a block in transformers, for each of ours; written down from its code by hand.
SIGLIP_BLOCK = {
    "attention_norm": "layer_norm1", "query": "self_attn.q_proj", "key": "self_attn.k_proj",
    "value": "self_attn.v_proj", "out": "self_attn.out_proj", "mlp_norm": "layer_norm2",
    "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2",
}  # fmt: skip
VIT_BLOCK = {
    "attention_norm": "layernorm_before", "query": "attention.attention.query",
    "key": "attention.attention.key", "value": "attention.attention.value",
    "out": "attention.output.dense", "mlp_norm": "layernorm_after",
    "mlp_in": "intermediate.dense", "mlp_out": "output.dense",
}  # fmt: skip


@pytest.mark.parametrize(
    ("pooling", "blocks", "names", "epsilon", "gelu"),
    [
        ("map", "vision_model.encoder.layers", SIGLIP_BLOCK, 1e-6, "tanh"),
        ("token", "vit.encoder.layer", VIT_BLOCK, 1e-12, "exact"),
    ],
)
def test_modules_of_transformers_hold_what_they_compute_with(
    pooling, blocks, names, epsilon, gelu, tmp_path
):
    """A torch layer multiplies by (outputs, inputs); its joined attention has three, q, k, v."""
    model = ViT(TINY, None, image_size=10, pooling=pooling)
    randomise(model, np.random.default_rng(3))
    save_weights_as(model, tmp_path / "vit", "transformers")
    path = tmp_path / "vit" / "model.safetensors"
    arrays, d = load_file(path), TINY.width
    weights = {w.path: as_numpy(w) for w in model.weights}

    def same(module, ours, block=...):
        kind = "scale" if "norm" in ours else "kernel"
        weight, bias = (weights[f"{ours}_{k}"][block] for k in (kind, "bias"))
        if kind == "kernel":
            inputs = (-1, d) if "out_" in f"{ours}_" and "mlp" not in ours else (len(weight), -1)
            weight = weight.reshape(inputs).T
        np.testing.assert_array_equal(arrays[f"{module}weight"], weight, err_msg=ours)
        np.testing.assert_array_equal(arrays[f"{module}bias"], bias.ravel(), err_msg=ours)

    for i in range(TINY.depth):
        for ours, theirs in names.items():
            same(f"{blocks}.{i}.{theirs}.", f"encoder/{ours}", i)
    if pooling == "map":
        head = "vision_model.head."
        for part, ours in enumerate(("query", "key", "value")):
            for kind in ("weight", "bias"):
                joined = arrays[f"{head}attention.in_proj_{kind}"]
                arrays[f"{ours}.{kind}"] = joined[part * d : (part + 1) * d]
            same(f"{ours}.", f"pooling/{ours}")
        for ours, theirs in {"out": "attention.out_proj", "mlp_norm": "layernorm",
                             "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}.items():  # fmt: skip
            same(f"{head}{theirs}.", f"pooling/{ours}")
    # Where no config says it, the model's own usual settings.
    (tmp_path / "vit" / "config.json").unlink()
    found = architecture(from_pretrained(path, heads=TINY.heads))
    assert (found.epsilon, found.gelu) == (epsilon, gelu)


def keras_hub_folder(model, folder):
    """A preset as KerasHub writes it, from a model with [class] token."""
    import h5py

    folder.mkdir()
    weights = {w.path: as_numpy(w) for w in model.weights}
    token, position = weights["class_token/token"], weights["position_embedding/embedding"]
    embedding, encoder = "layers/vi_t_patching_and_embedding", "layers/vi_t_encoder"
    backbone = {
        f"{embedding}/vars/0": token - 0.5,
        f"{embedding}/position_embedding/vars/0": np.concatenate(
            [np.full_like(token[0], 0.5), position[0]]
        ),
        f"{embedding}/patch_embedding/vars/0": weights["patch_embedding/kernel"],
        f"{embedding}/patch_embedding/vars/1": weights["patch_embedding/bias"],
        f"{encoder}/layer_norm/vars/0": weights["norm/gamma"],
        f"{encoder}/layer_norm/vars/1": weights["norm/beta"],
    }
    names = {"query": "mha/query_dense", "key": "mha/key_dense", "value": "mha/value_dense",
             "out": "mha/output_dense", "mlp_in": "mlp/dense_1", "mlp_out": "mlp/dense_2",
             "attention_norm": "layer_norm_1", "mlp_norm": "layer_norm_2"}  # fmt: skip
    for i in range(TINY.depth):
        block = f"{encoder}/encoder_layers/vi_t_encoder_block" + (f"_{i}" if i else "")
        for ours, theirs in names.items():
            kinds = ("scale", "bias") if "norm" in ours else ("kernel", "bias")
            for j, kind in enumerate(kinds):
                backbone[f"{block}/{theirs}/vars/{j}"] = weights[f"encoder/{ours}_{kind}"][i]
    head = {
        f"layers/dense/vars/{i}": weights[f"head/{k}"] for i, k in enumerate(("kernel", "bias"))
    }
    head["optimizer/vars/0"] = np.zeros((), "int32")
    for name, arrays in (("model", backbone), ("task", head)):
        with h5py.File(folder / f"{name}.weights.h5", "w") as file:
            for key, value in arrays.items():
                file[key] = value
    config = {"num_heads": 3, "layer_norm_epsilon": 1e-5, "image_shape": [6, 10, 3]}
    (folder / "config.json").write_text(json.dumps({"config": config}))
    (folder / "task.json").write_text(json.dumps({"config": {"pooling": "token"}}))


def test_keras_hub_presets_are_read(tmp_path):
    model = tiny("token", gelu="exact", epsilon=1e-5)
    keras_hub_folder(model, tmp_path / "preset")
    found = from_pretrained(tmp_path / "preset")
    assert architecture(found) == architecture(model)
    for w, v in zip(found.weights, model.weights, strict=True):
        # The token was cut in two, which rounds.
        np.testing.assert_allclose(as_numpy(w), as_numpy(v), atol=1e-6, err_msg=w.path)


@pytest.mark.parametrize("task", ["[]", '{"config": 7}', "{", '{"config": {"pooling": "token"}'])
def test_a_preset_of_keras_hub_with_a_broken_task_is_refused(tmp_path, task):
    keras_hub_folder(tiny("token", gelu="exact", epsilon=1e-5), tmp_path / "preset")
    (tmp_path / "preset" / "task.json").write_text(task)
    with pytest.raises(WeightsError, match=r"task\.json"):
        from_pretrained(tmp_path / "preset")


def test_a_token_and_its_position_are_summed(tmp_path):
    save_weights_as(tiny("token", gelu="exact"), tmp_path / "vit", "timm")
    arrays = load_file(tmp_path / "vit" / "model.safetensors")
    arrays["pos_embed"][0, 0] = np.arange(TINY.width)
    token = arrays["cls_token"] + np.arange(TINY.width, dtype="float32")
    save_file(arrays, tmp_path / "vit" / "model.safetensors")
    model = from_pretrained(tmp_path / "vit")
    np.testing.assert_array_equal(as_numpy(model.get_layer("class_token").token), token)


def test_missing_biases_of_attention_are_zero(tmp_path):
    save_weights_as(tiny("gap", gelu="exact"), tmp_path / "vit", "timm")
    path = tmp_path / "vit" / "model.safetensors"
    arrays = load_file(path)
    save_file({k: v for k, v in arrays.items() if "qkv.bias" not in k}, path)
    encoder = from_pretrained(tmp_path / "vit").get_layer("encoder")
    assert not as_numpy(encoder.blocks["value_bias"]).any()
    save_file({k: v for k, v in arrays.items() if k != "blocks.1.attn.qkv.bias"}, path)
    with pytest.raises(WeightsError, match=r"blocks\.1\.attn\.qkv\.bias is missing"):
        from_pretrained(tmp_path / "vit")


def test_weights_of_text_towers_and_optimizers_are_left_out(tmp_path):
    model = tiny("map", None)
    save_weights_as(model, tmp_path / "a.npz", "big_vision")
    arrays = {f"params/img/{k}": v for k, v in np.load(tmp_path / "a.npz").items()}
    arrays |= {"params/txt/x": np.ones(2), "params/t": np.ones(1), "opt/0/count": np.ones((), int)}
    np.savez(tmp_path / "b.npz", **arrays)
    same_weights(from_pretrained(tmp_path / "b.npz", grid=(3, 5)), model)


# Options.


def test_other_heads_sizes_and_patches(tmp_path):
    model = tiny("map", gelu="exact")
    save_weights_as(model, tmp_path / "vit", "timm")
    features = from_pretrained(tmp_path / "vit", num_classes=None)
    assert features.output_shape == (None, TINY.width)
    other = from_pretrained(tmp_path / "vit", num_classes=7, head_bias=-10.0)
    images = np.zeros((1, 6, 10, 3), "float32")
    np.testing.assert_array_equal(as_numpy(other(images)), np.full((1, 7), -10, "float32"))
    kept = from_pretrained(tmp_path / "vit", num_classes=5)
    same_weights(kept, model)

    larger = from_pretrained(tmp_path / "vit", image_size=(14, 22), resample="bicubic")
    before = as_numpy(model.get_layer("position_embedding").embedding)
    after = as_numpy(larger.get_layer("position_embedding").embedding)
    np.testing.assert_array_equal(after, resample_positions(before, (3, 5), (7, 11), "bicubic"))

    patches = from_pretrained(tmp_path / "vit", patch_size=4)
    assert patches.input_shape == (None, 12, 20, 3)
    kernel = as_numpy(model.get_layer("patch_embedding").kernel)
    np.testing.assert_array_equal(
        as_numpy(patches.get_layer("patch_embedding").kernel), resample_patches(kernel, 4)
    )


def test_a_loaded_model_keeps_its_grid_and_may_keep_its_head(tmp_path):
    save_weights_as(tiny("token", gelu="exact"), tmp_path / "vit", "timm")
    model = ViT(TINY, 7, image_size=(8, 6), pooling="token", gelu="exact")
    load_weights_from(model, tmp_path / "vit", head="keep")
    expected = from_pretrained(tmp_path / "vit", image_size=(8, 6), num_classes=7)
    same_weights(model, expected)


def test_heads_no_weight_tells_are_asked_for(tmp_path):
    save_weights_as(tiny("map", gelu="exact"), tmp_path / "vit", "timm")
    (tmp_path / "vit" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"say grid=|`heads=`"):
        from_pretrained(tmp_path / "vit")
    found = from_pretrained(tmp_path / "vit", heads=3, grid=(3, 5))
    assert architecture(found).config == TINY
    preset = ViT("mu/4", None, image_size=8, pooling="map", gelu="exact")
    save_weights_as(preset, tmp_path / "mu", "timm")
    (tmp_path / "mu" / "config.json").unlink()
    assert from_pretrained(tmp_path / "mu").name == "ViT_mu_4"


def test_another_gelu_or_epsilon_than_the_models_is_told(tmp_path):
    save_weights_as(tiny("map", None, epsilon=1e-6), tmp_path / "a.npz", "big_vision")
    model = ViT(TINY, None, image_size=(6, 10), gelu="exact", epsilon=1e-5)
    with pytest.warns(UserWarning, match="made for") as warned:
        load_weights_from(model, tmp_path / "a.npz", grid=(3, 5))
    messages = " ".join(str(w.message) for w in warned)
    assert "made for gelu='tanh'; the model has 'exact'" in messages
    assert "made for epsilon=1e-06; the model has 1e-05" in messages


# Refusals.


def written(tmp_path, change, pooling="token"):
    """A timm file whose arrays `change` has changed."""
    save_weights_as(tiny(pooling, gelu="exact"), tmp_path / "vit", "timm")
    path = tmp_path / "vit" / "model.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    return tmp_path / "vit"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("blocks.0.ls1.gamma", "layer scale"),
        ("reg_token", "register tokens"),
        ("blocks.1.mlp.fc1_g.weight", "SwiGLU"),
        ("blocks.1.attn.q_norm.weight", "qk-norm"),
        ("norm_pre.weight", "pre-norm"),
        ("fc_norm.weight", "fc_norm"),
        ("rope.freqs", "rope"),
        ("dist_token", "a distillation token"),
        ("blocks.0.attn.relative_position_bias_table", "relative positions"),
        ("pre_logits.fc.weight", "pre_logits"),
    ],
)
def test_parts_that_we_lack_are_refused_by_name(name, part, tmp_path):
    folder = written(tmp_path, lambda a: a.update({name: np.ones(3, "float32")}))
    with pytest.raises(WeightsError) as error:
        from_pretrained(folder)
    assert part in str(error.value)
    assert repr(name) in str(error.value)
    # Left out on request.
    from_pretrained(folder, ignore=name)


def test_everything_that_does_not_fit_is_listed_and_nothing_changed(tmp_path):
    def change(arrays):
        del arrays["norm.weight"], arrays["blocks.1.mlp.fc2.bias"]
        arrays["blocks.0.norm1.bias"] = np.ones(7, "float32")
        arrays["head.bias"] = np.ones(5, "int32")
        arrays["something.else"] = np.ones(3, "float32")

    folder = written(tmp_path, change)
    problems = [
        "norm.weight is missing", "blocks.1.mlp.fc2.bias is missing",
        "blocks.0.norm1.bias is (7,), not (15,)", "head.bias holds int32",
        "something.else is unknown",
    ]  # fmt: skip
    with pytest.raises(WeightsError) as error:
        from_pretrained(folder)
    for problem in problems:
        assert problem in str(error.value)
    model = ViT(TINY, 5, image_size=(6, 10), pooling="token", gelu="exact")
    before = model.get_weights()
    with pytest.raises(WeightsError) as error:
        load_weights_from(model, folder)
    for problem in problems:
        assert problem in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_file_that_breaks_while_it_is_read_changes_nothing(tmp_path):
    path = tmp_path / "vit.npz"
    saved = ViT(TINY, 5, image_size=(6, 10), pooling="token")
    bias = np.array([0.17, 0.19, 0.23, 0.29, 0.31], "float32")
    saved.get_layer("head").bias.assign(bias)
    save_weights_as(saved, path, "big_vision")
    data = path.read_bytes()
    # One bit of the last values that are read: every header is as it was.
    at = data.index(bias.tobytes()) + 7
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    model = ViT(TINY, 5, image_size=(6, 10), pooling="token")
    before = model.get_weights()
    with pytest.raises(WeightsError, match="CRC"):
        load_weights_from(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_checkpoint_of_another_size_says_which(tmp_path):
    save_weights_as(ViT("mu/4", 3, image_size=8), tmp_path / "mu.npz", "big_vision")
    with pytest.raises(WeightsError) as error:
        load_weights_from(ViT(TINY, 3, image_size=8), tmp_path / "mu.npz")
    assert "looks like mu/4 at 8 x 8, 'map' pooling, 3 classes" in str(error.value)
    assert "the model is width=15,depth=2" in str(error.value)


def test_values_that_are_not_finite_are_told(tmp_path):
    def change(arrays):
        arrays["blocks.1.norm2.bias"][3] = np.nan
        arrays["head.weight"][1, 2:4] = -np.inf

    with pytest.warns(UserWarning, match="not finite") as warned:
        from_pretrained(written(tmp_path, change))
    (message,) = (str(w.message) for w in warned if "not finite" in str(w.message))
    assert "blocks.1.norm2.bias (1 of 15)" in message
    assert "head.weight (2 of 75)" in message


def test_mean_pooling_beside_a_class_token_is_refused(tmp_path):
    folder = written(tmp_path, lambda arrays: None)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["global_pool"] = "avg"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"Mean pooling beside a \[class\] token"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], "config.json"),
        ({"model_args": {"num_heads": "3"}}, "`heads` must be a positive integer"),
        ({"model_args": {"act_layer": "quick_gelu"}}, "no activation"),
        ({"model_args": {"global_pool": "prr"}}, "no pooling"),
        ({"model_args": {"num_heads": 4}}, "`heads` must divide the width"),
        ({"model_args": {"num_heads": 3, "img_size": "x"}}, "describe a Vision Transformer"),
        ({"model_args": [3]}, "config.json"),
    ],
)
def test_configs_that_make_no_sense_are_refused(config, message, tmp_path):
    folder = written(tmp_path, lambda arrays: None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError) as error:
        from_pretrained(folder)
    assert message in str(error.value)


def test_files_of_something_else_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", weights=np.ones(3))
    with pytest.raises(WeightsError, match="must hold a Vision Transformer"):
        from_pretrained(tmp_path / "a.npz")

    def gap(arrays):
        arrays["blocks.3.mlp.fc1.weight"] = arrays["blocks.1.mlp.fc1.weight"]

    with pytest.raises(WeightsError, match="numbered from 0 on, without a gap"):
        from_pretrained(written(tmp_path, gap))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resample": "nearest"}, "`resample` must be one of"),
        ({"pooling": "avg"}, "`pooling` must be one of"),
        ({"gelu": "relu"}, "`gelu` must be one of"),
        ({"epsilon": 0}, r"`epsilon` must be in \(0, 1\)"),
        ({"heads": 0}, "`heads` must be"),
        ({"grid": (3,)}, "`grid` must be"),
        ({"num_classes": 0}, "`num_classes` must be"),
        ({"patch_size": 0}, "`patch_size` must be"),
        ({"image_size": 7}, "`image_size` must be a multiple"),
        ({"grid": (4, 5)}, "`grid` must have 16 patches"),
    ],
)
def test_bad_options_are_refused(arguments, message, tmp_path):
    folder = written(tmp_path, lambda arrays: None)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder, **arguments)


def test_unknown_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match="poolng"):
        from_pretrained(written(tmp_path, lambda arrays: None), poolng="map")
    with pytest.raises(ValueError, match=r"`head` must be one of \('file', 'keep'\)"):
        load_weights_from(tiny("map"), tmp_path, head="new")


@pytest.mark.parametrize(
    ("options", "format", "message"),
    [
        ({"gelu": "exact"}, "big_vision", "must have gelu='tanh'"),
        ({"epsilon": 1e-5}, "timm", "must have epsilon=1e-06"),
        ({}, "transformers", "no classifier on MAP"),
        ({"pooling": "gap"}, "transformers", "square images only"),
        ({}, "flax", "`format` must be one of"),
    ],
)
def test_models_that_others_cannot_build_are_not_written(options, format, message, tmp_path):
    model = ViT(TINY, 5, **{"image_size": (6, 10) if "pooling" in options else 6, **options})
    path = tmp_path / ("a.npz" if format == "big_vision" else "a")
    with pytest.raises(ValueError, match=message):
        save_weights_as(model, path, format)
    assert not os.listdir(tmp_path)


def test_only_models_of_vit_are_filled_and_written(tmp_path):
    for model in (keras.Sequential([keras.Input((3,))]), to_blocks(tiny("map"))):
        with pytest.raises(ValueError, match="must be one that `ViT` builds"):
            save_weights_as(model, tmp_path / "a", "timm")
        with pytest.raises(ValueError, match="must be one that `ViT` builds"):
            load_weights_from(model, tmp_path / "a")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        save_weights_as(tiny("map"), tmp_path / "a", "big_vision")


# Resampling, against definitions; tests/test_weights_parity.py has the libraries.


def loop_bicubic(line, new):
    """Keys' cubic, stretched where a line shrinks: each output a weighted mean of its inputs."""
    scale = len(line) / new
    stretch = max(1, scale)
    out = []
    for i in range(new):
        centre = (i + 0.5) * scale
        total = weights = 0
        for j, value in enumerate(line):
            x = abs(j + 0.5 - centre) / stretch
            w = 0.0
            if x < 1:
                w = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x < 2:
                w = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            total, weights = total + w * value, weights + w
        out.append(total / weights)
    return np.array(out)


@pytest.mark.parametrize(("old", "new"), [(7, 11), (11, 7), (5, 5), (13, 4), (2, 9)])
def test_bicubic_positions_equal_a_loop(old, new, rng):
    line = rng.normal(size=old)
    found = resample_positions(line.reshape(1, old, 1), (1, old), (1, new), "bicubic")
    np.testing.assert_allclose(found[0, :, 0], loop_bicubic(line, new), atol=1e-12)
    found = resample_positions(line.reshape(1, old, 1), (old, 1), (new, 1), "bicubic")
    np.testing.assert_allclose(found[0, :, 0], loop_bicubic(line, new), atol=1e-12)


def test_larger_patches_see_in_larger_images_what_the_old_saw(rng):
    kernel, patch = rng.normal(size=(3, 3, 2, 5)), rng.normal(size=(3, 3, 2))
    before = np.einsum("pqcd,pqc->d", kernel, patch)
    grid = patch.reshape(1, 9, 2)
    larger = resample_positions(grid, (3, 3), (7, 7), "bicubic").reshape(7, 7, 2)
    after = np.einsum("pqcd,pqc->d", resample_patches(kernel, 7), larger)
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_embeddings_must_fill_their_grid():
    with pytest.raises(ValueError, match="must be \\(1, rows \\* columns, D\\)"):
        resample_positions(np.ones((1, 7, 3)), (2, 3), (4, 4))


def test_grids_of_sizes_from_elsewhere_are_found(tmp_path):
    """Positions of 4 x 4 patches with one for a token, and none for it."""
    shape = ViTConfig(15, 2, 19, 3, 2)
    model = ViT(shape, None, image_size=8, pooling="token", gelu="exact")
    save_weights_as(model, tmp_path / "vit", "timm")
    path = tmp_path / "vit" / "model.safetensors"
    (tmp_path / "vit" / "config.json").unlink()
    arrays = load_file(path)
    for start in (0, 1):
        save_file({**arrays, "pos_embed": arrays["pos_embed"][:, start:].copy()}, path)
        assert architecture(from_pretrained(path, heads=3)).grid == (4, 4)
