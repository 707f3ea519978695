"""Every public class that Keras stores comes back from JSON, from a copy and from a file."""

import copy
import importlib
import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
from collections import namedtuple

import keras
import numpy as np
import pytest
from conftest import TINY, as_numpy, randomise

import keras_vit_scale
from keras_vit_scale import ViT, ViTConfig, models, optimizers, schedules, training
from keras_vit_scale.models import to_blocks

Case = namedtuple("Case", "kind options shape", defaults=(None,))

BLOCK = {"heads": 3, "mlp_dim": 7, "gelu": "exact", "epsilon": 1e-5, "name": "other",
         "dtype": "mixed_bfloat16", "trainable": False}  # fmt: skip
DROPS = {"dropout": 0.1, "stochastic_depth": 0.2, "seed": 5}
OF_LAYER = {"name": "other", "dtype": "mixed_bfloat16", "trainable": False}
OF_SCHEDULE = {"peak": 0.3, "warmup_steps": 5, "total_steps": 41, "cooldown_steps": 17}
OF_OPTIMIZER = {
    "weight_decay": {"^head": 0.3, "kernel$": 0.1}, "momentum_dtype": "float32", "name": "other",
    "record_norms": True, "clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.5,
    "ema_overwrite_frequency": 3, "ema_at_end": False, "loss_scale_factor": 8.0,
}  # fmt: skip
OF_ADAFACTOR = {
    "learning_rate": 0.1, "momentum": 0.8, "beta_2_exponent": 0.7, "beta_2_cap": 0.9,
    "epsilon": 1e-20, "min_dim_size_to_factor": 3,
}  # fmt: skip

#: Each class with no argument as it is by default, and the shape of a layer's input.
CASES = [
    Case(models.PatchEmbedding, {"width": 5, "patch_size": 2, **OF_LAYER}, (3, 4, 6, 2)),
    Case(models.PositionEmbedding, OF_LAYER, (3, 5, 6)),
    Case(models.SinCosPositionEmbedding, {"rows": 2, "columns": 3, **OF_LAYER}, (3, 6, 8)),
    Case(models.ClassToken, OF_LAYER, (3, 5, 6)),
    Case(
        models.Encoder,
        {"depth": 2, "remat": "full", "frozen_blocks": 1, "unroll": True, **BLOCK, **DROPS},
        (3, 5, 6),
    ),
    Case(models.Block, {**BLOCK, **DROPS}, (3, 5, 6)),
    Case(models.AttentionPooling, BLOCK, (3, 5, 6)),
    Case(models.BlockPooling, BLOCK, (3, 5, 6)),
    Case(models.TokenPooling, OF_LAYER, (3, 5, 6)),
    Case(optimizers.Adafactor, {**OF_ADAFACTOR, **OF_OPTIMIZER}),
    Case(
        optimizers.AdamW,
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-6, **OF_OPTIMIZER},
    ),
    Case(optimizers.Momentum, {"learning_rate": 0.1, "momentum": 0.8, **OF_OPTIMIZER}),
    Case(schedules.Constant, OF_SCHEDULE),
    Case(schedules.Cosine, {"decay_steps": 23, "final": 0.1, **OF_SCHEDULE}),
    Case(schedules.Linear, {"decay_steps": 23, "final": 0.1, **OF_SCHEDULE}),
    Case(schedules.ReciprocalSqrt, {"timescale": 7, **OF_SCHEDULE}),
    Case(
        training.SigmoidCrossEntropy,
        {"label_smoothing": 0.1, "reduction": "sum", "name": "other", "dtype": "float64"},
    ),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.__name__)
LAYERS = pytest.mark.parametrize(
    "case", [case for case in CASES if case.shape], ids=lambda case: case.kind.__name__
)

