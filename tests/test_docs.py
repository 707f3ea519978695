"""The pages under `docs/`: their examples run as printed, their links lead somewhere, and the
reference has every public name."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import keras
import pytest
from conftest import numpy_alone

import keras_vit_scale
from keras_vit_scale.cli.entry import VERBS, parser
from keras_vit_scale.models.export import ROUTES, RUNTIMES, is_installed

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}

#: Pages beside `docs/` that the site has too.
ROOT_PAGES = {path.name: path for path in sorted(ROOT.glob("*.md"))}

#: What a page needs that the tests' extras do not bring.
NEEDS = {
    "tuning.md": ("keras_tuner",),
    "export.md": (*ROUTES[("onnx", keras.backend.backend())].packages, RUNTIMES["onnx"]),
}

#: Pages of what other backends refuse.
ON_JAX = ("distribution.md",)


@pytest.mark.parametrize("page", [name for name, text in TEXTS.items() if ">>> " in text])
def test_examples_run_as_printed(page, tmp_path, monkeypatch):
    if page == "optimizers.md" and keras.__version__ < "3.15":
        pytest.skip("tells what Muon of Keras 3.15 does with stacks; earlier ones take more axes")
    if page in ON_JAX and keras.backend.backend() != "jax":
        pytest.skip("keras.distribution is for JAX alone")
    missing = [name for name in NEEDS.get(page, ()) if not is_installed(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(
        str(PAGES[page]),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
        encoding="utf-8",
    )
    assert tried == TEXTS[page].count(">>> ")
    assert not failed


COMMANDS = {
    " ".join(line.split()): page.name
    for page in [*PAGES.values(), *ROOT_PAGES.values(), *(ROOT / ".github").rglob("*.yml")]
    for line in re.findall(
        r"(?:^|&& )[ ]*(?:KERAS_BACKEND=\w+ )?keras-vit-scale (.*)",
        page.read_text(encoding="utf-8").replace("\\\n", ""),
        re.MULTILINE,
    )
}


@numpy_alone
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    """Each has the verbs and options of the present; none is run."""
    parser(VERBS).cli(args=shlex.split(command, comments=True))


# Links


def anchors(path):
    """What GitHub and the site make of a page's headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@numpy_alone
@pytest.mark.parametrize("page", [*PAGES.values(), *ROOT_PAGES.values()], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(((?!http)[^)#\s]*)#?([^)\s]*)\)", text):
        if Path(target).name == "command_line.md":
            continue  # written when the site is built
        path = page.parent / target if target else page
        assert path.is_file(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


@numpy_alone
def test_guides_show_scripts_that_exist():
    included = [
        path
        for text in TEXTS.values()
        for path in re.findall(r"^--8<--\n(.+)\n--8<--$", text, re.M)
    ]
    assert {"examples/quick_start.py", "examples/train_from_scratch.py"} < set(included)
    assert [path for path in included if not (ROOT / path).is_file()] == []


# Reference


def public_modules():
    """Every module of the package that says what is public, by its name."""
    yield "keras_vit_scale"
    for module in pkgutil.walk_packages(keras_vit_scale.__path__, "keras_vit_scale."):
        if module.ispkg and not module.name.startswith("keras_vit_scale.cli"):
            yield module.name


def named(path):
    """The object at a dotted path, whether it is a module's or a package's."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_reference_has_every_public_name():
    paths = [path for text in TEXTS.values() for path in re.findall(r"^::: (\S+)$", text, re.M)]
    assert len(paths) == len(set(paths))
    documented = {id(named(path)): path for path in paths}
    public = {
        f"{module}.{name}": named(f"{module}.{name}")
        for module in public_modules()
        for name in importlib.import_module(module).__all__
    }
    objects = {path: value for path, value in public.items() if not inspect.ismodule(value)}
    assert [path for path, value in objects.items() if id(value) not in documented] == []
    known = {id(value) for value in objects.values()}
    assert [path for key, path in documented.items() if key not in known] == []


def test_reference_has_every_verb_of_the_command():
    spec = importlib.util.spec_from_file_location(
        "command_line", DOCS / "hooks" / "command_line.py"
    )
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.command_line_page()
    usages = re.findall(r"^## (.*)\n\n```text\nusage: (keras-vit-scale[a-z -]*)", page, re.M)
    assert [heading for heading, usage in usages] == [usage.strip() for _, usage in usages]
    expected = [" ".join(["keras-vit-scale", *words]) for words in hook.verbs(VERBS)]
    assert [heading for heading, _ in usages] == ["keras-vit-scale", *expected]
