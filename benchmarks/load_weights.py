"""From a file to a model ready to predict: ours beside the libraries whose files these are.

    python benchmarks/load_weights.py --preset B/16 --backend jax --rounds 3

Forms: `timm` (safetensors, by timm.create_model), `transformers` (safetensors, by
from_pretrained), `npz` (big_vision's, which timm reads too) and `keras_hub` (HDF5, by from_preset).

Measured: seconds from the call until a model of float32 weights stands, imports not included;
seconds of the first prediction after it, compilation included (transformers maps its file and reads
it only then, so the sum is what compares); and the peak of the process's memory beyond what it had
before and beyond the model itself, as a multiple of the weights' bytes.

How: the file of each form is written once, by ours or by KerasHub, with random weights and a head
of 1,000 classes. Each contestant then runs in a fresh process, and in a round ours comes before its
peer, form after form. The files are read once before, so that no disk is measured. Machines are
noisy: quote the ratios, each taken within a round. Above 1 says that the peer is slower than ours.

A peer that is not installed is left out; `--python timm=PATH` runs it with another environment's
interpreter, as train_step.py does.
"""

import argparse
import tempfile
from pathlib import Path

from loaders import CONTESTANTS, bytes_below
from peers import add_options, call, check_options, median, ratio, report
from train_step import CLASSES

from keras_vit_scale.models import preset

#: Who writes a form, and who reads it beside ours.
FORMS = {
    "timm": ("ours", "timm"),
    "transformers": ("ours", "transformers"),
    "npz": ("ours", "timm"),
    "keras_hub": ("keras_hub", "keras_hub"),
}


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--preset", type=preset, default="B/16", help="size/patch, such as L/16")
    add("--backend", choices=["jax", "tensorflow", "torch"], default="jax",
        help="of ours and of keras_hub")  # fmt: skip
    add("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    add_options(parser)
    arguments = parser.parse_args(arguments)
    check_options(parser, arguments, CONTESTANTS, ())
    return arguments


def handle(contestant, form, path, arguments, write=False):
    """Has a contestant read the file of a form, or write it."""
    shape = arguments.preset
    settings = {
        "contestant": contestant, "form": form, "path": str(path), "write": write,
        "backend": arguments.backend, "width": shape.width, "depth": shape.depth,
        "mlp_dim": shape.mlp_dim, "heads": shape.heads, "patch_size": shape.patch_size,
        "image_size": arguments.image_size, "classes": CLASSES,
    }  # fmt: skip
    return call("loaders.py", contestant, CONTESTANTS[contestant].packages, settings, arguments)


def compete(folder, arguments):
    """The results of every form and contestant present, one a round."""
    paths = {form: folder / (f"{form}.npz" if form == "npz" else form) for form in arguments.forms}
    written = {
        form: handle(FORMS[form][0], form, path, arguments, write=True)
        for form, path in paths.items()
    }
    present = {form: ["ours", FORMS[form][1]] for form in paths if written[form] is not None}
    results = {}
    for turn in range(arguments.rounds):
        for form, contestants in present.items():
            bytes_below(paths[form])
            for contestant in list(contestants):
                result = handle(contestant, form, paths[form], arguments)
                if result is None:
                    contestants.remove(contestant)
                    continue
                results.setdefault(form, {}).setdefault(contestant, []).append(result)
                print(
                    f"round {turn + 1}: {form}: {contestant}: ready in {result['ready']:.2f} s",
                    flush=True,
                )
    return results


def table(results):
    """The results as lines of Markdown."""
    lines = [
        "| file of | read by | ready, s | ready / ours | first prediction, s | both / ours "
        "| weights, MB | peak beyond the model, of weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for form, contestants in results.items():
        for name, of_one in contestants.items():
            beyond = median(of_one, "beyond")
            cells = [
                form,
                name,
                f"{median(of_one, 'ready'):.2f}",
                ratio(of_one, contestants["ours"], "ready"),
                f"{median(of_one, 'first'):.2f}",
                ratio(of_one, contestants["ours"], "both"),
                f"{of_one[0]['weights'] / 1e6:.0f}",
                "-" if beyond is None else f"{beyond:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main():
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        results = compete(Path(folder), arguments)
    if not results:
        raise SystemExit("No form could be written; see above for what to install")
    measured = [r for of_form in results.values() for of_one in of_form.values() for r in of_one]
    report("Loading weights", table(results), results, measured, arguments)


if __name__ == "__main__":
    main()
