"""The page of a result: command, machine, versions and table, printed and written to `--out`."""

import datetime
import os
import sys
from importlib import metadata
from pathlib import Path

import keras
from devices import cpu_name
from peers import command


def add_out(parser):
    """Adds the option that names the page."""
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="also write the page")


def publish(title, table, how, out=None):
    """Prints a table with what it was measured on, and writes that as a page.

    Args:
        title: The page's heading.
        table: Lines of Markdown.
        how: A sentence on how it was measured.
        out: The page's file, if one is to be written.
    """
    backend = keras.backend.backend()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("keras", backend))
    load = "" if not hasattr(os, "getloadavg") else f", load {os.getloadavg()[0]:.1f} at the end"
    lines = [
        f"{cpu_name()}{load}, {datetime.date.today()}; Python {sys.version.split()[0]}, "
        f"{versions}. {how}",
        "",
        f"    KERAS_BACKEND={backend} {command()}",
        "",
        *table,
    ]
    print("\n".join(lines))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join([f"# {title}", "", *lines, ""]), encoding="utf-8")
