"""Fixed positions: sines and cosines of a patch's column and row."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.models.tokens import TokenLayer, check_positions

#: How a model knows where a patch was: a learned embedding, or the sines and cosines of here.
POSITIONS = ("learned", "sincos")


def sincos_2d(rows: int, columns: int, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """Sines and cosines of positions on a grid, (rows * columns, width), in row-major order.

    The features are four equal parts: sine and cosine of the column, then of the
    row, each at width / 4 frequencies that fall geometrically from 1 to
    1 / `temperature`.

    Raises:
        ValueError: If a size is no positive integer or `width` no multiple of 4.

    Source: the layout of Chen et al., "MoCo v3" (arXiv 2104.02057), with the
    frequencies of the paper's authors' code, which reach 1 / `temperature`.

    Example:

    >>> from keras_vit_scale.models.positions import sincos_2d
    >>> sincos_2d(1, 2, 4).round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.841, 0.54, 0.0, 1.0]]
    """
    check_positive_integers(rows=rows, columns=columns, width=width)
    if width % 4:
        raise ValueError(
            "Sine and cosine positions need a width that is a multiple of 4: choose such a width, "
            f"or positions='learned'. Received: width={width}"
        )
    row, column = np.mgrid[:rows, :columns]
    frequencies = temperature ** -(np.arange(width // 4) / max(1, width // 4 - 1))
    x, y = column.reshape(-1, 1) * frequencies, row.reshape(-1, 1) * frequencies
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


@keras.saving.register_keras_serializable("keras_vit_scale")
class SinCosPositionEmbedding(TokenLayer):
    """Adds fixed two-dimensional sines and cosines to every token; it has no weights.

    Args:
        rows: Patches down an image.
        columns: Patches across.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        x: Tokens in row-major order, (B, rows * columns, D), D a multiple of 4.

    Returns:
        Tokens, (B, rows * columns, D).

    Raises:
        ValueError: If an argument is not a positive integer, the tokens do not
            fill the grid, or D is no multiple of 4.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.models import SinCosPositionEmbedding
    >>> layer = SinCosPositionEmbedding(rows=2, columns=3)
    >>> layer(np.zeros((5, 6, 8), "float32")).shape == (5, 6, 8)
    True
    """

    def __init__(self, rows: int, columns: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(rows=rows, columns=columns)
        self.rows = rows
        self.columns = columns

    def build(self, input_shape):
        super().build(input_shape)
        tokens, width = input_shape[1:]
        if tokens != self.rows * self.columns:
            raise ValueError(
                "The number of tokens must be `rows` * `columns`. "
                f"Received: tokens={tokens}, rows={self.rows}, columns={self.columns}"
            )
        self.embedding = sincos_2d(self.rows, self.columns, width)

    def call(self, x):
        check_positions(x, self.rows * self.columns)
        return x + ops.convert_to_tensor(self.embedding, dtype=x.dtype)

    def get_config(self):
        return {**super().get_config(), "rows": self.rows, "columns": self.columns}
