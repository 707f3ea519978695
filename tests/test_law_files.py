"""`law fit` on files as programs, spreadsheets and accidents leave them: a law, or why not."""

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale import cli

pytestmark = numpy_alone

C = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]
E = [0.6 * (c + 2) ** -0.4 + 0.1 for c in C]
LAW = "E = 0.1 + 0.6 (C + 2)^-0.4"
NAMES = "flops,error"
ROWS = [f"{c},{e:.15g}" for c, e in zip(C, E, strict=True)]
PLAIN = "\n".join([NAMES, *ROWS, ""])
EUROPEAN = PLAIN.replace(",", ";").replace(".", ",")


def table(header, row):
    """A file with a row for each of the law's points."""
    return "\n".join([header, *(row.format(c=c, e=e) for c, e in zip(C, E, strict=True))])


PERCENTS = "\n".join(["flops,error", *(f"{c},{100 * e:.13g}" for c, e in zip(C, E, strict=True))])
ACCURACY = "\n".join(
    ["flops,top1", *(f"{c},{100 - 100 * e:.13g}" for c, e in zip(C, E, strict=True))]
)
RISING = "\n".join([NAMES, *(f"{c},{e}" for c, e in zip(C[::-1], E, strict=True))])


def with_line(number, text):
    lines = PLAIN.splitlines()
    lines.insert(number - 1, text)
    return "\n".join(lines)


#: Files that hold the law, however they are written.
GOOD = {
    "plain": (PLAIN, []),
    "windows": (PLAIN.replace("\n", "\r\n"), []),
    "byte-order mark": (b"\xef\xbb\xbf" + PLAIN.encode(), []),
    "semicolons and decimal commas": (EUROPEAN, []),
    "with sep= as Excel writes it": ("sep=;\r\n" + EUROPEAN, []),
    "tabs": (PLAIN.replace(",", "\t"), []),
    "tabs in UTF-16": (PLAIN.replace(",", "\t").encode("utf-16"), []),
    "gzip": (gzip.compress(PLAIN.encode()), []),
    "quoted": (table('"flops","error"', '"{c}","{e}"'), []),
    "spaces": (PLAIN.replace(",", " , "), []),
    "percent signs": (PERCENTS.replace("\n", " %\n").replace("error %", "error") + "%", []),
    "percent": (PERCENTS, ["--percent"]),
    "accuracies": (ACCURACY, ["--accuracy", "top1", "--percent"]),
    "empty lines and cells at the end": (PLAIN.replace("\n", ",,\n", 3) + "\n,,\n \n", []),
    "unsorted": ("\n".join([NAMES, *ROWS[::-1]]), []),
    "duplicates": ("\n".join([NAMES, *ROWS, *ROWS]), []),
    "an outlier behind": (with_line(5, "20,0.99"), []),
    "other columns": ("\n".join(["note,note,flops,error", *(f'"a,\nb",x,{r}' for r in ROWS)]), []),
}  # fmt: skip

#: Files without one: what is told, in one line.
BAD = {
    "missing": (None, [], "No such file"),
    "empty": ("", [], "it is empty"),
    "blank": ("\n \n", [], "it is empty"),
    "header alone": ("flops,error\n", [], "must have rows below its header"),
    "binary": (bytes(range(256)) * 9, [], "no UTF-8 text"),
    "zeros": (b"flops,error\n1,0.5\n\0\0\0", [], "line 3, as CSV: it is no text"),
    "workbook": (b"PK\x03\x04" + b"x" * 99, [], "save the sheet as CSV (UTF-8)"),
    "cut gzip": (gzip.compress(PLAIN.encode())[:-9], [], "Cannot read"),
    "latin-1": (PLAIN.encode() + b"9,0.1,gr\xf6\xdfe", [], "line 11, as CSV: it is no UTF-8 text"),
    "open quote": (with_line(4, '"7,0.3'), [], "as CSV: unexpected end of data"),
    "column twice": (PLAIN.replace("flops,error", "error,error"), [], "no ['flops']"),
    "error twice": ("flops,error,error\n1,0.5,0.4", [], "line 1: the column 'error' must be"),
    "short row": (with_line(4, "7"), [], "line 4: each row must have the 2 cells"),
    "long row": (with_line(4, "7,0,3"), [], "line 4: each row must have the 2 cells"),
    "after a broken cell": ('note,flops,error\n"a\nb",1,0.5\nc,x,0.4', [], "line 4: column"),
    "nan": (with_line(4, "7,nan"), [], "line 4: column 'error' must be in (0, 1]. Received: 'nan'"),
    "no value": (with_line(4, "7,"), [], "line 4: column 'error' must be in (0, 1]. Received: ''"),
    "error of 0": (with_line(4, "7,0"), [], "write half a mistake, 0.5 / images judged"),
    "error above 1": (with_line(4, "7,15.1"), [], "for percent add --percent, for accuracies"),
    "percent above 100": (with_line(4, "7,151"), ["--percent"], "line 4: column 'error' must"),
    "negative compute": (with_line(4, "-7,0.3"), [], "line 4: column 'flops' must be a positive"),
    "thousands": (with_line(4, '"7,000",0.3'), [], "line 4: column 'flops' must be a positive"),
    "commas and points": ("flops;error\n1;0.5\n1,5;0.4", [], "line 3: column 'flops'"),
    "accuracy in percent": (ACCURACY, ["--accuracy", "top1"], "for percent add --percent"),
    "accuracy of 1": ("flops,top1\n1,0.5\n2,1", ["--accuracy", "top1"], "1 - 0.5 / images judged"),
    "accuracy as error": (ACCURACY, ["--error", "top1", "--percent"], "1 point on the frontier"),
    "no accuracies": (PLAIN, ["--accuracy", "top1"], "no ['top1'], but ['flops', 'error']; name"),
    "two points": ("flops,error\n1,0.5\n10,0.4", [], "needs at least 5 points"),
    "one compute": ("flops,error\n" + "5,0.5\n5,0.4\n" * 5, ["--all-points"], "Received: 1"),
    "one error": (table(NAMES, "{c},0.5"), ["--all-points"], "at least 1 %"),
    "rising": (RISING, ["--all-points"], "must fall"),
    "huge": (with_line(4, "1e999,0.3"), [], "line 4: column 'flops' must be a positive number"),
}  # fmt: skip


