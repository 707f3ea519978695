"""The reference of the command line: what `--help` says of each verb when the site is built."""

import contextlib
import io
import os
import textwrap

from keras_vit_scale_command import choose_backend

PAGE = "reference/command_line.md"
WIDTH = 72  # letters: what the site shows without scrolling

INTRODUCTION = """\
# keras-vit-scale

What `--help` says, of the command and of each of its verbs. Exit codes: 0 done; 1 a fault of the
program; 2 a mistake in the call, its files or its data, told in one line; 130 interrupted.
"""


def on_files(files, config):
    # Here, so that what names a verb can be tested without the site's own packages.
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=command_line_page()))
    return files


def command_line_page() -> str:
    """The page as Markdown."""
    choose_backend()
    from keras_vit_scale.cli.entry import VERBS

    sections = [INTRODUCTION, _section([])]
    for words in verbs(VERBS):
        sections.append(_section(words))
    return "\n".join(sections)


def verbs(tree, before=()):
    """The words of every verb, such as ["study", "run"]."""
    for name, verb in tree.items():
        if hasattr(verb, "verbs"):
            yield from verbs(verb.verbs, (*before, name))
        else:
            yield [*before, name]


def _section(words):
    from keras_vit_scale.cli import run

    told = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.redirect_stdout(told):
            code = run([*words, "--help"])
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    if code:
        raise RuntimeError(f"`--help` of {words} must end with 0. Received: {code}")
    # tyro wraps what it says of options, and not the verb's own words. Indented lines are commands.
    lines = [
        line.rstrip() if line.startswith(" ") else textwrap.fill(line, WIDTH)
        for line in told.getvalue().strip().splitlines()
    ]
    title, text = " ".join(["keras-vit-scale", *words]), "\n".join(lines)
    return f"## {title}\n\n```text\n{text}\n```\n"
