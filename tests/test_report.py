"""The report: a folder of pages that needs nothing else, where every number leads to its origin."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import PurePosixPath

import pandas as pd
import pytest
from fabricated_report import DIFFERENCES, artifacts, entries, fabricated_report, png
from fabricated_results import ABOUT, cell, frames

from elf.artifacts.lineage import THERE, Artifact, TensorSize
from elf.errors import ElfError
from elf.report import text
from elf.report.cell_pages import cell_view
from elf.report.content import Origin, Report, Sheet
from elf.report.costs import Costs, Total, cost_by_stage, cost_of, storage
from elf.report.folder import CONTENTS, write_folder
from elf.report.pages import render_report
from elf.results.columns import gather

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
TABLE = "tables/table05.html"
ROW = r'<tr><th scope="row" class="text">(.*?)</th>(.*?)</tr>'


class Page(HTMLParser):
    """Collects tags, identifiers, links and sources."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.attributes = [], [], [], [], set()
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.attributes |= set(values)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.sources += [values["src"]] if "src" in values else []


def decoded(report: Report) -> dict[str, str]:
    return {
        name: content.decode()
        for name, content in render_report(report).items()
        if name.endswith((".html", ".css", ".js"))
    }


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return render_report(fabricated_report())


@pytest.fixture(scope="module")
def pages(files) -> dict[str, str]:
    return {name: content.decode() for name, content in files.items() if name.endswith(".html")}


def anchor_of(network: str, objective: str) -> str:
    (found,) = (
        one.anchor
        for one in gather(*frames(entries()))
        if (one["paper_eval_network"], one["objective"]) == (network, objective)
    )
    return found


def test_every_part_is_there(pages, files):
    for name, parts in {
        "index.html": ["ELF helps &amp; does not hurt", "digits stands in for cifar10", "was made with other settings"],
        TABLE: ["55.19 ± 0.44", "snakemake --profile profiles/local x --config scale=smoke"],
        "figures.html": ["<td>61.25</td>", "figures/figure4.svg", "Not drawn yet", "nothing to draw"],
        "images.html": ["images/cifar10-dm.png", "Not made yet"],
        "data.html": ["<dd>142</dd>"],
        "recipes.html": ["<td>20000</td><td>official code</td>"],
        "claims.html": ["ELF does better than the baseline", "printed", "measured"],
        "audit.html": ["printed gain"],
        "costs.html": ["90.5 s", "3.0 MiB", "1.00 ×", "4.00 ×"],
    }.items():
        assert not [part for part in parts if part not in pages[name]], name
    assert files["images/cifar10-dm.png"] == png()
    assert files["downloads/table05.csv"].startswith(b"title,group")
    assert b"verdict" in files["downloads/table05-comparison.csv"]


def test_nothing_comes_from_elsewhere_and_every_link_leads_somewhere(files, pages):
    for name, content in pages.items():
        page = Page(content)
        assert len(page.ids) == len(set(page.ids)), name
        assert page.tags.count("script") == 1, name
        assert not re.search(r"url\(|@import|https?://", content), name
        for address in (*page.links, *page.sources):
            target, _, anchor = address.partition("#")
            assert ":" not in target and not target.startswith("/"), address
            path = resolved(name, target)
            assert path in files, f"{name}: {address}"
            if anchor:
                assert anchor in Page(pages[path]).ids, f"{name}: {address}"


def resolved(page: str, target: str) -> str:
    """Return the file of the report that an address on a page means."""
    parts = list(PurePosixPath(page).parent.parts) if target else [page]
    for part in PurePosixPath(target).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def expected_verdict(network: str, accuracies: list[float]) -> str:
    difference = DIFFERENCES.get(network, 0.0)
    if difference is None:
        return "not run"
    if difference == 12.0:
        return "deviates"
    # Equal means of 5 networks are not known to be within 2 points where networks differ by more than a point.
    return "close" if difference or pd.Series(accuracies).std() > 0.01 else "reproduced"


def test_verdicts_are_counted_and_said_in_words(pages):
    expected = [expected_verdict(key["paper_eval_network"], accuracies) for key, accuracies in entries()]
    assert set(expected) == {"reproduced", "close", "deviates", "not run"}
    for verdict in set(expected):
        rows = re.findall(rf'<tr data-verdict="{text.slug(verdict)}".*?</tr>', pages[TABLE], re.DOTALL)
        assert sum(", DM, " in row for row in rows) == expected.count(verdict), verdict
        assert all(f"</span> {verdict}</span>" in row for row in rows)
        assert f"</span> {len(rows)} {verdict}</span>" in pages["index.html"]


