"""How results print: in a line or a few, and as tables in a notebook."""

import html.parser

import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone

import keras_vit_scale as kvs
from keras_vit_scale.data import ArraySource, Subset
from keras_vit_scale.planning import presets_table
from keras_vit_scale.scaling import LAWS, DoubleSaturatingLaw, advise, budget_for, fit_frontier
from keras_vit_scale.scaling.evidence import Evidence
from keras_vit_scale.scaling.figure import draw_frontier
from keras_vit_scale.scaling.findings import Findings

pytestmark = numpy_alone


class Tables(html.parser.HTMLParser):
    """The rows of the tables of a page, and its other words."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.words, self.open = [], [], []
        self.feed(page)
        assert not self.open, "tags that nothing closes"

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def fit():
    """Of a law with a = 0.4, b = 0.5, c = 0.1, d = 2, without noise."""
    compute = np.geomspace(1, 1e4, 13)
    return fit_frontier(compute, 0.4 * (compute + 2) ** -0.5 + 0.1, resamples=40)


def test_a_law_prints_its_parameters_and_its_fit():
    law = DoubleSaturatingLaw(a=0.4, b=0.5, c=0.1, d=2.0)
    assert repr(law) == "DoubleSaturatingLaw(a=0.4, b=0.5, c=0.1, d=2)"
    assert eval(repr(law)) == law
    fitted = DoubleSaturatingLaw(
        a=0.4, b=0.5, c=0.1, d=2.0, points=9, compute_range=(1.0, 1e4), warnings=("Few <points>.",)
    )
    assert repr(fitted) == (
        "DoubleSaturatingLaw(a=0.4, b=0.5, c=0.1, d=2, points=9, compute_range=(1, 1e+04), "
        "warnings=<1>)"
    )
    page = Tables(fitted._repr_html_())
    assert page.rows == [["", "value"], ["a", "0.4"], ["b", "0.5"], ["c", "0.1"], ["d", "2"]]
    assert "Few <points>." in page.words  # escaped


@pytest.mark.parametrize("name", LAWS)
def test_every_law_prints_on_one_line(name):
    law = LAWS[name](**dict.fromkeys(LAWS[name].parameters, 0.5))
    assert repr(law).startswith(f"{LAWS[name].__name__}(")
    assert "\n" not in repr(law)
    assert len(Tables(law._repr_html_()).rows) == 1 + len(law.parameters)


def test_a_fit_prints_its_intervals(fit):
    first, *others = repr(fit).splitlines()
    assert first.startswith("E = 0.1 + 0.4 (C + 2)^-0.5, fitted to 13 points from C = 1 to 1e+04")
    assert others[0].startswith("  a: 0.4 (0.")
    page = Tables(fit._repr_html_())
    assert page.rows[0] == ["", "value", "90% interval"]
    assert page.rows[3][:2] == ["c", "0.1"]
    assert len(repr(fit)) < 2000  # none of its arrays


@pytest.mark.slow
def test_advice_prints_as_the_command_tells_it(capsys):
    from keras_vit_scale import cli

    advice = advise("8 H100 days")
    assert cli.run(["advise", "--budget", "8 H100 days"]) == 0

    def words(text):
        return [word for word in text.split() if set(word) != {"─"}]

    assert words(repr(advice)) == words(capsys.readouterr().out)
    page = Tables(advice._repr_html_())
    assert [row[0] for row in page.rows[1:]] == [
        advice.best.size, *(plan.size for plan in advice.alternatives)
    ]  # fmt: skip
    assert page.rows[1][-1] == "advised"


def test_findings_of_a_study_print_what_was_found():
    rows = [
        {"task": "digits", "shots": 5, "size": size, "seed": 0, "steps": steps, "error": error,
         "flops": flops, "tpuv3_core_days": flops / 3e18, "probe_seed": 0, "forward_flops": forward}
        for size, forward in (("a", 1.0), ("b", 2.0))
        for steps in (10, 20)
        for flops in [forward * steps]
        for error in [0.9 * flops**-0.3]
    ]  # fmt: skip
    points = pd.DataFrame(rows).drop(index=2)
    findings = Findings(
        "digits", 5, points, np.array([0, 1, 2]), Evidence(points, [0], [], refused="Few.")
    )
    assert repr(findings).splitlines()[0] == "5-shot error (digits):"
    page = Tables(findings._repr_html_())
    assert page.rows[0] == ["size", "10 steps", "20 steps"]
    assert page.rows[1] == ["a", f"{0.9 * 10**-0.3:.3f}", f"{0.9 * 20**-0.3:.3f}"]
    assert page.rows[2] == ["b", "", f"{0.9 * 40**-0.3:.3f}"]


def test_advice_for_an_error_prints_the_error():
    first = repr(budget_for(0.2)).splitlines()[0]
    assert first.startswith("10-shot error on ImageNet of 0.2: ")
    assert "(90%: " in first


def test_sources_and_schedules_print_what_they_are():
    source = ArraySource(np.zeros((3, 2, 2), "uint8"), [0, 1, 1], ["cat", "dog"])
    assert repr(source) == "<ArraySource: 3 images of 2 classes: cat, dog>"
    assert repr(Subset(source, [1], classes=[1])) == "<Subset: 1 image of 1 class: dog>"
    schedule = kvs.Cosine(0.1, decay_steps=9, warmup_steps=2)
    assert eval(repr(schedule), vars(kvs)).get_config() == schedule.get_config()


def test_the_named_sizes_are_a_table():
    table = presets_table(image_size=56)
    assert tuple(table.index[:11]) == kvs.TABLE_2
    assert {name.partition("/")[0] for name in table.index} == set(kvs.SIZES)
    assert tuple(table.loc["s/28", ["width", "depth"]]) == (256, 6)


@pytest.mark.parametrize("inline", [False, True])
def test_a_notebook_shows_what_is_drawn(inline, monkeypatch):
    """Its kernel names the backend in the environment; elsewhere pyplot keeps no figure."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline" * inline)
    before = set(pyplot.get_fignums())
    ax = draw_frontier([1, 2, 3], [0.5, 0.4, 0.3])
    new = set(pyplot.get_fignums()) - before
    assert len(new) == inline
    ax.axhline(0.2)  # it can be drawn on
    for number in new:
        pyplot.close(number)
