"""A training step of ours beside other packages' Vision Transformers of the same size.

    python benchmarks/train_step.py --preset S/16 --backend jax --batch 8 --rounds 3

Measured: images a second, the time to the first step (from the start of building the model to the
end of the first step, compilation included, imports not) and the peak of memory: of the device on
a GPU; on a CPU that of the process, of which only what building and training added is compared,
since packages differ in what they import.

How: each contestant runs in a fresh process, and a round runs ours, then every peer. All get the
same random images from the host's memory at every step, the same sizes with a class token, softmax
cross-entropy over 1,000 classes, and AdamW of their framework, without dropout. Keras models run
through `fit`, as their users run them, with a callback as the clock; peers of other frameworks
through their usual loop. The clock waits for the device where a window of steps ends; a process
counts with the median of its windows. Machines are noisy: quote the ratios, each taken within
a round. A ratio above 1 says that the peer is slower, later or larger than ours.

Peers: `keras_hub` (same backend), `timm` (PyTorch, eager), `timm_compiled` (torch.compile) and
`flax` (the Flax ViT of transformers 4). One that is not installed is left out, with the command
that installs it; `--python timm=PATH` runs it with another environment's interpreter:

    python -m venv .peers && .peers/bin/pip install "keras-hub" "timm" "transformers<5" flax optax
    python benchmarks/train_step.py --python keras_hub=.peers/bin/python ...

"of product" is the model's FLOPs a second (3 forward passes, matrix products alone) over the best
rate at which any contestant's framework multiplied two large matrices of that dtype in this run;
the last line also gives ours as a fraction of the peak that the maker of the device publishes.

On two CPU cores a round of S/16 with one peer takes about two minutes, of B/16 about five. On a GPU
take `--dtype mixed_bfloat16`, a batch that fills it, and `--steps 30`.
"""

import argparse
import json
import statistics

from contestants import CONTESTANTS
from peers import add_options, call, check_options, median, ratio, report

from keras_vit_scale.models import preset
from keras_vit_scale.planning import forward_flops, recognised, training_flops

CLASSES = 1000

#: Peers that run on the framework that is a backend's own.
PEERS = {
    "jax": ["keras_hub", "flax"],
    "tensorflow": ["keras_hub"],
    "torch": ["keras_hub", "timm"],
}


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--preset", type=preset, default="S/16", help="size/patch, such as B/16")
    add("--backend", choices=sorted(PEERS), default="jax", help="of ours and of keras_hub")
    add("--peers", nargs="*", choices=sorted(set(CONTESTANTS) - {"ours"}),
        help="by default those that run on the backend's framework")  # fmt: skip
    add("--batch", type=int, default=8, help="images a step")
    add("--dtype", choices=["float32", "mixed_bfloat16"], default="float32")
    add("--steps", type=int, default=3, help="steps of a window, between two waits for the device")
    add("--windows", type=int, default=3, help="windows timed in a process")
    add("--options", type=json.loads, default={}, metavar="JSON",
        help="further arguments of our ViT, such as '{\"unroll\": true}'")  # fmt: skip
    add("--matrix", type=int, default=2048, help="side of the matrices of the plain product")
    add_options(parser)
    arguments = parser.parse_args(arguments)
    check_options(parser, arguments, CONTESTANTS, ("batch", "steps", "windows", "matrix"))
    if arguments.peers is None:
        arguments.peers = PEERS[arguments.backend]
    return arguments


def measure(contestant, arguments):
    """What a fresh process of contestants.py prints of one contestant."""
    shape = arguments.preset
    settings = {
        "contestant": contestant, "backend": arguments.backend, "options": arguments.options,
        "width": shape.width, "depth": shape.depth, "mlp_dim": shape.mlp_dim,
        "heads": shape.heads, "patch_size": shape.patch_size, "image_size": arguments.image_size,
        "classes": CLASSES, "batch_size": arguments.batch, "dtype": arguments.dtype,
        "steps": arguments.steps, "windows": arguments.windows, "matrix": arguments.matrix,
    }  # fmt: skip
    packages = CONTESTANTS[contestant].packages
    result = call("contestants.py", contestant, packages, settings, arguments)
    if result is not None:
        result["step"] = statistics.median(result["windows"])
    return result


def compete(arguments):
    """The results of every contestant present, one a round."""
    results = {}
    contestants = ["ours", *arguments.peers]
    for turn in range(arguments.rounds):
        for contestant in list(contestants):
            result = measure(contestant, arguments)
            if result is None:
                contestants.remove(contestant)
                continue
            results.setdefault(contestant, []).append(result)
            print(
                f"round {turn + 1}: {contestant}: step {1e3 * result['step']:.1f} ms, "
                f"first {result['first']:.1f} s, memory added {megabytes(result['added_memory'])}",
                flush=True,
            )
    return results


def megabytes(count):
    return "-" if count is None else f"{count / 1e6:.0f} MB"


def table(results, arguments):
    """The results as lines of Markdown."""
    ours = results["ours"]
    flops = training_flops(
        forward_flops(
            arguments.preset, arguments.image_size, pooling="token", num_classes=CLASSES
        ),
        arguments.batch,
    )  # fmt: skip
    best = max(r["product_rate"] for of_one in results.values() for r in of_one)
    lines = [
        "| | images/s | step, ms | step / ours | first step, s | first / ours | peak memory "
        "| added memory | added / ours | of product | parameters |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of_one in results.items():
        step = median(of_one, "step")
        cells = [
            name,
            f"{arguments.batch / step:.2f}",
            f"{1e3 * step:.1f}",
            ratio(of_one, ours, "step"),
            f"{median(of_one, 'first'):.1f}",
            ratio(of_one, ours, "first"),
            megabytes(median(of_one, "peak_memory")),
            megabytes(median(of_one, "added_memory")),
            ratio(of_one, ours, "added_memory"),
            f"{flops / step / best:.0%}",
            f"{of_one[0]['parameters'] / 1e6:.1f} M",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Best plain product of two matrices: {best / 1e9:.0f} GFLOP/s."]
    accelerator = recognised(ours[0]["device"])
    peak = accelerator and accelerator.peak(
        "float32" if arguments.dtype == "float32" else "bfloat16"
    )
    if peak:
        rate = flops / median(ours, "step")
        lines[-1] += f" Ours reaches {rate / peak:.1%} of {accelerator.name}'s published peak."
    return lines


def main():
    arguments = parse()
    results = compete(arguments)
    measured = [r for of_one in results.values() for r in of_one]
    report("Training step", table(results, arguments), results, measured, arguments)


if __name__ == "__main__":
    main()
