"""Files of the repository outside `docs/` on the site, under `repository/`, and links to them.

Nothing is copied into `docs/`: README, CONTRIBUTING, examples and results are read where they are.
A page links to them as GitHub does, by paths in the repository; here these become the site's own.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
FOLDER = "repository/"

#: What the site has beside `docs/`.
INCLUDED = (
    "*.md", "CITATION.cff", "LICENSE", ".ci/run", "pyproject.toml", "mkdocs.yml",
    ".github/workflows/*.yml", "benchmarks/*.py", "benchmarks/results/*.md",
    "examples/**/*", "keras_vit_scale/scaling/paper/*", "keras_vit_scale/scaling/studies/*.yaml",
    "tests/*.py", "tests/references/*.py",
)  # fmt: skip

#: Files that become pages of code, by suffix, with the language of their highlighting.
CODE = {
    ".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".cff": "yaml", "": "bash",
}  # fmt: skip

LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")


def on_files(files, config):
    for pattern in INCLUDED:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                files.append(_file(path.relative_to(ROOT).as_posix(), config))
    return files


def _file(path, config):
    suffix = posixpath.splitext(path)[1]
    if suffix not in CODE:
        return File.generated(config, FOLDER + path, abs_src_path=str(ROOT / path))
    text = (ROOT / path).read_text(encoding="utf-8")
    # Snippets are for pages that someone writes: here the file is shown as it is.
    code = f"# {path}\n\n~~~~{CODE[suffix]}\n{text.replace('--8<--', ';--8<--')}\n~~~~\n"
    return File.generated(config, f"{FOLDER}{path}.md", content=code)


def on_page_markdown(markdown, page, config, files):
    here = page.file.src_uri
    if here.startswith(FOLDER):
        folder = posixpath.dirname(here.removeprefix(FOLDER))
    else:
        folder = posixpath.dirname(f"docs/{here}")

    def on_site(match):
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if not (ROOT / path).is_file():
            return match[1]
        if path.startswith("docs/"):
            target = path.removeprefix("docs/")
        else:
            target = FOLDER + path + (".md" if posixpath.splitext(path)[1] in CODE else "")
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    return LINK.sub(on_site, markdown)
