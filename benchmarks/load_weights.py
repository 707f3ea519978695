"""From a file to a model ready to predict: ours beside the libraries whose files these are.

    python benchmarks/load_weights.py --preset B/16 --backend jax --rounds 3

Forms: `timm` (safetensors, by timm.create_model), `transformers` (safetensors, by
from_pretrained), `npz` (big_vision's, which timm reads too) and `keras_hub` (HDF5, by from_preset).

Measured: seconds from the call until a model of float32 weights stands, imports not included;
seconds of the first prediction after it, compilation included; and the peak of the process's
memory beyond what it had before and beyond the model itself, as a multiple of the weights' bytes.

How: the file of each form is written once, by ours or by KerasHub, with random weights and a head
of 1,000 classes. Each contestant then runs in a fresh process, and in a round ours comes before its
peer, form after form. The files are read once before, so that no disk is measured. Machines are
noisy: quote the ratios, each taken within a round. Above 1 says that the peer is slower than ours.

A peer that is not installed is left out; `--python timm=PATH` runs it with another environment's
interpreter, as train_step.py does.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from loaders import CONTESTANTS, bytes_below
from train_step import CLASSES, assignment, command, median, ratio

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
    add("--python", nargs="+", type=assignment, default=[], metavar="PEER=PATH",
        help="interpreters of the environments that have the peers")  # fmt: skip
    add("--image-size", type=int, default=224, help="pixels")
    add("--rounds", type=int, default=3, help="processes of each contestant")
    add("--out", nargs="+", type=Path, default=[], metavar="FILE",
        help="also write the table (.md) and every measurement (.json)")  # fmt: skip
    arguments = parser.parse_args(arguments)
    for name in ("image_size", "rounds"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be positive")
    for path in arguments.out:
        if path.suffix not in (".md", ".json"):
            parser.error(f"--out takes files ending in .md or .json. Received: {path}")
    for name, _ in arguments.python:
        if name not in CONTESTANTS:
            parser.error(f"--python takes one of {sorted(CONTESTANTS)} = PATH. Received: {name}")
    return arguments


def call(contestant, form, path, arguments, write=False):
    """What a fresh process of loaders.py prints, or `None` with a line that says what it lacks."""
    shape = arguments.preset
    settings = {
        "contestant": contestant, "form": form, "path": str(path), "write": write,
        "backend": arguments.backend, "width": shape.width, "depth": shape.depth,
        "mlp_dim": shape.mlp_dim, "heads": shape.heads, "patch_size": shape.patch_size,
        "image_size": arguments.image_size, "classes": CLASSES,
    }  # fmt: skip
    python = dict(arguments.python).get(contestant, sys.executable)
    done = subprocess.run(
        [python, Path(__file__).with_name("loaders.py"), json.dumps(settings)],
        env={**os.environ, "KERAS_BACKEND": arguments.backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{contestant} failed on {form} with {python}:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if "missing" in result:
        packages = " ".join(CONTESTANTS[contestant].packages)
        print(
            f"left out: {contestant} on {form}: {result['missing']} in {python}; "
            f"pip install {packages}",
            flush=True,
        )
        return None
    return result


def compete(folder, arguments):
    """The results of every form and contestant present, one a round."""
    paths = {form: folder / (f"{form}.npz" if form == "npz" else form) for form in arguments.forms}
    written = {
        form: call(FORMS[form][0], form, path, arguments, write=True)
        for form, path in paths.items()
    }
    present = {form: ["ours", FORMS[form][1]] for form in paths if written[form] is not None}
    results = {}
    for turn in range(arguments.rounds):
        for form, contestants in present.items():
            bytes_below(paths[form])
            for contestant in list(contestants):
                result = call(contestant, form, paths[form], arguments)
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
        "| file of | read by | ready, s | ready / ours | first prediction, s | weights, MB "
        "| peak beyond the model, of weights |",
        "|---|---|---|---|---|---|---|",
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
    every = [r for of_form in results.values() for of_one in of_form.values() for r in of_one]
    versions = {name: version for r in every for name, version in r["versions"].items()}
    lines = [
        f"{every[0]['device']}, {datetime.date.today()}; Python {sys.version.split()[0]}, "
        f"{', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}. "
        f"Medians of {arguments.rounds} rounds; in brackets the range of the rounds.",
        "",
        f"    {command(sys.argv[1:], 'load_weights.py')}",
        "",
        *table(results),
    ]
    print("\n" + "\n".join(lines))
    for path in arguments.out:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text("\n".join(["# Loading weights", "", *lines, ""]), encoding="utf-8")
        else:
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
