"""Printed against measured, as the pages show it: from rows alone, and what is on the pages is what the rows give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import failing, succeeding
from conftest import PROJECT
from fabricated_results import seeds
from scipy import stats

from elf.report.answers import MARK, filled
from elf.results.columns import KEY_COLUMNS
from elf.running.drawing import cells_of
from elf.stages.answers import PAGES, SCALES, answers
from elf.study.plan import make_plan

IN, BN = "convnet-w128-d3-in", "convnet-w128-d3-bn"
SET = "mtt-dc-bench"
RESULTS = PROJECT / "docs" / "results"
# MTT is printed as 63.48 on ConvNet-IN, and as 47.27 and, with ELF, 58.42 on ConvNet-BN.
MEANS = {
    ("published", IN, "task"): 63.3,
    ("published", BN, "task"): 47.5,
    ("published", BN, "elf"): 58.0,
    ("published", BN, "kd"): 55.0,
    ("published-one-piece", BN, "task"): 43.0,
}


def accuracies(mean: float, number: int) -> list[float]:
    """Return five accuracies of whole images around a mean in percent, others for each number."""
    noise = np.random.default_rng(number).normal(0, 0.5, 5)
    return list(np.round(100 * (mean + noise)) / 10_000)


@pytest.fixture
def rows(tmp_path, monkeypatch) -> dict[tuple, list[float]]:
    """Accuracies by scale, network and objective, which lie as results in the folders of both scales."""
    monkeypatch.chdir(PROJECT)
    known = {}
    for scale in SCALES:
        plan, found = make_plan(Path("config"), scale, Path("results")), []
        cells = [cell for name in plan.grid.cells for cell in cells_of(plan, name).to_dict("records")]
        for cell in cells:
            key = {column: None if pd.isna(value) else value for column, value in cell.items()}
            which = (scale, key["eval_network"], key["objective"])
            if key["method"] == SET and which in MEANS and key["teacher_epoch"] in (None, 50):
                known[which] = accuracies(MEANS[which], list(MEANS).index(which))
                found += [row | {"scale": scale} for row in seeds(key, known[which])]
        (tmp_path / scale).mkdir()
        frame = pd.DataFrame(found).drop_duplicates([*KEY_COLUMNS, "seed"])
        frame.to_parquet(tmp_path / scale / "results.parquet")
    assert known.keys() == MEANS.keys()
    return {key: list(100 * np.array(values)) for key, values in known.items()}


def table(text: str) -> list[list[str]]:
    return [[entry.strip() for entry in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def points(text: str) -> list[float]:
    return [
        float(number) for number in text.replace("−", "-").replace("[", "").replace("]", "").replace(",", "").split()
    ]


def gain(rows, objective: str, baseline: str = "task") -> list[float]:
    """Return the mean gain of an objective, paired by seed, and its 95 % interval."""
    differences = np.array(rows["published", BN, objective]) - np.array(rows["published", BN, baseline])
    return [differences.mean(), *stats.t.interval(0.95, 4, differences.mean(), stats.sem(differences))]


def test_each_printed_number_stands_beside_the_measured_one(rows, tmp_path):
    parts = answers(tmp_path)
    found = {row[1]: row for row in table(parts["printed"])}
    assert {name: row[2].partition(" (")[0] for name, row in found.items()} == {
        "ConvNet-W128-D3-IN": "63.48 ± 0.58",
        "ConvNet-W128-D3-BN, batch in 4 pieces": "47.27 ± 1.20",
        "ConvNet-W128-D3-BN, batch in 4 pieces + ELF": "58.42 ± 1.44",
        "ConvNet-W128-D3-BN, batch in one piece": "47.27 ± 1.20",
    }
    for name, which in zip(found, [which for which in MEANS if which[2] != "kd"], strict=True):
        values = rows[which]
        assert found[name][0] == SET
        assert found[name][3] == f"{np.mean(values):.2f} ± {np.std(values):.2f} (5)"
    assert found["ConvNet-W128-D3-BN, batch in one piece"][5].startswith("deviates, other set")
    assert "reproduced" not in parts["printed"]
    # The sentence counts the first scale alone: the other is there to be compared.
    judged = [row[5] for row in found.values() if "one piece" not in row[1]]
    assert parts["in-short"].startswith("Of 3 comparisons with printed numbers: ")
    assert f"{sum(verdict.startswith('as printed') for verdict in judged)} as printed, other set" in parts["in-short"]


def test_pieces_and_gains_are_paired_by_seed(rows, tmp_path):
    parts = answers(tmp_path)
    ((images, network, four, one, difference),) = table(parts["pieces"])
    assert (images, network) == (SET, "ConvNet-W128-D3-BN")
    mean = np.mean(rows["published", BN, "task"]) - np.mean(rows["published-one-piece", BN, "task"])
    assert points(difference)[0] == pytest.approx(mean, abs=0.006)
    assert four.startswith(f"{np.mean(rows['published', BN, 'task']):.2f} ")
    assert one.startswith(f"{np.mean(rows['published-one-piece', BN, 'task']):.2f} ")
    ((_, network, _, elf, kd, between, share),) = table(parts["teacher"])
    assert network == "ConvNet-W128-D3-BN, epoch 50"
    assert points(elf) == pytest.approx(gain(rows, "elf"), abs=0.006)
    assert points(kd) == pytest.approx(gain(rows, "kd"), abs=0.006)
    assert points(between) == pytest.approx(gain(rows, "elf", "kd"), abs=0.006)
    assert share == f"{gain(rows, 'kd')[0] / gain(rows, 'elf')[0]:.0%}"


def test_only_the_places_of_a_page_change(rows, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- answer: printed -->\nold\n<!-- end -->\nbetween\n<!-- answer: in-short -->\n<!-- end -->\nafter\n"
    )
    command = ["answers", "--folder", tmp_path, "--page", page]
    succeeding(command, capsys)
    text, parts = page.read_text(), answers(tmp_path)
    assert text == (
        f"before\n<!-- answer: printed -->\n{parts['printed']}<!-- end -->\nbetween\n"
        f"<!-- answer: in-short -->\n{parts['in-short']}<!-- end -->\nafter\n"
    )
    succeeding(command, capsys)
    assert page.read_text() == text


def test_mistakes_are_one_line(rows, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    assert "has no place" in failing(["answers", "--folder", tmp_path, "--page", page], capsys)
    page.write_text("<!-- answer: other -->\n<!-- end -->")
    assert "asks for 'other'" in failing(["answers", "--folder", tmp_path, "--page", page], capsys)
    first, second = (tmp_path / scale / "results.parquet" for scale in SCALES)
    second.rename(first)
    assert "expected published alone" in failing(["answers", "--folder", tmp_path, "--page", page], capsys)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_pages_hold_what_the_rows_give(page, monkeypatch):
    monkeypatch.chdir(PROJECT)
    text = page.read_text(encoding="utf-8")
    assert MARK.search(text)
    if (RESULTS / SCALES[0] / "results.parquet").is_file():
        assert filled(text, answers(RESULTS), str(page)) == text
    else:
        assert not any(part for _, part in MARK.findall(text))
