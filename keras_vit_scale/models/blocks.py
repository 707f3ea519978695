"""The same model with ordinary layers: what Keras quantises and adapts by LoRA, block by block."""

import keras
from keras import ops

from keras_vit_scale.models.block import EPSILON, check_gelu
from keras_vit_scale.models.config import check_heads, check_positive_integers
from keras_vit_scale.models.dropping import check_rates


class _BlockLayer(keras.layers.Layer):
    """Attention, norm and MLP as layers, which `Block` and `ProbePooling` share."""

    def __init__(self, heads, mlp_dim, *, gelu="tanh", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(heads=heads, mlp_dim=mlp_dim)
        check_gelu(gelu)
        check_rates(dropout=dropout)
        self.heads = heads
        self.mlp_dim = mlp_dim
        self.gelu = gelu
        self.dropout = dropout

    def _norm(self, name):
        # In float32 whatever the policy, as in a stacked block.
        wide = keras.DTypePolicy("float32")
        return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=wide, name=name)

    def _build_layers(self, width):
        check_heads(self.heads, width)
        dtype = self.dtype_policy
        self.attention = keras.layers.MultiHeadAttention(
            self.heads, width // self.heads, dtype=dtype, name="attention"
        )
        self.mlp_norm = self._norm("mlp_norm")
        self.mlp_in = keras.layers.Dense(self.mlp_dim, dtype=dtype, name="mlp_in")
        self.mlp_out = keras.layers.Dense(width, dtype=dtype, name="mlp_out")
        tokens, hidden = (None, None, width), (None, None, self.mlp_dim)
        self.attention.build(tokens, tokens)
        self.mlp_norm.build(tokens)
        self.mlp_in.build(tokens)
        self.mlp_out.build(hidden)

    def _mlp(self, x):
        y = self.mlp_in(ops.cast(self.mlp_norm(x), x.dtype))
        return self.mlp_out(self._drop(ops.gelu(y, approximate=self.gelu == "tanh")))

    def _drop(self, y):
        return y

    def weights_by_name(self):
        """Its weights by the names of the stacked ones; kernels with LoRA merged in."""
        attention = self.attention
        weights = {}
        for name, layer in {
            "query": attention.query_dense,
            "key": attention.key_dense,
            "value": attention.value_dense,
            "out": attention.output_dense,
            "mlp_in": self.mlp_in,
            "mlp_out": self.mlp_out,
        }.items():
            weights[f"{name}_kernel"], weights[f"{name}_bias"] = layer.kernel, layer.bias
        for norm in (getattr(self, "attention_norm", None), self.mlp_norm):
            if norm is not None:
                weights[f"{norm.name}_scale"], weights[f"{norm.name}_bias"] = norm.gamma, norm.beta
        return weights
