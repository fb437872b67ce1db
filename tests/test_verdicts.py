"""Comparison, claims and audit as files: what they say, and the stage that writes them."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from fabricated_results import seeds

from elf.cli import main
from elf.results.columns import KEY_COLUMNS, gather
from elf.running.drawing import cells_of
from elf.stages.verdicts import render
from elf.study.plan import make_plan
from elf.verdicts import text as verdicts
from elf.verdicts.audit import KINDS, audit
from elf.verdicts.claims import CLAIMS, judge
from elf.verdicts.comparison import RULE, compare
from elf.verdicts.observations import observations_of_printed
from elf.verdicts.printed import SETTING, TABLES, read_printed

FILES = ["comparison.csv", "comparison.md", "claims.md", "audit.md"]
LAPTOP = PROJECT / "docs/results/laptop/results.parquet"


def rows_of(markdown: str, first: str = "") -> list[list[str]]:
    """Return the cells of all lines of tables, but for headers and rules, whose first cell starts with a text."""
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [line for line in lines if line[0].startswith(first) and not line[0].startswith("---")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return what the stage writes for the published results of the laptop scale."""
    folder = tmp_path_factory.mktemp("verdicts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        # The scale is that of the results.
        assert main(["verdicts", "--results", str(LAPTOP), "--folder", str(folder)]) == 0
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


@pytest.fixture(scope="module")
def paper_plan(tmp_path_factory):
    return make_plan(PROJECT / "config", "paper", tmp_path_factory.mktemp("results"))


def as_printed(plan) -> dict:
    """Return cells of Table 5 at the paper's scale that were measured exactly as printed, five seeds each."""
    cells = cells_of(plan, "table05")
    printed = read_printed().query("table == 5 and kind == 'accuracy'").copy()
    rows = []
    for key in cells.to_dict("records"):
        key = {name: None if pd.isna(value) else value for name, value in key.items()}
        same = printed
        for column in SETTING:
            same = same[same[column].isna() if key[column] is None else same[column] == key[column]]
        (mean, std) = same[["mean", "std"]].iloc[0] if len(same) else (50.0, 1.0)
        count = 1 if np.isnan(std) else 5
        steps = np.array([-2, -1, 0, 1, 2]) / np.sqrt(2) * std if count == 5 else np.zeros(1)
        rows += seeds({column: key.get(column) for column in KEY_COLUMNS}, (mean + steps) / 100)
    return {"table05": gather(cells, pd.DataFrame(rows))}


def test_stage_writes_all_files(written):
    assert sorted(written) == sorted(FILES)
    assert all(text.endswith("\n") and "nan" not in text.lower().split() for text in written.values())


def test_comparison_has_a_row_for_each_printed_accuracy(written):
    frame = pd.read_csv(io.StringIO(written["comparison.csv"]))
    printed = read_printed().query("kind == 'accuracy'")
    for experiment in frame["experiment"].unique():
        assert (frame["experiment"] == experiment).sum() == (printed["experiment"] == experiment).sum()
        section = written["comparison.md"].split(f"## Table {int(experiment[-2:])}\n")[1].split("\n## ")[0]
        assert len(rows_of(section)) == (frame["experiment"] == experiment).sum() + 1
    assert {"table01", "table05"} <= set(frame["experiment"])


def test_a_scale_that_is_not_the_paper_s_is_not_compared(written):
    frame = pd.read_csv(io.StringIO(written["comparison.csv"]), keep_default_na=False)
    assert set(frame["verdict"]) <= {"not comparable", "not run", "not printed"}
    measured = frame[frame["verdict"] == "not comparable"]
    assert len(measured) > 0 and measured["note"].str.startswith("scale laptop").all()
    assert set(frame["difference"]) == set(frame["p"]) == {""}
    frepo = measured[measured["method"] == "frepo"]
    assert frepo["note"].str.contains("cifar10 stands in for cifar10-frepo").all()
    assert RULE in written["comparison.md"] and "Scale: laptop scale" in written["comparison.md"]


def test_measured_numbers_are_those_of_the_results(written):
    frame = pd.read_csv(io.StringIO(written["comparison.csv"]))
    results = pd.read_parquet(LAPTOP)
    by_shard = results.groupby("shard")["accuracy"].agg(["mean", "size"])
    measured = frame[frame["n"] > 0]
    assert len(measured) >= 15 and set(measured["n"]) == {5}
    for mean in measured["measured_mean"]:
        assert by_shard["mean"].mul(100).sub(mean).abs().min() < 1e-9
    (row,) = measured.query(
        "experiment == 'table05' and method == 'dm' and objective == 'task' and paper_eval_network == 'vgg11-in'"
    ).to_dict("records")
    same = results.query("method == 'dm' and objective == 'task' and eval_network == 'vgg11-w8-in'")
    assert row["measured_mean"] == pytest.approx(100 * same["accuracy"].mean())
    assert row["measured_std"] == pytest.approx(100 * same["accuracy"].std(ddof=0))


def test_claims_of_the_paper_stand_beside_the_measured_ones(written):
    overview = {row[0]: row[2:] for row in rows_of(written["claims.md"]) if row[0] in set("1234567")}
    assert list(overview) == list("1234567")
    assert overview["4"][0] == "supported"
    assert overview["5"] == ["supported", "not testable"]
    # Of some claims not all pairs were run.
    assert re.fullmatch(r"supported(, from \d+ of \d+ pairs)?", overview["4"][1])
    assert any(re.fullmatch(r".*, from \d+ of \d+ pairs", measured) for _, measured in overview.values())
    assert "Table 9: CIFAR-100, IPC 1, MTT" in written["claims.md"]


def test_the_paper_s_scale_is_compared(paper_plan):
    files = render(paper_plan, as_printed(paper_plan))
    assert list(files) == FILES
    frame = pd.read_csv(io.StringIO(files["comparison.csv"]))
    assert len(frame) == 39
    assert set(frame["verdict"]) == {"reproduced", "close"}
    # A single number of one network can be no more than close; so can cells whose spread is wide.
    assert (frame.loc[frame["printed_std"].isna(), "verdict"] == "close").all()
    assert (frame.loc[frame["printed_std"] < 0.8, "verdict"] == "reproduced").all()
    assert frame["difference"].abs().max() < 1e-9
    assert "39 close" not in files["comparison.md"] and " reproduced" in files["comparison.md"]


def test_claims_on_numbers_as_printed_are_judged_as_printed(paper_plan):
    text = render(paper_plan, as_printed(paper_plan))["claims.md"]
    rows = [row for row in rows_of(text, "ELF does better than the baseline")]
    printed, measured = (row for row in rows if row[1] in ("printed", "measured"))
    assert printed[2].startswith("40 ") and measured[2].startswith("15 ")
    assert measured[3] == printed[3] == "0 (0)"


def test_tables_of_markdown_are_regular():
    comparisons = compare("table12", [], comparable=True, reason="")
    judgements = {"printed": [judge(claim, observations_of_printed()) for claim in CLAIMS]}
    texts = [
        verdicts.comparison_page([verdicts.comparison_markdown("table12", comparisons)], "about"),
        verdicts.claims_markdown(judgements, "about"),
    ]
    for text in texts:
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in block.splitlines()}) == 1
            assert set(block.splitlines()[1]) <= set("|- ")


