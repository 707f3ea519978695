"""From stacked blocks to ordinary layers and back, with the same weights."""

import keras
import numpy as np

from keras_vit_scale.models.block_layers import Block, BlockPooling
from keras_vit_scale.models.dropping import linear_rates
from keras_vit_scale.models.encoder import Encoder
from keras_vit_scale.models.pooling import AttentionPooling
from keras_vit_scale.types import Tensor


def to_blocks(model: keras.Model) -> keras.Model:
    """The same model with ordinary Keras layers for its stacked blocks and its MAP.

    In place of the layer `encoder` it has `block_0`, `block_1`, ...: layers `Block`
    of Keras' own attention, dense and norm layers. The other layers keep their
    names; all weights are copied. On it `model.quantize("int8")` works, and LoRA:

        for layer in model.layers:
            if isinstance(layer, Block):
                layer.attention.query_dense.enable_lora(rank=4)

    It compiles every block apart, which is slow for deep models, and is itself
    not compiled. `remat` and `unroll` have no meaning in it. Saved quantised, it loads
    quantised; of LoRA, Keras saves the kernels with what was learnt added.

    Args:
        model: A functional model, one layer of which is an `Encoder`.

    Returns:
        A functional model whose outputs in inference are those of `model`.

    Raises:
        ValueError: If the model is not functional, or not exactly one of its own
            layers is an `Encoder`; convert the inner model where it is nested.

    Example:

    >>> from keras_vit_scale.models import ViT, from_blocks, to_blocks
    >>> model = to_blocks(ViT("s/28", num_classes=3, image_size=28))
    >>> [layer.name for layer in model.layers[2:5]]
    ['position_embedding', 'block_0', 'block_1']
    >>> from_blocks(model).get_layer("encoder").depth
    6
    """
    encoder = _only_encoder(model)
    blocks = [
        Block(
            encoder.heads,
            encoder.mlp_dim,
            gelu=encoder.gelu,
            epsilon=encoder.epsilon,
            dropout=encoder.dropout,
            stochastic_depth=float(rate),
            seed=None if encoder.seed is None else encoder.seed + i,
            dtype=encoder.dtype_policy,
            name=f"block_{i}",
        )
        for i, rate in enumerate(linear_rates(encoder.stochastic_depth, encoder.depth))
    ]

    def clone(layer):
        if isinstance(layer, Encoder):
            return layer
        kind = BlockPooling if isinstance(layer, AttentionPooling) else type(layer)
        return kind.from_config(layer.get_config())

    def call(layer, x, **kwargs):
        if layer is not encoder:
            return layer(x, **kwargs)
        if encoder.dropout:
            x = keras.layers.Dropout(
                encoder.dropout,
                # That of the block after the last.
                seed=None if encoder.seed is None else encoder.seed + encoder.depth,
                dtype=encoder.dtype_policy,
                name="embedding_dropout",
            )(x)
        for block in blocks:
            x = block(x)
        return x

    converted = _clone(model, clone, call)
    for old in model.layers:
        if old is not encoder:
            new = converted.get_layer(old.name)
            if isinstance(new, BlockPooling):
                _assign(new.weights_by_name(), old.head)
            else:
                new.set_weights(old.get_weights())
    stacks: dict[str, Tensor] = {}
    encoder.save_own_variables(stacks)
    for i, block in enumerate(blocks):
        _assign(block.weights_by_name(), {name: stack[i] for name, stack in stacks.items()})
        block.trainable = encoder.trainable and i >= encoder.frozen_blocks
    return converted