def test_numbers_of_the_paper_and_of_the_run_lead_to_the_same_page(pages):
    address = f"../cells/{anchor_of('resnet18-bn', 'elf')}.html"
    # In the layout of the paper and in the comparison.
    assert pages[TABLE].count(f'href="{address}"') == 2
    page = pages[address.removeprefix("../")]
    assert "41.59 ± 0.68" in page and "53.59 ± 0.68" in page and "+12.00" in page and "deviates" in page
    assert Page(page).links.count("../tables/table05.html") == 1


def test_the_origin_of_a_cell_lists_its_seeds_and_files(pages):
    page = pages[f"cells/{anchor_of('resnet18-in', 'elf')}.html"]
    numbers = re.findall(r'<tr><th scope="row">(\d)</th><td>([\d.]+)</td><td>([\d.]+)</td><td>(\d+)</td>', page)
    step = 0.35 / 2**0.5
    assert numbers == [(str(i), f"{38.81 + (i - 2) * step:.2f}", "1.5", "3") for i in range(5)]
    for artifact in artifacts():
        assert artifact.path in page and artifact.id in page
    for part in ("not on this disk", "in another state by now", "evaluation-code", "90.5 s"):
        assert part in page
    for part in ("0.125", "3.11.7", "cpu (test)", "teacher-2", "--force", "iterations"):
        assert part in page


def test_a_cell_that_was_not_run_says_so(pages):
    page = pages[f"cells/{anchor_of('vgg11-bn', 'elf')}.html"]
    assert "Not run." in page and 'id="seeds"' not in page


def test_a_scale_that_is_not_the_papers_is_not_compared():
    pages = decoded(fabricated_report(comparable=False, partial=True))
    for name in ("index.html", TABLE):
        assert "This is not the paper's scale." in pages[name]
        assert 'class="badge not-comparable"' in pages[name]
        assert not re.search(r'class="badge (reproduced|close|deviates)"', pages[name])
    assert "Unfinished." in pages["index.html"]
    assert "9 of 11 cells have been run" in pages["index.html"]


def test_measurements_that_are_missing_are_left_blank():
    cells, results = frames([(cell(), [0.5])])
    results["peak_memory_bytes"] = pd.array([None], dtype="Int64")
    (seed,) = cell_view(gather(cells, results)[0], Origin())["seeds"]
    assert seed == {"seed": 0, "accuracy": "50.00", "seconds": "1.5", "memory": "", "shard": ""}


def test_training_on_all_images_has_no_images_per_class():
    key = cell("full-data", ipc=None, distill_network=None)
    view = cell_view(gather(*frames([(key, [0.5])]))[0], Origin())
    assert view["title"] == "CIFAR-10, Full data, ResNet18-IN"
    assert view["interval"] == ""


def test_hostile_text_stays_text():
    report = fabricated_report(lambda given: given + HOSTILE)
    for name, content in decoded(report).items():
        if name.endswith(".html"):
            page = Page(content)
            assert page.tags.count("script") == 1, name
            assert not {"onerror", "onclick"} & page.attributes, name
            assert "x" not in page.sources, name
    assert all(re.fullmatch(r"[a-z0-9./-]+", name) for name in render_report(report))


def test_an_image_of_unknown_kind_is_refused():
    with pytest.raises(ElfError, match="neither PNG nor JPEG"):
        render_report(Report(ABOUT, sheets=(Sheet("x", b"GIF89a"),)))


def test_pages_without_content_are_left_out():
    files = render_report(Report(ABOUT))
    assert set(files) == {"index.html", "style.css", "report.js"}
    assert set(Page(files["index.html"].decode()).links) == {"index.html", "style.css", "#content"}


def test_the_same_data_give_the_same_pages(files):
    assert render_report(fabricated_report()) == files


def test_a_training_counts_once_however_many_checkpoints_it_gave():
    made = artifacts()
    more = [replace(a, path="teachers/x/net/epoch60.safetensors") for a in made if a.role == "teacher"]
    stages = {cost.name: cost for cost in cost_by_stage([*made, *more, *made])}
    assert (stages["training teachers"].jobs, stages["training teachers"].wall) == (1, Total(90.5, 0))
    assert (stages["training experts"].jobs, stages["training experts"].missing) == (0, 1)
    total = cost_of("everything", [*made, *more])
    assert (total.jobs, total.missing, total.wall, total.memory) == (5, 1, Total(5 * 90.5, 0), 3 * 2**20)


def with_measured(role: str, path: str, **measured) -> Artifact:
    return Artifact(role, path, THERE, path, {"kind": role, "id": path, "measured": measured})


