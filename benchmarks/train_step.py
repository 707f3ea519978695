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
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from contestants import CONTESTANTS

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
    add("--python", nargs="+", type=assignment, default=[], metavar="PEER=PATH",
        help="interpreters of the environments that have the peers")  # fmt: skip
    add("--batch", type=int, default=8, help="images a step")
    add("--image-size", type=int, default=224, help="pixels")
    add("--dtype", choices=["float32", "mixed_bfloat16"], default="float32")
    add("--steps", type=int, default=3, help="steps of a window, between two waits for the device")
    add("--windows", type=int, default=3, help="windows timed in a process")
    add("--rounds", type=int, default=3, help="processes of each contestant")
    add("--options", type=json.loads, default={}, metavar="JSON",
        help="further arguments of our ViT, such as '{\"unroll\": true}'")  # fmt: skip
    add("--matrix", type=int, default=2048, help="side of the matrices of the plain product")
    add("--out", nargs="+", type=Path, default=[], metavar="FILE",
        help="also write the table (.md) and every measurement (.json)")  # fmt: skip
    arguments = parser.parse_args(arguments)
    for name in ("batch", "image_size", "steps", "windows", "rounds", "matrix"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be positive")
    for path in arguments.out:
        if path.suffix not in (".md", ".json"):
            parser.error(f"--out takes files ending in .md or .json. Received: {path}")
    if arguments.peers is None:
        arguments.peers = PEERS[arguments.backend]
    for name, _ in arguments.python:
        if name not in CONTESTANTS:
            parser.error(f"--python takes one of {sorted(CONTESTANTS)} = PATH. Received: {name}")
    return arguments


def assignment(text):
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not PEER=PATH")
    return name, value


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
    python = dict(arguments.python).get(contestant, sys.executable)
    done = subprocess.run(
        [python, Path(__file__).with_name("contestants.py"), json.dumps(settings)],
        env={**os.environ, "KERAS_BACKEND": arguments.backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{contestant} failed with {python}:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if "missing" in result:
        packages = " ".join(shlex.quote(p) for p in CONTESTANTS[contestant].packages)
        message = f"{contestant}: {result['missing']} in {python}; pip install {packages}"
        if contestant == "ours":
            raise SystemExit(message)
        print(f"left out: {message}", flush=True)
        return None
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


def command(words, script="train_step.py"):
    """The command line without the interpreters, whose paths are the machine's own."""
    kept, skip = ["python", f"benchmarks/{script}"], False
    for word in words:
        if word.startswith("--"):
            skip = word.partition("=")[0] == "--python"
        if not skip:
            kept.append(word)
    return shlex.join(kept)


def median(results, what):
    values = [r[what] for r in results]
    return None if None in values else statistics.median(values)


def ratio(results, ours, what):
    """Median and range of the ratios of the rounds, theirs over ours."""
    pairs = [(r[what], o[what]) for r, o in zip(results, ours, strict=True)]
    if any(None in pair for pair in pairs):
        return "-"
    ratios = [theirs / own for theirs, own in pairs]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


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
    versions = {k: v for of_one in results.values() for k, v in of_one[0]["versions"].items()}
    lines = [
        f"{results['ours'][0]['device']}, {datetime.date.today()}; Python "
        f"{sys.version.split()[0]}, {', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}. "
        f"Medians of {arguments.rounds} rounds; in brackets the range of the rounds.",
        "",
        f"    {command(sys.argv[1:])}",
        "",
        *table(results, arguments),
    ]
    print("\n" + "\n".join(lines))
    for path in arguments.out:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text("\n".join(["# Training step", "", *lines, ""]), encoding="utf-8")
        else:
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
