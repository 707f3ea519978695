"""The notebook runs in a kernel of its own, and shows tables and pictures."""

import base64
import io
import os
import re
from pathlib import Path

import keras
import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parent.parent / "examples" / "notebook.ipynb"

#: What the cells show, in order, by a word of the cell: the type and a part of it.
SHOWN = {
    "presets_table(": ("text/html", "G/14"),
    "plt.subplots": ("image/png", None),
    "train, test = hold_out(": ("text/plain", "<Subset: 597 images of 10 classes"),
    "model.fit(": ("stream", r"images that it has not seen: accuracy (0\.[89]|1)"),
    "kvs.FewShot(": ("text/html", "random weights"),
    "fit_frontier(\n": ("text/html", "90% interval"),
    "draw_frontier(\n": ("image/png", None),
    'advise("8 H100 days")': ("text/html", "FLOPs/image"),
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
    pytest.importorskip("ipykernel", reason="needs the extra `notebook`")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    # As somebody with a notebook has it: neither this test's picture backend nor its folder.
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environment["KERAS_BACKEND"] = keras.backend.backend()
    package = str(NOTEBOOK.parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join([package, environment.get("PYTHONPATH", "")])
    folder = tmp_path_factory.mktemp("notebook")
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return notebook


def test_the_notebook_is_stored_without_outputs():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert '"execution_count": null' in text
    assert text.count('"outputs": []') == text.count('"cell_type": "code"')


@pytest.mark.slow
@pytest.mark.parametrize("word", SHOWN)
def test_its_cells_show_tables_and_pictures(word, executed):
    kind, part = SHOWN[word]
    (cell,) = [c for c in executed.cells if c.cell_type == "code" and word in c.source]
    if kind == "stream":
        told = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        assert re.search(part, told), told
        return
    (shown,) = [o.data[kind] for o in cell.outputs if kind in o.get("data", {})]
    if kind == "image/png":
        picture = Image.open(io.BytesIO(base64.b64decode(shown)))
        colours = picture.convert("RGB").getcolors(picture.width * picture.height)
        assert len(colours) > 10, "an empty picture"
    else:
        assert part in shown


@pytest.mark.slow
def test_it_warns_of_nothing_and_its_bars_stay_on_their_lines(executed):
    outputs = [o for cell in executed.cells for o in cell.get("outputs", [])]
    assert not [o.text for o in outputs if o.get("name") == "stderr" and "Warning" in o.text]
    told = "".join(o.text for o in outputs if o.get("name") == "stdout")
    assert told.count("\n") < 20, told
