"""Examples of docstrings as blocks of code: Griffe extension.

Docstrings set them off by a blank line alone, as `doctest` wants; Markdown would take their
brackets for links.
"""

import re

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)


class Doctests(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match):
    return f"{match[1]}```pycon\n{match[0]}\n{match[1]}```"
