"""Which shapes fit a device under the settings of the paper's Figure 8, and with which batch.

    python examples/shapes_that_fit.py
    python examples/shapes_that_fit.py --device "RTX 4090" --batch-size 32 --figure shapes.png

Some seconds; nothing is trained, and the device need not be there.
"""

import argparse

from keras_vit_scale.planning import draw_shapes, estimate, max_batch, search_shapes

GIB = 2**30


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="TPU v3 core")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--widths", type=int, nargs="*", default=range(512, 2049, 128))
    parser.add_argument("--depths", type=int, nargs="*", default=(8, 16, 24, 32, 40, 48, 64, 100))
    parser.add_argument("--mlp-dims", type=int, nargs="*", default=(2048, 4096, 6144, 8192))
    parser.add_argument("--figure", metavar="FILE.png")
    arguments = parser.parse_args()

    settings = {"device": arguments.device, "dtype": "mixed_bfloat16", "remat": "full"}
    print(f"Largest batches on one {arguments.device}, with Adafactor")
    for size in ("B/16", "L/16", "g/14", "G/14"):
        try:
            found = max_batch(size, **settings)
            print(f"  {size:5} {found.batch_size:6,} images, {found.needed / GIB:.2f} GiB")
        except ValueError:
            needed = estimate(size, 1, **settings).needed
            print(f"  {size:5} does not fit: {needed / GIB:.2f} GiB for one image")

    table = search_shapes(
        device=arguments.device,
        batch_size=arguments.batch_size,
        widths=arguments.widths,
        depths=arguments.depths,
        mlp_dims=arguments.mlp_dims,
        heads=[16],
    )
    print(f"Shapes that fit, of {len(table) // table.setting.nunique()}")
    for name, mine in table.groupby("setting", sort=False):
        fitting = mine[mine.fits]
        most = fitting.parameters.max() / 1e6 if len(fitting) else 0
        print(f"  {name:29} {len(fitting):4}, up to {most:,.0f} million parameters")
    if arguments.figure:
        draw_shapes(table, arguments.figure)
        print(f"wrote {arguments.figure}")


if __name__ == "__main__":
    main()