#: The public classes that no file of Keras holds, by the reason.
NOT_STORED = {
    "an abstract base: its subclasses are stored": ["Schedule"],
    "a callback, which Keras stores nowhere": [
        "CSVLog", "Checkpoints", "Cooldown", "EvaluateEvery", "FewShotEvery", "FiniteLoss",
        "LearningRate", "LossSpikes", "Norms",
        "StepCallback", "StepLogger", "TensorBoardLog", "Throughput", "WandbLog",
    ],
    "what saves and stops training, and keeps no state of its own": [
        "CheckpointStore", "Keep", "Stopping",
    ],
    "an error": [
        "BadImageError", "BadShardError", "DivergedError", "OutOfMemoryError", "PartsMissingError",
        "RunError", "SearchError", "Stopped", "StudyError", "TooManyBadImagesError", "WeightsError",
    ],
    "a source or a transformation of images, which reads and keeps no weights": [
        "ArrayRecordShards", "ArraySource", "Augmentation", "EvalTransform", "Excluding",
        "Exclusions", "HuggingFaceDataset", "ImageFolder", "Mixture", "ParquetShards", "ReplaceBad",
        "Source", "Subset", "TFDSSource", "TFRecordShards", "TarShards", "TrainTransform",
        "WithAncestors",
    ],
    "a description of a model, a machine or work to do": [
        "Accelerator", "Architecture", "DataConfig", "FewShot", "FineTune", "ProbeConfig",
        "RecipeConfig", "StudyConfig", "Task", "TrainConfig", "ViTConfig",
    ],
    "a result of measurements": [
        "AcceptedImages", "Calibration", "ErrorSurface", "ExportCheck", "FewShotResult",
        "DoubleSaturatingLaw", "FrontierFit", "JointLaw", "Law", "LearningCurve", "PowerLaw",
        "PowerLawWithFloor", "SigmoidalLaw",
    ],
    "how a model lies on devices, which a process says anew": ["Cuts", "MeshParallel"],
    "what is estimated of a training step": ["Estimate", "Estimator", "LargestBatch", "Memory"],
    "a search for shapes or hyperparameters, which has a folder of its own": [
        "Probe", "RecipeHyperModel", "RunHyperModel", "RunTuner", "Setting", "ViTHyperModel",
    ],
    "a training step ahead of time, and what its compiler told": [
        "Collective", "CompiledStep", "LoweredStep", "StepMemory", "StepPlan",
    ],
    "an answer to a question about a budget": ["Advice", "Budget", "Plan"],
    "a classifier, which has a file format of its own": ["Classifier"],
}  # fmt: skip


def public_classes():
    """The classes in `__all__` of the package and of its subpackages."""
    found = {}
    names = [m.name for m in pkgutil.iter_modules(keras_vit_scale.__path__) if m.ispkg]
    for module in (keras_vit_scale, *(f"keras_vit_scale.{name}" for name in names)):
        module = importlib.import_module(module) if isinstance(module, str) else module
        values = {name: getattr(module, name) for name in module.__all__}
        found |= {name: value for name, value in values.items() if inspect.isclass(value)}
    return found


def test_every_public_class_is_stored_or_said_not_to_be():
    classes = public_classes()
    stored = {case.kind.__name__ for case in CASES}
    exempt = [name for names in NOT_STORED.values() for name in names]
    assert sorted([*stored, *exempt]) == sorted(classes)
    registered = {
        name.partition(">")[2]
        for name in keras.saving.get_custom_objects()
        if name.startswith("keras_vit_scale>")
    }
    assert registered == stored
    kinds = (keras.layers.Layer, keras.optimizers.Optimizer, keras.losses.Loss)
    assert not [name for name in exempt if issubclass(classes[name], kinds)]


def arguments_of(kind):
    """What can be given to a class by name, with its default; of Keras' own layers these few."""
    found = {"name": None, "dtype": None, "trainable": True}
    if not issubclass(kind, keras.layers.Layer):
        found = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("keras_vit_scale") and "__init__" in vars(each):
            for name, p in inspect.signature(each.__init__).parameters.items():
                if name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                    found[name] = p.default
    return found