def test_an_empty_comparison_keeps_its_columns():
    frame = verdicts.comparison_frame([])
    assert frame.empty and {"experiment", *SETTING, "verdict", "note"} <= set(frame.columns)


def test_audit_lists_each_finding_under_its_kind():
    findings = audit()
    text = verdicts.audit_markdown(findings)
    for kind, title in KINDS.items():
        members = [finding for finding in findings if finding.kind == kind]
        section = text.split(f"## {title} ({len(members)})\n")[1].split("\n## ")[0]
        lines = [line for line in section.splitlines() if line.startswith("- Table")]
        assert len(lines) == len(members)
        assert all(finding.text in line for finding, line in zip(members, lines, strict=True))


def test_results_that_are_not_there_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    assert main(["verdicts", "--scale", "laptop", "--results-folder", str(tmp_path)]) == 1
    assert f"{tmp_path / 'laptop' / 'results.parquet'}: there is no such file" in capsys.readouterr().err


def test_every_table_of_accuracies_can_be_compared(paper_plan):
    planned = [f"table{number:02d}" for number in TABLES if f"table{number:02d}" in paper_plan.grid.cells]
    printed = read_printed().query("kind == 'accuracy'")
    for name in planned:
        wanted = printed[printed["experiment"] == name]
        cells = cells_of(paper_plan, name)
        known = {tuple(None if pd.isna(v) else v for v in row) for row in cells[list(SETTING)].itertuples(index=False)}
        for row in wanted.to_dict("records"):
            setting = {column: None if pd.isna(row[column]) else row[column] for column in SETTING}
            if setting["objective"] == "elf[rear+task]":
                setting["distance"] = "ce"
            is_dash = row["note"] == "printed as a dash"
            assert is_dash or tuple(setting.values()) in known, f"{name}: {setting}"
