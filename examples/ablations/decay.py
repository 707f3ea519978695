"""Figure 5 in small: weight decay of the head and of the body, and of three pooling heads.

    python examples/fashion_mnist/prepare.py
    python examples/ablations/decay.py fashion-mnist.npz fashion-mnist-test.npz

A small ViT learns six kinds of clothes at every pair of decays, and at every decay of the head with
each pooling. It is judged on test images of these kinds (upstream) and by a few-shot probe of four
kinds that it never saw. Each run is a folder: interrupted, the script goes on where it was. 50
runs; half an hour of one core on JAX.
"""

import matplotlib.figure
import pandas as pd
from clothes import Clothes, options

POOLINGS = {"map": "MAP", "gap": "GAP", "token": "[class] token"}


def main():
    parser = options(__doc__, seeds=[0, 1], shots=5, out="decay-ablation")
    parser.add_argument("--head", type=float, nargs="+", default=[0.03, 0.3, 3, 10, 30])
    parser.add_argument("--body", type=float, nargs="+", default=[0.03, 0.3, 3])
    parser.add_argument("--body-of-poolings", type=float, default=0.03)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()

    clothes = Clothes.named(arguments)
    grid = [("map", head, body) for body in arguments.body for head in arguments.head]
    others = [(p, head, arguments.body_of_poolings) for p in POOLINGS for head in arguments.head]
    runs = [(*run, seed) for seed in arguments.seeds for run in dict.fromkeys([*grid, *others])]
    rows = []
    for pooling, head, body, seed in runs:
        config = clothes.config(
            arguments.steps, pooling=pooling, head_decay=head, body_decay=body, seed=seed
        )
        folder = arguments.out / f"{pooling}_head-{head:g}_body-{body:g}_seed-{seed}"
        found = clothes.trained(config, folder)
        rows.append({"pooling": pooling, "head": head, "body": body, "seed": seed, **found})
        told = "  ".join(f"{name} {accuracy:.3f}" for name, accuracy in found.items())
        print(f"{pooling:>5}  head {head:<5g} body {body:<5g} seed {seed}  {told}", flush=True)

    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "decay.csv", index=False, float_format="%.4f")
    draw(table, arguments.body_of_poolings, arguments.shots, arguments.out / "decay.png")
    means = table.groupby(["pooling", "head", "body"]).mean().reset_index()
    for measure in ("few-shot", "upstream"):
        best = means.loc[means[means["pooling"] == "map"][measure].idxmax()]
        print(
            f"best {measure}: {best[measure]:.3f} at head {best['head']:g}, body {best['body']:g}"
        )


def draw(table, body_of_poolings, shots, path):
    """Heat maps of the grid, and both accuracies of each pooling against the head's decay."""
    means = table.groupby(["pooling", "head", "body"]).mean().reset_index()
    figure = matplotlib.figure.Figure(figsize=(11, 6.5), layout="constrained")
    for column, measure in enumerate(("few-shot", "upstream")):
        title = f"{shots}-shot, kinds never seen" if measure == "few-shot" else "upstream"
        grid = means[means["pooling"] == "map"].pivot(index="body", columns="head", values=measure)
        ax = figure.add_subplot(2, 2, column + 1)
        picture = ax.imshow(100 * grid, origin="lower", aspect="auto", cmap="viridis")
        middle = sum(picture.get_clim()) / 2
        for row in range(grid.shape[0]):
            for cell in range(grid.shape[1]):
                value = 100 * grid.iloc[row, cell]
                colour = "black" if value > middle else "white"
                ax.text(cell, row, f"{value:.1f}", ha="center", va="center", color=colour)
        ax.set_xticks(range(grid.shape[1]), [f"{head:g}" for head in grid.columns])
        ax.set_yticks(range(grid.shape[0]), [f"{body:g}" for body in grid.index])
        ax.set(title=f"Accuracy in %, {title}", xlabel="decay of the head", ylabel="of the body")
        below = figure.add_subplot(2, 2, column + 3)
        of_poolings = table[table["body"] == body_of_poolings]
        for pooling, name in POOLINGS.items():
            runs = of_poolings[of_poolings["pooling"] == pooling]
            line = runs.groupby("head")[measure].mean()
            (drawn,) = below.plot(line.index, 100 * line, marker="o", label=name)
            below.scatter(runs["head"], 100 * runs[measure], s=8, color=drawn.get_color())
        below.set(xscale="log", xlabel="decay of the head", ylabel=f"{title}, %")
        below.grid(True, linewidth=0.3)
        below.legend(fontsize=8, title=f"decay of the body {body_of_poolings:g}")
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
