"""Table 3 in small: resolution and patch scaled together, at the same number of tokens.

    python examples/fashion_mnist/prepare.py
    python examples/ablations/resolution.py fashion-mnist.npz fashion-mnist-test.npz

A ViT with 49 tokens and one with 16 each see the images at three resolutions, whose patches grow
with them; 28 pixels are those of the files. Judged upstream and by the few-shot probe. Each run is
a folder: interrupted, the script goes on where it was. Ten minutes of one core on JAX.
"""

import pandas as pd
from clothes import Clothes, options

#: Patches a side, and the patch sizes to compare.
SCALES = {7: (2, 4, 8), 4: (4, 7, 14)}


def main():
    parser = options(__doc__, seeds=[0], shots=10, out="resolution-ablation")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SCALES))
    arguments = parser.parse_args()

    clothes = Clothes.named(arguments)
    rows = []
    for seed in arguments.seeds:
        for side in arguments.sides:
            for patch in SCALES[side]:
                pixels = side * patch
                config = clothes.config(
                    arguments.steps,
                    size=f"width={arguments.width},depth={arguments.depth},"
                    f"mlp_dim={4 * arguments.width},heads=2,patch_size={patch}",
                    image_size=pixels,
                    # The same part of the image.
                    max_shift=max(1, round(pixels / 14)),
                    seed=seed,
                )
                folder = arguments.out / f"{pixels}-pixels_patch-{patch}_seed-{seed}"
                found = clothes.trained(config, folder)
                rows.append({"tokens": side**2, "pixels": pixels, "patch": patch, "seed": seed})
                rows[-1] |= found
                told = "  ".join(f"{name} {accuracy:.3f}" for name, accuracy in found.items())
                print(f"{side**2} tokens: patch {patch} at {pixels} pixels  {told}", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "resolution.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
