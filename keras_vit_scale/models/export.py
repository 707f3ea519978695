"""From a model to a file that other runtimes run: ONNX, TensorFlow's SavedModel and LiteRT.

What is written is the forward pass of the model with ordinary layers for its stacked blocks, in
float32: converters understand these best, and Keras quantises no others.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.models.conversion import to_blocks
from keras_vit_scale.models.encoder import Encoder

#: The formats by the ends of their names; a SavedModel is a folder.
SUFFIXES = {".onnx": "onnx", ".tflite": "litert", "": "saved_model"}


@dataclass(frozen=True)
class Route:
    """How a backend comes to a format: the packages it takes, and what it cannot do."""

    packages: tuple[str, ...] = ()
    int8: bool = False
    any_batch: bool = True


#: What works, found by running it (Keras 3.15). Of the rest, Keras refuses LiteRT on JAX, and its
#: SavedModel on PyTorch fails. In int8, runtimes refuse what JAX writes as ONNX.
ROUTES = {
    ("onnx", "jax"): Route(("jax2onnx",)),
    ("onnx", "tensorflow"): Route(("onnx", "tf2onnx"), int8=True),
    ("onnx", "torch"): Route(("onnx", "onnxscript"), int8=True),
    ("saved_model", "jax"): Route(("tensorflow",), int8=True),
    ("saved_model", "tensorflow"): Route(int8=True),
    ("litert", "tensorflow"): Route(int8=True),
    ("litert", "torch"): Route(("litert-torch",), any_batch=False),
}

#: What runs each format.
RUNTIMES = {"onnx": "onnxruntime", "saved_model": "tensorflow", "litert": "ai-edge-litert"}


def export_model(
    model: keras.Model,
    path: str | Path,
    *,
    format: str | None = None,
    int8: bool = False,
    batch_size: int | None = None,
) -> None:
    """Writes a model for another runtime, from images (B, H, W, 3) in [-1, 1] to its outputs.

    Weights cross backends unchanged, so where this one cannot write a format, load the
    saved model on one that can.

    Args:
        model: A functional model with one `Encoder`, or one of `to_blocks`, quantised or
            not. Models that compute in half precision are written in float32.
        path: Where to: `.onnx`, `.tflite`, or a folder, whose name has no dot, for a
            SavedModel. What is there is overwritten.
        format: "onnx", "litert" or "saved_model"; by default what the path ends in says.
        int8: Quantise the dense layers' weights, and but for LiteRT their inputs.
        batch_size: So many images at once and no others; by default any number.

    Raises:
        ValueError: If the path does not fit the format, or this backend cannot write it,
            its int8 form or one for any number of images; it says which backend can.
        ImportError: If a package is missing; it says what to install.

    Example (`docs/export.md` has more):

    >>> from keras_vit_scale.models import ViT, export_model
    >>> export_model(ViT("mu/8", 10, image_size=16), "vit.pb")
    Traceback (most recent call last):
        ...
    ValueError: The path must end in .onnx, in .tflite or without a suffix. Received: 'vit.pb'
    """
    path = Path(path)
    format = check_route(path, format, int8=int8 or _is_quantised(model), batch_size=batch_size)
    blocks = float32_blocks(model)
    if int8:
        quantise(blocks, format)
    _, height, width, channels = model.input_shape
    signature = [keras.InputSpec(shape=(batch_size, height, width, channels), dtype="float32")]
    if format == "onnx" and keras.backend.backend() == "torch":
        _torch_onnx(blocks, path, signature[0].shape)
        return
    if format == "onnx" and keras.backend.backend() == "tensorflow":
        _teach_tf2onnx_erfc()
    # Keras wants a string where it looks at the name's end.
    blocks.export(
        str(path),
        format="tf_saved_model" if format == "saved_model" else format,
        verbose=False,
        input_signature=signature,
    )


def check_route(
    path: Path, format: str | None, *, int8: bool = False, batch_size: int | None = None
) -> str:
    """The format that is to be written, if it can be; see `export_model` for the errors."""
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"The path must end in .onnx, in .tflite or without a suffix. Received: {str(path)!r}"
        )
    format = SUFFIXES[path.suffix] if format is None else format
    if format != SUFFIXES[path.suffix]:
        raise ValueError(
            f"`format` must be one of {tuple(RUNTIMES)} and the one that the path's end says. "
            f"Received: format={format!r} for {str(path)!r}"
        )
    if not path.parent.is_dir():
        raise ValueError(f"The folder of the path must exist. Received: {str(path)!r}")
    if batch_size is not None:
        check_positive_integers(batch_size=batch_size)
    backend = keras.backend.backend()
    able = {b: route for (f, b), route in ROUTES.items() if f == format}
    if int8:
        able = {b: route for b, route in able.items() if route.int8}
    if batch_size is None:
        able = {b: route for b, route in able.items() if route.any_batch}
    if backend not in able:
        what = f"{format} in int8" if int8 else format
        fixed = batch_size is None and (format, backend) in ROUTES and not int8
        cure = f"give a `batch_size`, or use {' or '.join(able)}" if fixed else " or ".join(able)
        raise ValueError(
            f"{what} for {batch_size or 'any number of'} images at once cannot be written with "
            f"{backend}: {cure} (set KERAS_BACKEND; a saved model loads on any). "
            f"Received: {str(path)!r}"
        )
    missing = [name for name in able[backend].packages if not is_installed(name)]
    if missing:
        raise ImportError(
            f"{format} from {backend} needs {' and '.join(missing)}: "
            f"run `pip install {' '.join(missing)}`."
        )
    return format


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package.replace("-", "_")) is not None
    except ModuleNotFoundError:
        return False


def float32_blocks(model: keras.Model) -> keras.Model:
    """The model that is exported: one layer a block, computing in float32.

    A model that already is so, such as one of `to_blocks`, is returned as it is.

    Example:

    >>> from keras_vit_scale.models import ViT
    >>> from keras_vit_scale.models.export import float32_blocks
    >>> model = float32_blocks(ViT("mu/8", 10, image_size=16, dtype="mixed_bfloat16"))
    >>> model.get_layer("block_0").compute_dtype
    'float32'
    """
    if any(isinstance(layer, Encoder) for layer in model.layers):
        model = to_blocks(model)
    if _is_quantised(model) or all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def in_float32(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    converted = keras.models.clone_model(model, clone_function=in_float32)
    for old, new in zip(model.weights, converted.weights, strict=True):
        new.assign(keras.ops.cast(old, "float32"))
    return converted


def quantise(blocks: keras.Model, format: str) -> None:
    """Makes the weights of a model's dense layers int8, as a format can hold it."""
    with warnings.catch_warnings():
        # One for each layer, such as a norm, that has no int8 form.
        warnings.filterwarnings("ignore", message=".*quantize")
        if format == "litert":
            if not hasattr(keras.quantizers, "Int8QuantizationConfig"):
                raise ValueError(
                    "LiteRT in int8 is written with Keras 3.15 or later: upgrade Keras, or write "
                    f"it in float32. Received: Keras {keras.__version__}"
                )
            # LiteRT's converter has no integer products for inputs quantised by Keras.
            weights_alone = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
            blocks.quantize(config=weights_alone)
        else:
            blocks.quantize("int8")


