"""Ours beside its peers: each in a fresh process of its own interpreter, compared within rounds.

What train_step.py and load_weights.py share: options, the call of one contestant, medians and
ratios, and the report.
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


def add_options(parser):
    """Adds the options that choose interpreters, rounds and files of the report."""
    add = parser.add_argument
    add("--python", nargs="+", type=assignment, default=[], metavar="PEER=PATH",
        help="interpreters of the environments that have the peers")  # fmt: skip
    add("--image-size", type=int, default=224, help="pixels")
    add("--rounds", type=int, default=3, help="processes of each contestant")
    add("--out", nargs="+", type=Path, default=[], metavar="FILE",
        help="also write the table (.md) and every measurement (.json)")  # fmt: skip


def check_options(parser, arguments, contestants, positive):
    """Ends with a message if an option is out of its range.

    Args:
        contestants: By name, all that there are.
        positive: Names of options besides the shared ones that must be positive.
    """
    for name in (*positive, "image_size", "rounds"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be positive")
    for path in arguments.out:
        if path.suffix not in (".md", ".json"):
            parser.error(f"--out takes files ending in .md or .json. Received: {path}")
    for name, _ in arguments.python:
        if name not in contestants:
            parser.error(f"--python takes one of {sorted(contestants)} = PATH. Received: {name}")


def assignment(text):
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not PEER=PATH")
    return name, value


def call(script, contestant, packages, settings, arguments):
    """What a fresh process prints of one contestant, or `None` if its packages are missing.

    Args:
        script: The file beside this one that measures.
        packages: What pip must install for it.
        settings: Of the measurement, as JSON can hold them.
    """
    python = dict(arguments.python).get(contestant, sys.executable)
    done = subprocess.run(
        [python, Path(__file__).with_name(script), json.dumps(settings)],
        env={**os.environ, "KERAS_BACKEND": arguments.backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{contestant} failed with {python}:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if "missing" not in result:
        return result
    message = f"{contestant}: {result['missing']} in {python}; pip install {shlex.join(packages)}"
    if contestant == "ours":
        raise SystemExit(message)
    print(f"left out: {message}", flush=True)
    return None


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


def report(title, table, results, measured, arguments):
    """Prints the table with device, versions and command, and writes the files of `--out`.

    Args:
        table: Lines of Markdown.
        results: All that was measured, as JSON can hold it.
        measured: The same as a flat list, ours first.
    """
    versions = {name: version for r in measured for name, version in r["versions"].items()}
    lines = [
        f"{measured[0]['device']}, {datetime.date.today()}; Python {sys.version.split()[0]}, "
        f"{', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}. "
        f"Medians of {arguments.rounds} rounds; in brackets the range of the rounds.",
        "",
        f"    {command()}",
        "",
        *table,
    ]
    print("\n" + "\n".join(lines))
    for path in arguments.out:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text("\n".join([f"# {title}", "", *lines, ""]), encoding="utf-8")
        else:
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def command():
    """The command line without interpreters and files, whose paths are the machine's own."""
    script, *words = sys.argv
    kept, skip = ["python", f"benchmarks/{Path(script).name}"], False
    for word in words:
        if word.startswith("--"):
            skip = word.partition("=")[0] in ("--python", "--out")
        if not skip:
            kept.append(word)
    return shlex.join(kept)