@EVERY
def test_every_argument_is_stored(case):
    """So that a new argument that `get_config` forgets fails, each case gives it another value."""
    arguments = arguments_of(case.kind)
    # Of three clips one may be given, and Keras adds moments up in no more ways than one; what
    # skips goes with no overwriting by averages: test_skip_nonfinite has it stored.
    arguments = {
        name: default
        for name, default in arguments.items()
        if name
        not in ("clipvalue", "global_clipnorm", "gradient_accumulation_steps", "skip_nonfinite")
    }
    assert case.options.keys() == arguments.keys()
    assert not [n for n, default in arguments.items() if case.options[n] == default]
    config = case.kind(**case.options).get_config()
    for name, value in case.options.items():
        stored = config[name]
        if name == "dtype" and case.shape:
            stored = stored["config"]["name"]
        assert stored == (pytest.approx(value) if isinstance(value, float) else value), name


def through_json(thing):
    text = json.dumps(keras.saving.serialize_keras_object(thing))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(thing)
    assert again.get_config() == thing.get_config()
    return again


def behaviour(thing, rng):
    """Numbers that two objects of one config share."""
    if isinstance(thing, keras.optimizers.Optimizer):
        shapes = {"head_kernel": (5, 7), "body_kernel": (3, 2), "bias": (3,)}
        values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        variables = [keras.Variable(v, name=name) for name, v in values.items()]
        thing.build(variables)
        for _ in range(3):
            thing.apply([keras.ops.convert_to_tensor(v + rng.normal(), "float32")
                         for v in values.values()])  # fmt: skip
        return variables
    if isinstance(thing, keras.losses.Loss):
        return [thing(np.array([4, 0, 2]), rng.normal(size=(3, 5)))]
    return [thing(step) for step in (0, 3, 17, 40)]


@EVERY
def test_comes_back_from_json_and_does_the_same(case):
    thing = case.kind(**case.options)
    again = through_json(thing)
    if case.shape:
        return  # A layer's behaviour is its weights': below.
    for a, b in zip(*(behaviour(t, np.random.default_rng(3)) for t in (thing, again)), strict=True):
        np.testing.assert_array_equal(as_numpy(a), as_numpy(b))


@LAYERS
def test_layers_come_back_with_their_weights_from_json_and_copies(case, rng):
    x = rng.normal(size=case.shape).astype("float32")
    layer = case.kind(**case.options)
    layer.build(case.shape)
    randomise(layer, rng)
    twin = through_json(layer)
    twin.set_weights(layer.get_weights())
    expected = as_numpy(keras.ops.cast(layer(x), "float32"))
    assert tuple(layer.compute_output_shape(case.shape)) == expected.shape
    for other in (twin, copy.deepcopy(layer)):
        assert [v.trainable for v in other.weights] == [v.trainable for v in layer.weights]
        np.testing.assert_array_equal(as_numpy(keras.ops.cast(other(x), "float32")), expected)


@LAYERS
def test_dtype_policies_may_be_objects(case):
    options = {name: value for name, value in case.options.items() if name != "dtype"}
    for policy in (
        keras.DTypePolicy("mixed_bfloat16"),
        keras.dtype_policies.DTypePolicyMap("mixed_bfloat16"),
    ):
        assert through_json(case.kind(**options, dtype=policy)).compute_dtype == "bfloat16"


# Models


SIDES = (4, 6)


def saved_models(rng):
    """Models that between them have every layer, and all our optimizers with some state."""
    rate = schedules.Cosine(0.1, decay_steps=50)
    decay = optimizers.head_and_body(0.3, 0.03)
    fixed = ViTConfig(width=12, depth=1, mlp_dim=7, heads=3, patch_size=2)
    stacked = ViT(TINY, 5, image_size=SIDES)
    saved = {
        "map": (stacked, optimizers.Adafactor(rate, weight_decay=decay)),
        "token": (
            ViT(TINY, 5, image_size=SIDES, pooling="token", frozen_blocks=1),
            optimizers.AdamW(rate, use_ema=True),
        ),
        "gap": (
            ViT(fixed, 5, image_size=SIDES, pooling="gap", positions="sincos"),
            keras.optimizers.LossScaleOptimizer(optimizers.Momentum(rate)),
        ),
        "blocks": (to_blocks(stacked), keras.optimizers.SGD(schedules.ReciprocalSqrt(0.1))),
    }
    for model, optimizer in saved.values():
        randomise(model, rng)
        model.compile(optimizer, training.SigmoidCrossEntropy(0.1))
        optimizer.build(model.trainable_variables)
        for slot in optimizer.variables:
            slot.assign(rng.integers(1, 99, size=slot.shape))
    return {name: model for name, (model, _) in saved.items()}


