"""The report in a browser, opened from the disk: every kind of link is clicked, and nothing is asked of a network."""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fabricated_report import fabricated_report
from PIL import Image

from elf.report.folder import write_folder
from elf.report.pages import render_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
DEVIATING = "tr[data-verdict='deviates']"


def found_browser() -> str | None:
    named = os.environ.get("ELF_CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser(other_processes):
    program = found_browser()
    if program is None:
        pytest.skip("no Chromium: name one with ELF_CHROMIUM, or have one of " + ", ".join(BROWSERS) + " on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright; 'pip install .[dev]' installs it")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A report that was moved: nothing in it may remember where it was written."""
    written = tmp_path_factory.mktemp("written") / "report"
    write_folder(written, render_report(fabricated_report()))
    moved = tmp_path_factory.mktemp("moved") / "it's a cöpy #1"
    shutil.move(written, moved)
    return moved


class Watched:
    """A page, and everything that it asks for or complains about."""

    def __init__(self, context, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", self.note_failure)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def note_failure(self, request) -> None:
        # A click that leaves a page before all of it has come aborts what was under way.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url} ({request.failure})")

    def open(self, name: str = "index.html") -> None:
        self.page.goto((self.folder / name).as_uri())

    @property
    def place(self) -> str:
        """The page that is open, below the folder, with its anchor."""
        address = urlsplit(self.page.url)
        path = Path(unquote(address.path)).relative_to(self.folder).as_posix()
        return path + (f"#{address.fragment}" if address.fragment else "")

    def click(self, selector: str, then: str) -> None:
        """Click the first element of a selector, and be where that leads."""
        self.page.locator(selector).first.click()
        assert self.place == then


@pytest.fixture
def watched(browser, folder):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    found = Watched(context, folder)
    yield found
    context.close()
    assert found.requests
    assert not [address for address in found.requests if not address.startswith("file://")]
    assert found.complaints == []


def test_from_the_first_page_to_the_origin_of_a_number_and_back(watched):
    watched.open()
    assert "What the paper claims" in watched.page.inner_text("main")
    watched.click("#tables tbody th a", "tables/table05.html")
    number = watched.page.locator(".table tbody td a").first
    shown = number.inner_text()
    target = number.get_attribute("href").removeprefix("../")
    watched.click(".table tbody td a", target)
    assert shown.split(" ")[0] in watched.page.inner_text(".number")
    assert watched.page.locator("#seeds tbody tr").count() == 5
    assert "evaluations/x/seeds0-4.parquet" in watched.page.inner_text("#files")
    assert "snakemake --profile profiles/local" in watched.page.inner_text("#again")
    watched.page.locator("#files summary >> text=all settings").first.click()
    assert "0.125" in watched.page.inner_text("#files details[open]")
    watched.click(".back a", "tables/table05.html")
    watched.page.go_back()
    watched.click("nav a >> text=Overview", "index.html")


def test_a_verdict_leads_to_its_first_row_and_filters(watched):
    watched.open()
    watched.click("#tables a:has(.badge.deviates)", "tables/table05.html#deviates")
    assert watched.page.locator(f"{DEVIATING}:target").count() == 1
    rows = watched.page.locator("tr[data-verdict]:visible")
    everything, deviating = rows.count(), watched.page.locator(DEVIATING).count()
    assert 0 < deviating < everything
    button = watched.page.locator(".filter button[data-verdict='deviates']")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert rows.count() == deviating
    button.click()
    assert rows.count() == everything
    watched.page.locator(f"{DEVIATING} td a").first.click()
    assert watched.place.startswith("cells/")
    assert "deviates" in watched.page.inner_text("#compared")


def test_claims_audit_figures_pictures_and_costs(watched):
    for selector, place, text in (
        ("#claims tbody a", "claims.html#claim-1", "the aligned network does better"),
        ("#audit li a", "audit.html#gain", "printed gain"),
        ("#figures li a", "figures.html#figure4", "Figure 4"),
        ("nav a >> text=Costs", "costs.html", "What ELF stores beside the images"),
        ("nav a >> text=Data", "data.html", "142"),
        ("nav a >> text=Recipes", "recipes.html", "official code"),
    ):
        watched.open()
        watched.click(selector, place)
        assert text in watched.page.inner_text("main")
    watched.open("figures.html")
    assert watched.page.evaluate("document.querySelector('figure img').naturalWidth") > 0
    watched.page.locator("summary >> text=Where its numbers come from").first.click()
    watched.page.locator("details[open] a").first.click()
    assert watched.place.startswith("cells/")
    watched.click(".back a >> text=Figure 4", "figures.html#figure4")
    watched.click("nav a >> text=Synthetic images", "images.html")
    watched.click(".sheet a", "images/cifar10-dm.png")
    watched.page.go_back()
    assert watched.place == "images.html"


def test_every_link_of_every_page_leads_somewhere(watched, folder):
    links = """[...document.querySelectorAll("[href], [src]")].map((one) => one.href || one.src)"""
    wanted, anchors = {}, {}
    for file in sorted(folder.rglob("*.html")):
        name = file.relative_to(folder).as_posix()
        watched.open(name)
        anchors[name] = set(watched.page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)"))
        wanted[name] = watched.page.evaluate(links)
    assert len(wanted) == len(anchors) > 15
    for name, addresses in wanted.items():
        for address in map(urlsplit, addresses):
            assert address.scheme == "file"
            target = Path(unquote(address.path))
            assert target.is_file(), f"{name}: {address.geturl()}"
            if address.fragment:
                assert address.fragment in anchors[target.relative_to(folder).as_posix()], address.geturl()


def test_it_can_be_read_without_javascript(browser, folder):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "tables" / "table05.html").as_uri())
    assert page.locator("tr[data-verdict]").count() > 20
    page.locator(".filter a:has(.badge.deviates)").click()
    assert page.url.endswith("#deviates")
    context.close()


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_it_is_not_blank(browser, folder, tmp_path, colors):
    context = browser.new_context(viewport={"width": 1000, "height": 1400}, color_scheme=colors)
    page = context.new_page()
    page.goto((folder / "index.html").as_uri())
    page.screenshot(path=tmp_path / "index.png")
    # The page itself does not scroll sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    context.close()
    seen = Image.open(tmp_path / "index.png").convert("L")
    histogram = seen.histogram()
    background = max(range(256), key=histogram.__getitem__)
    assert (background > 200) == (colors == "light")
    # Text, rules and badges, but mostly paper.
    assert 0.02 < 1 - histogram[background] / sum(histogram) < 0.6