def _is_quantised(model):
    return any(layer.quantization_mode for layer in model._flatten_layers())


def _torch_onnx(model, path, shape):
    """ONNX by `torch.onnx` itself; Keras' own way fixes the number of images or fails."""
    import torch

    class Forward(torch.nn.Module):
        # A signature of one tensor, to name its dynamic axis by: a Keras model takes `*args`.
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, image):
            return self.model(image, training=False)

    count, *sides = shape
    # PyTorch takes an axis of length 1 for a constant.
    example = keras.ops.zeros((count or 2, *sides), "float32")
    program = torch.onnx.export(
        Forward().eval(),
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=None if count else ({0: torch.export.Dim("batch")},),
    )
    program.optimize()
    program.save(path)


@functools.cache
def _teach_tf2onnx_erfc():
    """TensorFlow's exact GELU is made of erfc, which ONNX and tf2onnx 1.17 do not have."""
    from tf2onnx.handler import tf_op
    from tf2onnx.utils import make_name

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx, node, **kwargs):
            shapes, dtypes = node.output_shapes, node.output_dtypes
            erf = ctx.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
            one = ctx.make_const(make_name("one"), np.ones((), np.float32))
            ctx.remove_node(node.name)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                shapes=shapes,
                dtypes=dtypes,
            )


def load_exported(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function that an exported file computes, run on the CPU by its own runtime.

    Args:
        path: What `export_model` wrote.

    Returns:
        A function of images, float32 (N, H, W, 3) in [-1, 1], to the outputs.

    Raises:
        ValueError: If the path exists not or ends in no known way.
        ImportError: If the runtime is missing; it says what to install.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.exists():
        raise ValueError(
            "An exported model must exist and end in .onnx, in .tflite or without a suffix. "
            f"Received: {str(path)!r}"
        )
    format = SUFFIXES[path.suffix]
    if not has_runtime(format):
        raise ImportError(
            f"{format} is run by {RUNTIMES[format]}: run `pip install {RUNTIMES[format]}`."
        )
    return {"onnx": _open_onnx, "saved_model": _open_saved_model, "litert": _open_litert}[format](
        path
    )


def has_runtime(format: str) -> bool:
    """Whether what runs a format is installed."""
    return is_installed(RUNTIMES[format])


def _open_onnx(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    count = image.shape[0] if isinstance(image.shape[0], int) else None
    return _in_batches(lambda images: session.run(None, {image.name: images})[0], count)


def _open_saved_model(path):
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    (image,) = model.serve.input_signature or (None,)
    count = None if image is None else image.shape[0]
    return _in_batches(lambda images: model.serve(images).numpy(), count)


def _open_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (image,) = interpreter.get_input_details()
    count = int(image["shape_signature"][0])

    def run(images):
        if count < 0:
            interpreter.resize_tensor_input(image["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return _in_batches(run, count if count > 0 else None)


def _in_batches(run, count):
    """A function of any number of images, by one that takes just `count`, or any where None."""
    if count is None:
        return run

    def run_all(images):
        full = -len(images) % count
        padded = np.concatenate([images, np.zeros((full, *images.shape[1:]), images.dtype)])
        outputs = [run(padded[i : i + count]) for i in range(0, len(padded), count)]
        return np.concatenate(outputs)[: len(images)]

    return run_all
