"""The pages in a real browser: nothing overflows, nothing is fetched, no error, and axe finds nothing to object to.

These tests need Debian's ``chromium`` and the extra ``browser`` (Playwright, and axe-core in axe-playwright-python);
they skip with the reason where either is missing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agreement_builders import agreement_document, make_readers_cohort, write_agreement
from doors import CHECKOUT
from recipe_builders import make_finished_run, patient_scores
from report_builders import make_cohort, make_run
from study_builders import study_content

from mpi_unet.exporting.card import Card, Section, write_card
from mpi_unet.reader_study.recipes import compare_runs
from mpi_unet.report.agreement import write_agreement_report
from mpi_unet.report.comparison import write_comparison
from mpi_unet.report.page import write_report
from mpi_unet.report.recipes import write_recipes_report
from mpi_unet.report.study_index import IndexRow, index_html
from mpi_unet.report.study_page import Flag, study_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SITE = CHECKOUT / "docs" / "_build" / "html"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright: pip install 'mpi-unet[browser]'")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind, with all its parts."""
    root = tmp_path_factory.mktemp("pages")
    cohort = make_readers_cohort(root / "cohort")
    alone = make_cohort(root / "alone")
    run = make_run(root / "study" / "kfold_dice", alone)
    readers = write_agreement(root / "readers", agreement_document(cohort.patients))
    flags = (Flag("few_counts", "notice", "Few counts."), Flag("cut_off", "urgent", "The heart is cut off."))
    folder = root / "predicted"
    (folder / "pages").mkdir(parents=True)
    (folder / "pages" / "P7_stress.html").write_text(study_html(study_content()))
    rows = [
        IndexRow("P7_stress", "segmented", "", flags, "pages/P7_stress.html", numbers=("EF 61 %",)),
        IndexRow("P8_stress", "refused", "voxel size 1.0 mm; training had 3.2 to 6.4 mm"),
    ]
    (folder / "index.html").write_text(index_html(rows, run="kfold", tables=["predictions.csv"]))
    for name, shift in (("dice", 0.03), ("entropy", 0.0)):
        scores = patient_scores(shift=shift, seed=len(name))
        make_finished_run(root / "recipes" / name, scores, loss={"name": name}, validation=0.5 + shift)
    compare_runs(str(root / "recipes"), root / "compared", seed=1, resamples=1000)
    sections = (
        Section(
            "Use", ("Run `it`.",), commands=("python -m monai.bundle run --config_file configs/inference.json " * 3,)
        ),
        Section("Scores", facts=(("Voxels", "3.2 mm"),), table=(("file", "SHA-256"), ("models/model.pt", "0" * 64))),
        Section("Limits", items=("Few patients.",)),
    )
    write_card(Card("kfold", ("Research.",), "Dice 0.83.", sections), root / "card.md", root / "card.html")
    return {
        "card": root / "card.html",
        "run": write_report(run, alone),
        "agreement": write_agreement_report(readers, cohort, predictions=cohort.root / "predictions"),
        "scenarios": write_comparison(root / "study", ["kfold_dice"]),
        "recipes": write_recipes_report(root / "compared"),
        "study": folder / "pages" / "P7_stress.html",
        "worklist": folder / "index.html",
    }


KINDS = ("run", "agreement", "scenarios", "recipes", "study", "worklist", "card")
SITE_PAGES = (
    "index",
    "own_data",
    "export",
    "predict",
    "performance",
    "seed_study",
    "agreement",
    "cardiac",
    "glossary",
    "reference/door_train",
    "reference/evaluation",
    "adr/0001-floors",
)


class Opened:
    """A page in the browser, with everything that it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, width: str, scheme: str = "light") -> None:
        wide, high = WIDTHS[width]
        self.page = browser.new_page(viewport={"width": wide, "height": high}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri(), wait_until="load")

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.requests.append(request.url)

    def assert_sound(self) -> None:
        """No complaint, no request, no sideways scrolling, nothing that axe objects to."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        assert self.complaints == []
        assert self.requests == []
        inner, whole = self.page.evaluate("[window.innerWidth, document.documentElement.scrollWidth]")
        assert whole <= inner, f"the page is {whole} pixels wide in a window of {inner}"
        objections = [
            f"{rule['id']}: {node['target']} {node['html'][:120]}"
            for rule in axe.run(self.page).response["violations"]
            for node in rule["nodes"]
        ]
        assert objections == []


