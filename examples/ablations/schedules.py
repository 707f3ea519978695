"""Figure 7 in small: schedules without an end, cooled down at three durations, beside linear ones.

    python examples/fashion_mnist/prepare.py
    python examples/ablations/schedules.py fashion-mnist.npz fashion-mnist-test.npz

A trunk with the reciprocal square root and one with a constant rate are each cooled down at every
duration; a linear run of each duration knows its end from the beginning. Each of the three has the
peak rate with which it is best upstream at the longest duration, on images held out for that.
Ten minutes of one core on JAX.
"""

import keras
import matplotlib.figure
import numpy as np
import pandas as pd
from clothes import SIZE, Clothes, options

import keras_vit_scale as kvs
from keras_vit_scale.data import hold_out, open_source
from keras_vit_scale.evaluation import Classifier
from keras_vit_scale.runs.recipe import head_bias
from keras_vit_scale.schedules.branching import Branching
from keras_vit_scale.training.loop import train_steps

COOLDOWN = 0.2


def main():
    parser = options(__doc__, seeds=[0], shots=5, out="schedules-ablation")
    parser.add_argument("--durations", type=int, nargs="+", default=[200, 400, 800])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.004, 0.008, 0.016])
    parser.add_argument("--validation", type=int, default=2000, help="images to choose rates by")
    parser.add_argument("--size", default=SIZE)
    arguments = parser.parse_args()

    clothes = Clothes.named(arguments)
    rows = []
    for seed in arguments.seeds:
        for rate in arguments.rates:
            for form in ("rsqrt", "constant"):
                for row in compare(clothes, form, rate, seed, arguments):
                    rows.append(row)
                    print("  ".join(f"{k} {v:.4g}" if k != "schedule" else f"{v:>8}"
                          for k, v in row.items()), flush=True)  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "schedules.csv", index=False, float_format="%.4f")
    chosen = best_rates(table)
    print("peaks:", ", ".join(f"{schedule} {rate:g}" for schedule, rate in chosen.items()))
    warmup = min(arguments.durations) // 10
    draw(table, chosen, warmup, arguments.shots, arguments.out / "schedules.png")


def compare(clothes, form, rate, seed, arguments):
    """Rows of a trunk's cooldowns; of the constant one's also those of the linear runs.

    A linear run is a constant one whose cooldown begins with the end of the warm-up, so one
    compiled model serves both.
    """
    durations = sorted(arguments.durations)
    warmup = durations[0] // 10
    config = clothes.config(durations[-1], seed=seed, size=arguments.size)
    # The probe's images are none of these: those to choose the rates by.
    images, chosen_by = hold_out(open_source(clothes.data), arguments.validation)
    keras.utils.set_random_seed(seed)
    classes = len(images.class_names)
    model = kvs.ViT(
        config.shape(), classes, image_size=28, head_bias=head_bias("sigmoid", classes), name="vit"
    )
    schedule = Branching(trunk(form, rate, warmup))
    model.compile(
        kvs.Adafactor(schedule, weight_decay=kvs.head_and_body(0.3, 0.03), global_clipnorm=1.0),
        kvs.SigmoidCrossEntropy(),
    )
    model.optimizer.build(model.trainable_variables)
    begin = snapshot(model)
    never = 2**30

    def train(stop):
        train_steps(
            model, images, config.train_transform(), batch_size=config.batch_size, seed=seed,
            stop=stop,
        )  # fmt: skip

    def judged(name, duration):
        classifier = Classifier(
            model, config.eval_transform(), images.class_names, activation="sigmoid"
        )
        found = clothes.judge_model(classifier)
        held_out = classifier.evaluate(chosen_by)["accuracy"]
        return {"schedule": name, "seed": seed, "peak": rate, "steps": duration,
                "held-out": held_out, **found}  # fmt: skip

    for duration in durations:
        schedule.cool_down(never, 1)
        train(duration - round(COOLDOWN * duration))
        leave = snapshot(model)
        schedule.cool_down(duration, round(COOLDOWN * duration))
        train(duration)
        yield judged(form, duration)
        restore(model, leave)
    if form == "constant":
        for duration in durations:
            restore(model, begin)
            schedule.cool_down(duration, duration - warmup)
            train(duration)
            yield judged("linear", duration)
    keras.utils.clear_session()


def trunk(form, rate, warmup):
    """The schedule of a trunk."""
    if form == "constant":
        return kvs.Constant(rate, warmup_steps=warmup)
    return kvs.ReciprocalSqrt(rate, warmup_steps=warmup, timescale=10 * warmup)


def variables(model):
    return [*model.variables, *model.optimizer.variables]


def snapshot(model):
    """Copies of all that training changes."""
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables(model)]


def restore(model, values):
    for variable, value in zip(variables(model), values, strict=True):
        variable.assign(value)


def best_rates(table):
    """The peak of each schedule that is best at the longest duration, on the held-out images."""
    longest = table[table["steps"] == table["steps"].max()]
    means = longest.groupby(["schedule", "peak"])["held-out"].mean()
    return {schedule: means[schedule].idxmax() for schedule in ("rsqrt", "constant", "linear")}


def draw(table, chosen, warmup, shots, path):
    """Accuracies against steps, and the rates below them."""
    durations = sorted(table["steps"].unique().tolist())
    figure = matplotlib.figure.Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for schedule, style in (("rsqrt", "C0-"), ("constant", "C1-"), ("linear", "k--")):
        peak = chosen[schedule]
        rows = table[(table["schedule"] == schedule) & (table["peak"] == peak)]
        for ax, measure in zip(axes[0], ("few-shot", "upstream"), strict=True):
            line = rows.groupby("steps")[measure].mean()
            ax.plot(line.index, 100 * line, style, marker="o", label=f"{schedule}, peak {peak:g}")
            title = f"{shots}-shot, kinds never seen" if measure == "few-shot" else "upstream"
            ax.set(title=f"Accuracy in %, {title}")
            ax.legend(fontsize=8)
        below = axes[1][1 if schedule == "linear" else 0]
        steps = np.arange(durations[-1] + 1)
        whole = trunk("constant" if schedule == "linear" else schedule, peak, warmup)
        for duration in durations:
            cooldown = duration - warmup if schedule == "linear" else round(COOLDOWN * duration)
            rate = whole.with_cooldown(duration, cooldown)
            on = steps if duration == durations[-1] else steps[duration - cooldown :]
            on = on[on <= duration]
            below.plot(on, keras.ops.convert_to_numpy(rate(on)), style, linewidth=1)
        below.set(xlabel="steps", ylabel="learning rate")
    for ax in axes.flat:
        ax.grid(True, linewidth=0.3)
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