def write(path, content):
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(("content", "options"), GOOD.values(), ids=GOOD)
def test_however_it_is_written(content, options, tmp_path, capsys):
    path = write(tmp_path / "r.csv", content)
    options = [*options, "--law", "double-saturating", "--report", str(tmp_path / "law.html")]
    assert cli.run(["law", "fit", path, *options]) == 0
    assert capsys.readouterr().out.startswith(LAW)


@pytest.mark.parametrize(("content", "options", "message"), BAD.values(), ids=BAD)
def test_what_is_no_law_is_refused_in_a_line(content, options, message, tmp_path, capsys):
    path = write(tmp_path / "r.csv", content)
    report = tmp_path / "law.html"
    assert cli.run(["law", "fit", path, *options, "--report", str(report)]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert message in line
    assert "r.csv" in line
    assert not printed.out
    assert not report.exists()


def test_several_files_and_a_group_without_a_law(tmp_path, capsys):
    one = write(tmp_path / "a.csv", PLAIN)
    grouped = ["flops,error,kind", *(f"{r},many" for r in ROWS), "5,0.5,few"]
    two = write(tmp_path / "b.csv", "\n".join(grouped))
    report = tmp_path / "law.html"
    assert cli.run(["law", "fit", one, two, "--report", str(report), "--json"]) == 0
    assert [row["group"] for row in json.loads(capsys.readouterr().out)] == [one, two]
    assert cli.run(["law", "fit", two, "--by", "kind", "--json"]) == 0
    many, few = json.loads(capsys.readouterr().out)
    assert many["intervals"]["b"][0] <= many["b"] * 1.1
    assert "1 point on the frontier of 1" in few["refused"]
    assert cli.run(["law", "fit", two, "--by", "kind"]) == 0
    assert "kind few: no law: " in capsys.readouterr().out


def test_a_study_is_a_folder_or_its_table(tmp_path, capsys):
    example = Path(__file__).parent.parent / "examples" / "fashion_mnist"
    lines = (example / "results.csv").read_text().splitlines()
    kept = [lines[0], *(line for line in lines if ",held-out,10," in line)]
    write(tmp_path / "results.csv", "\n".join(kept))
    printed = []
    for path in (tmp_path, tmp_path / "results.csv"):
        assert cli.run(["law", "fit", str(path), "--at", "1e13"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    # Trunks are known without asking: size and seed.
    assert "run of its own" not in printed[0]
    folder = tmp_path / "runs" / "a" / "b" / "c"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"size": "a"')
    assert cli.run(["law", "fit", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "result.json must be a result as a study writes it" in line
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "results.csv").unlink()
    assert cli.run(["law", "fit", str(tmp_path)]) == 2
    assert "holds no finished result" in capsys.readouterr().err


@pytest.mark.slow
def test_a_million_rows_leave_a_page_that_opens(tmp_path, capsys):
    rng = np.random.default_rng(2)
    compute = np.exp(rng.uniform(0, 9, 1_000_000))
    error = np.minimum(1, (0.6 * (compute + 2) ** -0.4 + 0.1) * np.exp(0.3 * rng.random(10**6)))
    path = tmp_path / "r.csv"
    with open(path, "w") as file:
        file.write("flops,error\n")
        file.writelines(f"{c:.8g},{e:.6g}\n" for c, e in zip(compute, error, strict=True))
    report, figure = tmp_path / "law.html", tmp_path / "law.svg"
    options = ["--report", str(report), "--figure", str(figure)]
    assert cli.run(["law", "fit", str(path), *options]) == 0
    assert "note: No intervals: " in capsys.readouterr().out
    assert "Drawn are 3,000 of 1,000,000 results" in report.read_text()
    assert report.stat().st_size < 6e6
    assert figure.stat().st_size < 2e6


def test_the_page_on_law_fit_is_right(tmp_path, monkeypatch, capsys):
    root = Path(__file__).parent.parent
    text = (root / "docs" / "law_fit.md").read_text(encoding="utf-8").replace("\\\n", "")
    (tmp_path / "examples").symlink_to(root / "examples")
    monkeypatch.chdir(tmp_path)
    printed = []
    for command in re.findall(r"^keras-vit-scale (.*)$", text, re.MULTILINE):
        assert cli.run(shlex.split(command)) == 0
        printed.append(capsys.readouterr().out)
    (shown,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert printed[0].split() == shown.split()
    assert {row["group"] for row in json.loads(printed[1])} == {"model S", "model B", "model L"}
    assert (tmp_path / "law.html").exists()
    assert (tmp_path / "law.png").exists()