def from_blocks(
    model: keras.Model, *, remat: str | None = "auto", unroll: bool = False
) -> keras.Model:
    """The stacked model of which `to_blocks` gave `model`, with its present weights.

    LoRA is merged into the kernels that it adapts. The first blocks that are not
    trainable become the encoder's frozen ones.

    Args:
        model: A functional model whose layers `Block` follow one another.
        remat: That of the new `Encoder`.
        unroll: That of the new `Encoder`.

    Raises:
        ValueError: If there are no blocks, they differ in more than their rate of
            stochastic depth, one is quantised, a frozen one comes after a trained
            one, or anything but the next block reads one.
    """
    _check_functional(model)
    blocks = [layer for layer in model.layers if isinstance(layer, Block)]
    encoder = _encoder_of(blocks, remat, unroll)
    seen = {}
    # Inputs of no model, which stand for the tokens between blocks.
    between: list[Tensor] = []

    def refuse_between(tensors):
        # Keras refuses such a model itself, but for outputs before its version 3.13.
        if any(x is token for x in keras.tree.flatten(tensors) for token in between):
            raise ValueError("A block may be connected to the next one alone. Received: another")

    def clone(layer):
        if isinstance(layer, Block):
            return layer
        if isinstance(layer, BlockPooling):
            _check_not_quantised(layer)
            return AttentionPooling.from_config(layer.get_config())
        return type(layer).from_config(layer.get_config())

    def call(layer, x, **kwargs):
        if layer.name == "embedding_dropout":
            return x
        if not isinstance(layer, Block):
            refuse_between((x, kwargs))
            return layer(x, **kwargs)
        if layer is blocks[0]:
            seen["first"] = x
        elif not between or x is not between[-1]:
            raise ValueError(
                "Each block must read the one before it. "
                f"Received: {layer.name!r}, which reads something else"
            )
        if layer is blocks[-1]:
            return encoder(seen["first"])
        between.append(keras.Input(batch_shape=x.shape, dtype=x.dtype))
        return between[-1]

    converted = _clone(model, clone, call)
    refuse_between(converted.outputs)
    for old in model.layers:
        if isinstance(old, BlockPooling):
            _assign(converted.get_layer(old.name).head, old.weights_by_name())
        elif not isinstance(old, Block) and old.name != "embedding_dropout":
            converted.get_layer(old.name).set_weights(old.get_weights())
    weights = [block.weights_by_name() for block in blocks]
    encoder.load_own_variables(
        {name: np.stack([_array(w[name]) for w in weights]) for name in weights[0]}
    )
    return converted


def _encoder_of(blocks, remat, unroll):
    """The encoder, without weights, that stands for a list of blocks."""
    if not blocks:
        raise ValueError("The model must have layers `Block`, which `to_blocks` makes.")
    for block in blocks:
        _check_not_quantised(block)
    alike = ("heads", "mlp_dim", "gelu", "epsilon", "dropout", "dtype_policy")
    for name in alike:
        values = [getattr(block, name) for block in blocks]
        if any(value != values[0] for value in values):
            raise ValueError(f"The blocks must have the same `{name}`. Received: {values}")
    trainable = [block.trainable for block in blocks]
    if trainable != sorted(trainable):
        raise ValueError(
            "Blocks that are not trainable must come before all that are. "
            f"Received: trainable={trainable}"
        )
    first, last = blocks[0], blocks[-1]
    return Encoder(
        len(blocks),
        first.heads,
        first.mlp_dim,
        gelu=first.gelu,
        epsilon=first.epsilon,
        dropout=first.dropout,
        stochastic_depth=last.stochastic_depth,
        remat=remat,
        frozen_blocks=trainable.count(False),
        unroll=unroll,
        seed=first.seed,
        dtype=first.dtype_policy,
        name="encoder",
    )


def _only_encoder(model):
    _check_functional(model)
    encoders = [layer for layer in model.layers if isinstance(layer, Encoder)]
    if len(encoders) != 1:
        names = [layer.name for layer in model.layers]
        raise ValueError(
            "One layer of the model must be an `Encoder`; of a model that holds another model, "
            f"convert that. Received: {len(encoders)} among {names}"
        )
    return encoders[0]


def _check_functional(model):
    # `clone_model` names the layers' calls for functional models only.
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(f"The model must be a functional Keras model. Received: {model!r}")


def _check_not_quantised(layer):
    quantised = [part.path for part in layer._flatten_layers() if part.quantization_mode]
    if quantised:
        raise ValueError(
            "Quantised weights cannot be stacked; convert the model before it is quantised. "
            f"Received: {quantised}"
        )


def _clone(model, clone, call):
    """A functional model of clones, uncompiled, with other calls of its layers."""
    converted = keras.models.clone_model(model, clone_function=clone, call_function=call)
    # Keras takes over the optimizer's config; its state would be lost silently.
    converted.compiled = False
    return converted


def _assign(variables, values):
    for name, variable in variables.items():
        variable.assign(_array(values[name]))


def _array(value):
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(value))
