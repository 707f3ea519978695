"""The named sizes as a table: shape, parameters and FLOPs."""

from dataclasses import asdict

import pandas as pd

from keras_vit_scale.models.presets import SIZES, TABLE_2, preset
from keras_vit_scale.planning.flops import forward_flops
from keras_vit_scale.planning.parameters import parameters


def presets_table(image_size: int | tuple[int, int] = 224) -> pd.DataFrame:
    """The named sizes: the eleven of the paper's Table 2, then the others with patches of 14.

    Args:
        image_size: Side of the images in pixels, or (height, width).

    Returns:
        A row a model, indexed by `name`: its shape; `parameters` and `forward_flops` of the trunk,
        without pooling and classifier, the latter of one image forward.

    Example:

    >>> from keras_vit_scale.planning import presets_table
    >>> table = presets_table(image_size=224)
    >>> int(table.loc["B/16", "width"]), f"{table.loc['B/16', 'parameters']:.3g}"
    (768, '8.58e+07')
    """
    of_table_2 = {name.partition("/")[0] for name in TABLE_2}
    names = [*TABLE_2, *(f"{size}/14" for size in SIZES if size not in of_table_2)]
    rows = []
    for name in names:
        shape = preset(name)
        costs = {
            "parameters": parameters(shape, image_size),
            "forward_flops": forward_flops(shape, image_size),
        }
        rows.append({"name": name, **asdict(shape), **costs})
    return pd.DataFrame(rows).set_index("name")
