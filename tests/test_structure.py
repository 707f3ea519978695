"""Imports run downward and in no circle, and no file says what it should not."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import keras_vit_scale

PACKAGE = Path(keras_vit_scale.__file__).parent

# Each may import those after it.
ORDER = [
    "cli", "tuning", "scaling", "runs", "evaluation", "training", "planning", "optimizers",
    "schedules", "distribution", "data", "weights", "models", "losses", "ownership", "processes",
    "children", "formats", "atomic", "checks", "sharding", "types",
]  # fmt: skip

# A law draws itself; what draws it is imported when it is asked to.
LATER = {("scaling.law", "scaling.figure")}

FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def run_imports(tree):
    """What a file imports when it runs, in functions too, as (module, name)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        elif not is_for_types(node):
            yield from run_imports(node)


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


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


def test_no_file_needs_itself():
    names = {name_of(path) for path in FILES} - {"__init__"}
    needs = {}
    for path in FILES:
        here, needed = name_of(path), set()
        for module, name in run_imports(ast.parse(path.read_text(encoding="utf-8"))):
            module = module.removeprefix("keras_vit_scale.")
            file = f"{module}.{name}"  # a file of a package, or else a name in one
            needed.add(file if file in names else module)
        needs[here] = {m for m in needed & names if (here, m) not in LATER}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"imported in a circle: {error.args[1]}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_library_code_asserts_nothing(path):
    """An assert vanishes under -O; a check of input must not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
