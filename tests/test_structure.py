"""Imports run downward, and no file says what it should not."""

import ast
from pathlib import Path

import pytest

import keras_vit_scale

PACKAGE = Path(keras_vit_scale.__file__).parent

# Each may import those after it.
ORDER = [
    "cli", "scaling", "runs", "evaluation", "training", "planning", "optimizers", "schedules",
    "data", "weights", "models", "formats", "types",
]  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def part(module):
    return module.removeprefix("keras_vit_scale").lstrip(".").partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for module in imported(path):
        if module.startswith("keras_vit_scale") and part(module):
            assert ORDER.index(here) <= ORDER.index(part(module)), module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_library_code_asserts_nothing(path):
    """An assert vanishes under -O; a check of input must not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