def test_what_older_files_do_not_say_is_unknown_and_not_nothing():
    new = {"wall_seconds": 30.0, "device_seconds": 60.0, "peak_memory_bytes": 2**20, "images": 90, "device": "cpu"}
    old = [with_measured("evaluation", "a", wall_seconds=10.0, device="cpu"), with_measured("evaluation", "b")]
    assert cost_of("old", old).wall == Total(10.0, 1)
    assert cost_of("old", old).on_device == Total(None, 2)
    assert cost_of("old", old).memory is None and cost_of("old", old).images_per_second is None
    mixed = cost_of("mixed", [*old, with_measured("evaluation", "c", **new)])
    assert (mixed.wall, mixed.on_device) == (Total(40.0, 1), Total(60.0, 2))
    # Over the time of the file that says how many they were.
    assert (mixed.memory, mixed.images_per_second) == (2**20, 3.0)
    costs = Costs((), (cost_of("old", old), mixed), cost_of("nothing", []), ())
    page = render_report(Report(ABOUT, costs=costs))["costs.html"].decode()
    rows = {name: re.findall("<td[^>]*>(.*?)</td>", cells) for name, cells in re.findall(ROW, page)}
    assert rows["old"] == ["2", "10.0 s + 1 unknown", "—", "—", "—", "cpu"]
    assert rows["mixed"] == ["3", "40.0 s + 1 unknown", "60.0 s + 2 unknown", "1.0 MiB", "3", "cpu"]
    assert rows["nothing"] == ["0", "—", "—", "—", "—", ""]


def test_trainings_of_one_teacher_count_each_and_files_of_one_training_count_once():
    first, second = {"wall_seconds": 10.0, "device": "cpu"}, {"wall_seconds": 20.0, "device": "cpu"}
    files = [
        with_measured("teacher", "teachers/x/net/epoch1.safetensors", **first),
        with_measured("teacher", "teachers/x/net/epoch2.safetensors", **first),
        with_measured("teacher", "teachers/x/net/training.safetensors", **first),
        # A later training, which gave one checkpoint more, and one of another network that took as long.
        with_measured("teacher", "teachers/x/net/epoch3.safetensors", **second),
        with_measured("teacher", "teachers/x/other/epoch1.safetensors", **first),
    ]
    assert cost_of("teachers", files).wall == Total(10 + 20 + 10, 0)


def test_storage_is_counted_in_bytes():
    images = {"images": TensorSize("F32", (10, 3, 8, 8), 7680), "labels": TensorSize("I64", (10,), 80)}
    features = {"features": TensorSize("F32", (10, 16, 4, 4), 10240), "logits": TensorSize("F32", (10, 10), 400)}
    found = storage("x", images, "net", features, {"a": TensorSize("F32", (5,), 20), "b": TensorSize("I64", (), 8)})
    assert (found.images, found.pixels, found.labels, found.features, found.logits) == (7680, 1920, 80, 10240, 400)
    assert found.teacher_bytes == 28
    assert found.ratio == pytest.approx(4 / 3)
    assert found.ratio_to_pixels == pytest.approx(16 / 3)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.seconds(119.94), "119.9 s"),
        (text.seconds(150), "2.5 min"),
        (text.seconds(9000), "2.50 h"),
        (text.seconds(None), "—"),
        (text.total(Total(90.5, 0)), "90.5 s"),
        (text.total(Total(9000, 3)), "2.50 h + 3 unknown"),
        (text.total(Total(None, 3)), "—"),
        (text.rate(0.2549), "0.255"),
        (text.rate(12345.6), "12,346"),
        (text.rate(None), "—"),
        (text.size(1023), "1023 B"),
        (text.size(1536), "1.5 KiB"),
        (text.size(3 * 2**40), "3072.0 GiB"),
        (text.points(-0.001), "0.00"),
        (text.points(-1.5), "−1.50"),
        (text.p_value(0.0004), "< 0.001"),
        (text.slugs(["A b", "a-b", "?"]), ["a-b", "a-b-2", "section"]),
    ],
)
def test_numbers_are_written_for_people(written, expected):
    assert written == expected


def test_a_folder_holds_the_last_report_and_what_others_put_there(tmp_path):
    write_folder(tmp_path / "report", {"index.html": b"1", "cells/a.html": b"a", "old/b.html": b"b"})
    own = tmp_path / "report" / "notes.txt"
    own.write_text("mine")
    outside = tmp_path / "outside.txt"
    outside.write_text("not of the report")
    with open(tmp_path / "report" / CONTENTS, "a") as stream:
        stream.write("../outside.txt\n")
    write_folder(tmp_path / "report", {"index.html": b"2", "cells/c.html": b"c"})
    found = {path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*")}
    assert found == {"index.html", "cells", "cells/c.html", "contents.txt", "notes.txt"}
    assert (tmp_path / "report" / "index.html").read_bytes() == b"2"
    assert outside.exists()


def test_a_report_that_could_not_be_finished_has_no_first_page(tmp_path):
    write_folder(tmp_path, {"index.html": b"1", "a.html": b"a"})
    (tmp_path / "b.html").mkdir()
    with pytest.raises(ElfError, match="cannot be written"):
        write_folder(tmp_path, {"index.html": b"2", "b.html": b"b"})
    assert not (tmp_path / "index.html").exists()