@pytest.mark.parametrize(("width", "scheme"), [("desktop", "light"), ("phone", "light"), ("desktop", "dark")])
@pytest.mark.parametrize("kind", KINDS)
def test_page_is_sound_in_a_browser(browser, pages, kind, width, scheme):
    opened = Opened(browser, pages[kind], width, scheme)
    opened.assert_sound()
    opened.page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_page_prints_and_loses_no_column(browser, pages, kind):
    opened = Opened(browser, pages[kind], "desktop")
    printed = opened.page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 1
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins
    lost = opened.page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
        "getComputedStyle(e).overflowX !== 'visible').map(e => e.getAttribute('aria-label'))"
    )
    assert lost == []
    opened.page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_can_be_used_is_reached_by_the_keyboard(browser, pages, kind):
    opened = Opened(browser, pages[kind], "desktop")
    usable = (
        "[...document.querySelectorAll('a[href], summary, input:not([type=radio]), button, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility() && !e.disabled).length"
    )
    count = opened.page.evaluate(usable)
    seen, unmarked = set(), []
    for _ in range(count + 20):
        opened.page.keyboard.press("Tab")
        place, is_marked, what = opened.page.evaluate(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e); return ["
            "[...document.querySelectorAll('*')].indexOf(e), s.outlineStyle !== 'none' || s.boxShadow !== 'none', "
            "e.outerHTML.slice(0, 100)]; })()"
        )
        if what.startswith("<body"):
            break
        seen.add(place)
        if not is_marked:
            unmarked.append(what)
    assert len(seen) >= count
    assert unmarked == [], "where the keyboard is cannot be seen"
    opened.page.close()


def test_tick_boxes_hide_the_outlines_that_they_name(browser, pages):
    shown = "[...document.querySelectorAll('svg path, svg g, image')].filter(e => e.checkVisibility()).length"
    for kind in ("run", "agreement", "study"):
        opened = Opened(browser, pages[kind], "desktop")
        boxes = opened.page.query_selector_all("input[type=checkbox]")
        assert boxes
        before = opened.page.evaluate(shown)
        for box in boxes:
            box.click()
            assert opened.page.evaluate(shown) < before, box.evaluate("box => box.outerHTML")
            box.click()
            assert opened.page.evaluate(shown) == before
        opened.page.close()


def built_site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.skip("the documentation was not built: make docs")
    return SITE


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SITE_PAGES)
def test_page_of_the_documentation_is_sound_in_a_browser(browser, name, width):
    opened = Opened(browser, built_site() / f"{name}.html", width)
    opened.assert_sound()
    opened.page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_commands_and_pictures_of_the_documentation_are_wholly_seen(browser, width):
    cut = (
        "[...document.querySelectorAll('.highlight-text pre')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.textContent.slice(0, 80))"
    )
    broken = "[...document.images].filter(e => e.complete && !e.naturalWidth).map(e => e.src)"
    lost = {}
    for page in sorted(built_site().glob("*.html")):
        opened = Opened(browser, page, width)
        if found := [*opened.page.evaluate(cut), *opened.page.evaluate(broken)]:
            lost[page.name] = found
        opened.page.close()
    assert lost == {}


def test_documentation_is_searched_without_network(browser):
    opened = Opened(browser, built_site() / "search.html", "desktop")
    opened.page.goto((SITE / "search.html").as_uri() + "?q=margin")
    opened.page.wait_for_selector("#search-results li a", timeout=20_000)
    found = [link.get_attribute("href") for link in opened.page.query_selector_all("#search-results li a")]
    assert any("margin.html" in href for href in found)
    assert opened.requests == []
    opened.page.close()
