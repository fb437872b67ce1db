"""The report: one page that needs nothing else, where every number leads to its origin."""

import base64
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from fabricated_results import ABOUT, ALIGNED, cell, frames, spread

from elf.errors import ElfError
from elf.results.columns import gather
from elf.results.layout import lay_out
from elf.results.report import data_address, render_report

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects tags, identifiers, links and sources."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.attributes = [], [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.attributes |= set(values)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.sources += [values["src"]] if "src" in values else []


def entries():
    return [
        (cell(network=ALIGNED, aligned=True), spread(0.6, 0.001)),
        (cell(), spread(0.5, 0.001)),
        (cell(objective="elf"), spread(0.52, 0.001)),
        (cell(objective="kd"), []),
    ]


def report(about=ABOUT, **changes):
    arguments = {
        "about": about,
        "summary": "ELF helps & does not hurt",
        "tables": [lay_out(*frames(entries()), ABOUT)],
        "figures": [{"title": "Figure 3", "files": {"svg": b"<svg></svg>", "csv": b"x,mean\n1,61.25\n"}}],
        "contact_sheets": [{"title": "DM, 10 images per class", "image": PNG}],
        "data_cards": [{"name": "digits", "counts": {"train": {"zero": 142}}, "class_names": ["zero", "one"]}],
        "recipes": [
            {"recipe": "dm", "key": "iterations", "value": 20000, "source": "official code", "where": "main.py"}
        ],
    }
    return render_report(**(arguments | changes))


def test_every_part_is_there():
    text = report()
    for part in (
        "ELF helps &amp; does not hurt",
        "52.00 ± 0.14",
        "<td>61.25</td>",
        "DM, 10 images per class",
        "<dd>142</dd>",
        "zero, one",
        "<td>20000</td><td>official code</td>",
        "CIFAR-10 is stood in for by digits",
        "features-3",
        "synthetic-1",
    ):
        assert part in text


def test_the_page_needs_nothing_from_elsewhere():
    page = Page(report())
    assert "script" not in page.tags and "link" not in page.tags
    assert all(source.startswith("data:image/") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", report())


def test_links_lead_somewhere_and_identifiers_are_unique():
    page = Page(report())
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert sum(link.startswith("#cell-") for link in page.links) == 4


def test_the_origin_of_a_cell_lists_its_seeds():
    (anchor,) = (c.anchor for c in gather(*frames(entries())) if c["objective"] == "elf")
    section = re.search(rf'<article class="origin" id="{anchor}">(.*?)</article>', report(), re.DOTALL)[1]
    numbers = re.findall(r'<tr><th scope="row">(\d)</th><td>([\d.]+)</td><td>([\d.]+)</td><td>(\d+)</td></tr>', section)
    assert numbers == [(str(i), f"{51.8 + i / 10:.2f}", "1.5", "3") for i in range(5)]
    for value in ("teacher-2", "features-3", "dataset-0", "code-4", "cpu", "52.00 ± 0.14"):
        assert value in section


def test_a_cell_that_was_not_run_says_so():
    (anchor,) = (c.anchor for c in gather(*frames(entries())) if c["objective"] == "kd")
    section = re.search(rf'id="{anchor}">(.*?)</article>', report(), re.DOTALL)[1]
    assert "Not run." in section


def test_memory_that_was_not_measured_is_left_blank():
    cells, results = frames([(cell(), [0.5])])
    results["peak_memory_bytes"] = pd.array([None], dtype="Int64")
    assert "<td>50.00</td><td>1.5</td><td></td>" in report(tables=[], cells=gather(cells, results))


def test_cells_of_figures_are_listed_once():
    extra = gather(*frames([*entries(), (cell(objective="elf", lambda_front=2), [0.5])]))
    assert report(cells=extra).count('<article class="origin"') == len(entries()) + 1


def test_hostile_text_stays_text():
    text = report(
        about=ABOUT | {"title": HOSTILE, "stand_ins": HOSTILE, "details": {HOSTILE: HOSTILE}},
        summary=HOSTILE,
        tables=[lay_out(*frames([(cell(HOSTILE, HOSTILE), [0.5])]), ABOUT | {"title": HOSTILE})],
        figures=[{"title": HOSTILE, "caption": HOSTILE, "files": {"png": PNG, "csv": HOSTILE.encode()}}],
        contact_sheets=[{"title": HOSTILE, "image": PNG, "caption": HOSTILE}],
        data_cards=[{"name": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]}],
        recipes=[dict.fromkeys(("recipe", "key", "value", "source", "where"), HOSTILE)],
    )
    page = Page(text)
    assert "script" not in page.tags
    assert "onerror" not in page.attributes
    assert page.tags.count("img") == 2


def test_images_are_embedded_unchanged():
    address = data_address(PNG)
    assert address.startswith("data:image/png;base64,")
    assert base64.b64decode(address.split(",")[1]) == PNG
    assert address in report()


def test_an_image_of_unknown_kind_is_refused():
    with pytest.raises(ElfError, match="neither PNG nor JPEG"):
        data_address(b"GIF89a")


def test_sections_without_content_are_left_out():
    page = Page(report(tables=[], figures=(), contact_sheets=(), data_cards=(), recipes=()))
    assert page.ids == ["summary", "provenance"]
    assert {link[1:] for link in page.links} == set(page.ids)


def test_the_same_data_give_the_same_page():
    assert report() == report()
