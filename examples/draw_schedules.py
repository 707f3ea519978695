"""The learning rates of this package as a picture: a trunk with its branches, and the others.

python examples/draw_schedules.py schedules.png
"""

import argparse

import matplotlib.figure
import numpy as np
from keras import ops

import keras_vit_scale as kvs


def draw(ax, schedule, label, start=0, stop=100_000, **style):
    steps = np.arange(start, stop + 1, 100)
    ax.plot(steps / 1000, ops.convert_to_numpy(schedule(steps)), label=label, **style)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="file to write, such as schedules.png")
    picture = parser.parse_args().picture

    figure = matplotlib.figure.Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)

    trunk = kvs.ReciprocalSqrt(8e-4)
    draw(left, trunk, "trunk: ReciprocalSqrt(8e-4)", color="black")
    for total, cooldown in ((30_000, 10_000), (60_000, 10_000), (90_000, 30_000)):
        branch = trunk.with_cooldown(total, cooldown)
        draw(left, branch, f"with_cooldown({total:_}, {cooldown:_})", total - cooldown, total)
    left.set(title="One trunk, several lengths", xlabel="thousand steps", ylabel="learning rate")

    draw(right, kvs.Constant(8e-4).with_cooldown(100_000, 30_000), "Constant, cooldown of 30_000")
    draw(right, trunk.with_cooldown(100_000, 30_000), "ReciprocalSqrt, cooldown of 30_000")
    draw(right, kvs.Linear(8e-4, decay_steps=90_000), "Linear")
    draw(right, kvs.Cosine(8e-4, decay_steps=90_000), "Cosine")
    right.set(title="100,000 steps, four ways", xlabel="thousand steps")

    for ax in (left, right):
        ax.set_ylim(0)
        ax.grid(True, linewidth=0.3)
        ax.legend(fontsize=8)
    figure.savefig(picture, dpi=120)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