#: A fresh process that knows the package by its name alone.
LOAD = """
import keras_vit_scale, json, keras, numpy as np
for name, config in json.load(open("optimizers.json")).items():
    data = np.load(name + ".npz")
    model = keras.saving.load_model(name + ".keras")
    logits = keras.ops.convert_to_numpy(model(data["images"]))
    np.testing.assert_array_equal(logits, data["logits"], err_msg=name)
    assert keras.optimizers.serialize(model.optimizer) == config, name
    assert type(model.loss).__name__ == "SigmoidCrossEntropy" and model.loss.label_smoothing == 0.1
    for i, slot in enumerate(model.optimizer.variables):
        value = keras.ops.convert_to_numpy(slot.value).astype("float32")
        np.testing.assert_array_equal(value, data[str(i)], err_msg=slot.path)
"""


@pytest.mark.slow
def test_saved_models_load_in_a_fresh_process(rng, tmp_path):
    configs, images = {}, rng.normal(size=(3, *SIDES, 3)).astype("float32")
    for name, model in saved_models(rng).items():
        model.save(tmp_path / f"{name}.keras")
        configs[name] = keras.optimizers.serialize(model.optimizer)
        slots = {
            str(i): as_numpy(v).astype("float32") for i, v in enumerate(model.optimizer.variables)
        }
        arrays = {"images": images, "logits": as_numpy(model(images)), **slots}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "optimizers.json").write_text(json.dumps(configs))
    subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, check=True)


def test_models_are_copied_cloned_and_pickled_with_what_is_frozen(rng):
    images = rng.normal(size=(3, *SIDES, 3)).astype("float32")
    model = ViT(TINY, 5, image_size=SIDES, dropout=0.1, seed=3)
    randomise(model, rng)
    model.get_layer("encoder").freeze(1)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    again = keras.Model.from_config(json.loads(model.to_json())["config"])
    assert again.to_json() == model.to_json() == clone.to_json()
    for other in (clone, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(as_numpy(other(images)), as_numpy(model(images)))
        assert [v.path for v in other.trainable_weights] == [
            v.path for v in model.trainable_weights
        ]
        assert {v.stack_axis for v in other.get_layer("encoder").trainable_weights} == {0}


@pytest.mark.slow
def test_a_quantised_model_is_saved_and_loaded_quantised_or_refused(rng, tmp_path):
    """Keras' `MultiHeadAttention` alone does not: its file is refused."""
    images = rng.normal(size=(3, *SIDES, 3)).astype("float32")
    config = ViTConfig(width=6, depth=1, mlp_dim=7, heads=3, patch_size=2)
    model = to_blocks(ViT(config, 5, image_size=SIDES, pooling="gap"))
    randomise(model, rng)
    # Inputs are quantised too, but not those of the last: the second loses what the first keeps.
    model.get_layer("block_0").mlp_in.quantize("int8")
    model.get_layer("block_0").attention.query_dense.quantize("int8")
    if not hasattr(keras.quantizers, "Int8QuantizationConfig"):  # before Keras 3.15
        with pytest.raises(ValueError, match=r"3.15 or later.*Received: Keras 3\.1"):
            model.save(tmp_path / "model.keras")
        return
    weights_alone = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    model.get_layer("block_0").mlp_out.quantize(config=weights_alone)
    expected = as_numpy(model(images))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, clone):
        layers = other.get_layer("block_0").dense_layers()
        assert [n for n, layer in layers.items() if layer.quantization_mode == "int8"] == [
            "query", "mlp_in", "mlp_out",
        ]  # fmt: skip
        np.testing.assert_array_equal(as_numpy(other(images)), expected)


@pytest.mark.parametrize("kind", [models.Encoder, models.AttentionPooling])
def test_stacked_weights_refuse_a_quantised_dtype(kind):
    options = next(case.options for case in CASES if case.kind is kind)
    with pytest.raises(ValueError, match=r"cannot be quantised.*to_blocks"):
        kind(**{**options, "dtype": "int8_from_float32"})
