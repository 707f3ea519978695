"""The page about laws in a real browser: hover, axes, zoom, print, and no network."""

import csv
import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import numpy_alone

from keras_vit_scale import cli

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright drives the browser: pip install playwright"
)

pytestmark = numpy_alone

#: Labels that would do something if a page, JSON in it, or Plotly took them for markup.
LABELS = [
    "</script><script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 2'>",
    "<b>\"S/16\"</b> &lt;i&gt; & 'x'",
    "%{x} $\\alpha$ Größe ∞ 模型",
]

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion_mnist"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), None)
        path = os.environ.get("CHROMIUM") or found or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no browser: apt-get install chromium, or playwright install chromium")
        # Without its sandbox, which root, as whom CI runs, cannot have.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def law_page(tmp_path_factory):
    """`law fit` on four sizes with dangerous names, and on a group that shows no law."""
    folder = tmp_path_factory.mktemp("law")
    rng = np.random.default_rng(3)
    rows = []
    for i, label in enumerate(LABELS):
        for steps in (100, 300, 1000, 3000, 10_000):
            flops = 8**i * 1e6 * steps
            error = (9 * flops**-0.16 + 0.3 * 2**-i * (1 + 30 / steps)) * np.exp(
                0.01 * rng.standard_normal()
            )
            rows.append(
                ["<i>few</i>" if i == 3 and steps < 200 else "many", label, i, steps, 64 * steps,
                 flops, min(error, 1)]
            )  # fmt: skip
    with open(folder / "runs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "model", "run", "steps", "images_seen", "flops", "error"])
        writer.writerows(rows)
    options = ["--by", "kind", "--trunk", "run", "--size", "model", "--at", "1e14"]
    report = folder / "law.html"
    assert cli.run(["law", "fit", str(folder / "runs.csv"), *options, "--report", str(report)]) == 0
    return report


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
    """`study report` on the results of an example, without its runs."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(EXAMPLE / "study.yaml", folder)
    header, *rows = (EXAMPLE / "results.csv").read_text().splitlines()
    kept = [row for row in rows if ",held-out,10," in row]
    (folder / "results.csv").write_text("\n".join([header, *kept]))
    assert cli.run(["study", "report", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture
def opened(browser):
    """Opens pages, and sees that nothing goes wrong in them and nothing else is asked for."""
    problems, pages = [], []

    def open_page(path, **options):
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        page.set_default_timeout(300_000)  # patience, which decides nothing
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url)
            ),
        )
        page.goto(path.as_uri())
        until(page, "document.querySelectorAll('.frontier .main-svg').length > 0")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.harmed") is None
        page.close()
    assert not problems


def until(page, expression):
    """Waits for something to be true; Playwright's own way needs what the page's policy forbids."""
    deadline = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.02)


def point(page, trace, number, section="section[data-chart]"):
    """Where a marker is in the window."""
    return page.evaluate(
        """([section, trace, number]) => {
            const plot = document.querySelector(section + ' .frontier');
            plot.scrollIntoView({block: 'center'});
            const markers = plot.querySelectorAll('.scatterlayer .trace')[trace]
                .querySelectorAll('.points path');
            const box = markers[number].getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }""",
        [section, trace, number],
    )


def hovered(page, place):
    page.mouse.move(place[0] + 30, place[1] - 30)
    page.mouse.move(*place)
    page.wait_for_selector(".hoverlayer .hovertext")
    return page.locator(".hoverlayer .hovertext").first.text_content()


def axis_title(page):
    return page.locator("section[data-chart] .xtitle").first.text_content()


def test_pointing_at_a_result_tells_its_run(law_page, opened):
    page = opened(law_page)
    told = hovered(page, point(page, 1, 2))
    # The second size's third result: line 9 of the file, below a header and seven rows.
    for text in (LABELS[1], "steps: 1000", "images_seen: 64,000", "flops: 8e+09", "line 9"):
        assert text in told
    names = page.locator("section[data-chart] .legendtext").all_text_contents()
    assert names[:4] == LABELS
    assert {"frontier", "law", "extrapolated", "90 % band"} <= set(names)


@pytest.mark.slow
def test_axes_are_switched_with_their_law_and_tables(law_page, opened):
    page = opened(law_page)
    assert axis_title(page) == "Training compute (FLOPs)"
    section = page.locator("section[data-chart]").first
    assert section.locator(".law").all_inner_texts()[0].startswith("E = ")
    choices = section.locator("label").all_inner_texts()
    assert choices[:2] == ["Training compute (FLOPs)", "Images seen"]
    section.get_by_text("Images seen", exact=True).first.click()
    until(
        page, "document.querySelector('section[data-chart] .xtitle').textContent == 'Images seen'"
    )
    limits = page.evaluate("document.querySelector('.frontier').layout.xaxis.range")
    assert limits[0] < np.log10(6400) < limits[0] + 0.5
    shown = section.locator("[data-axis]:not([hidden])")
    assert shown.count() == 1
    assert "Images seen" in shown.inner_text()
    # And by keyboard, back.
    page.keyboard.press("ArrowLeft")
    until(
        page, "document.querySelector('section[data-chart] .xtitle').textContent != 'Images seen'"
    )
    assert axis_title(page) == "Training compute (FLOPs)"


@pytest.mark.slow
def test_zoom_and_back(law_page, opened):
    page = opened(law_page)
    ranges = "document.querySelector('.frontier')._fullLayout.xaxis.range.slice()"
    before = page.evaluate(ranges)
    x, y = point(page, 1, 2)
    page.mouse.move(x - 60, y - 40)
    page.mouse.down()
    page.mouse.move(x + 60, y + 60, steps=5)
    page.mouse.up()
    until(page, f"{ranges}[0] > {before[0] + 0.1}")
    after = page.evaluate(ranges)
    assert before[0] < after[0] < np.log10(8e9) < after[1] < before[1]
    page.mouse.dblclick(x, y)
    until(page, f"Math.abs({ranges}[0] - {before[0]}) < 1e-6")


@pytest.mark.slow
def test_print_view(law_page, opened):
    page = opened(law_page, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) != "rgb(255, 255, 255)"
    # Plotly's own colours would leave some words of the chart dark on dark.
    fills = page.evaluate(
        """[...document.querySelectorAll('.main-svg text')]
            .filter(text => text.textContent && text.getBoundingClientRect().width)
            .map(text => getComputedStyle(text).fill)"""
    )
    assert set(fills) == {"rgb(230, 234, 240)"}
    page.emulate_media(media="print")
    until(page, "document.querySelector('.frontier').layout.width == 680")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    for selector in ("fieldset", ".modebar-container", "nav"):
        assert not any(part.is_visible() for part in page.locator(selector).all())
    assert [h.is_visible() for h in page.locator("h2").all()] == [True, True]
    # A page at least for each group, none of it wider than the paper.
    printed = page.pdf(format="A4")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 2
    assert page.evaluate("document.querySelector('.frontier').scrollWidth") <= 690
    page.emulate_media(media="screen")
    until(page, "document.querySelector('.frontier').layout.width != 680")


@pytest.mark.slow
def test_a_narrow_screen_scrolls_tables_alone(law_page, opened):
    page = opened(law_page)
    page.set_viewport_size({"width": 400, "height": 800})
    until(page, "document.querySelector('.frontier .main-svg').clientWidth < 400")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.slow
def test_a_group_without_a_law_says_why(law_page, opened):
    page = opened(law_page)
    few = page.locator("section[data-chart]").nth(1)
    assert few.locator("h2").inner_text() == "kind <i>few</i>"
    assert "No law: 1 point on the frontier of 1" in few.inner_text()
    assert few.locator(".points path").count() >= 1


def test_the_page_of_a_study(study_page, opened):
    page = opened(study_page)
    told = hovered(page, point(page, 0, 0))
    for text in ("size: 4x1/14", "steps: 250", "tpuv3_core_days: 3.501e-10", "results.csv, line 2"):
        assert text in told
    body = page.locator("body").inner_text()
    for text in ("What to try next", "Learning rates", "Configuration", "90% interval"):
        assert text in body
    page.get_by_text("Training compute (TPUv3 core-days)", exact=True).first.click()
    until(
        page,
        "document.querySelector('.xtitle').textContent == 'Training compute (TPUv3 core-days)'",
    )
    law = json.loads((study_page.parent / "law.json").read_text())["laws"][0]
    days = page.locator("[data-axis='1'] td").all_inner_texts()
    # The shift d is the parameter that has compute's unit.
    assert f"{law['tpuv3_core_days']['d']:.3g}" in days
    low, high = law["intervals"]["c"]
    assert f"{low:.3g} to {high:.3g}" in days


def test_the_file_alone_holds_everything(law_page):
    text = law_page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=", text)
    assert "<script>window.harmed" not in text
    assert "<img src=x" not in text
