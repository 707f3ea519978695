"""`models`: the named sizes."""

from rich.console import Console
from rich.table import Table

from keras_vit_scale.cli.output import print_json
from keras_vit_scale.planning import presets_table


def models(
    image_size: int = 224,
    json: bool = False,
) -> None:
    """List the named sizes: shape, parameters and FLOPs.

    The first eleven are Table 2 of the paper; parameters and FLOPs are those of the trunk,
    without pooling and classifier, FLOPs those of one image forward.

    For example:

      keras-vit-scale models
      keras-vit-scale models --image-size 384 --json

    Args:
        image_size: Side of the images in pixels.
        json: Print JSON instead of a table.
    """
    rows = presets_table(image_size).reset_index().to_dict(orient="records")
    if json:
        print_json(rows)
        return
    table = Table(title=f"Vision Transformers at {image_size} pixels", title_justify="left")
    for title in ("name", "width", "depth", "MLP", "heads", "patch", "M parameters", "GFLOPs"):
        table.add_column(title, justify="left" if title == "name" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            *(str(row[k]) for k in ("width", "depth", "mlp_dim", "heads", "patch_size")),
            f"{row['parameters'] / 1e6:,.4g}",
            f"{row['forward_flops'] / 1e9:,.4g}",
        )
    Console().print(table)
    print("Build one with keras_vit_scale.ViT(name), or keras_vit_scale.ViT_B16() and its like.")
