"""Tables drawn from results that have exactly the paper's numbers look like the paper's tables."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT

from elf.results.columns import REQUIRED_COLUMNS
from elf.results.layout import lay_out
from elf.results.tables import render, tidy
from elf.running.drawing import about, cells_of
from elf.study.plan import Plan, make_plan
from elf.verdicts.printed import SETTING, read_printed

TABLES = [f"table{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)]
# Five numbers with mean 0 and population standard deviation 1.
UNIT = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2)


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    return make_plan(PROJECT / "config", "paper", tmp_path_factory.mktemp("results"))


def setting(row) -> tuple:
    # Without a front term there is no distance; the specification has its default.
    distance = None if row["objective"] == "elf[rear+task]" else row["distance"]
    values = [distance if column == "distance" else row[column] for column in SETTING]
    return tuple(None if pd.isna(value) else value for value in values)


def as_printed(plan: Plan, table: str) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Return the cells of a table, results with the printed means and deviations, and the printed rows by setting."""
    printed = read_printed()
    printed = printed[(printed["experiment"] == table) & (printed["kind"] == "accuracy")]
    by_setting = {setting(row): row for _, row in printed.iterrows()}
    assert len(by_setting) == len(printed)
    cells = cells_of(plan, table)
    rows = []
    for _, cell in cells.iterrows():
        row = by_setting[setting(cell)]
        if math.isnan(row["mean"]):
            continue
        spread = [0.0] if math.isnan(row["std"]) else UNIT * row["std"]
        for seed, deviation in enumerate(spread):
            accuracy = (row["mean"] + deviation) / 100
            rows.append(cell.to_dict() | {"seed": seed, "accuracy": accuracy} | dict.fromkeys(REQUIRED_COLUMNS[-8:]))
    return cells, pd.DataFrame(rows), by_setting


@pytest.mark.parametrize("table", TABLES)
def test_cells_of_a_table_are_the_printed_ones(plan, table):
    cells, _, printed = as_printed(plan, table)
    # The paper has a dash where FrePo would be evaluated on the ConvNet.
    dashes = {key for key, row in printed.items() if row["method"] == "frepo" and key[4] == "convnet-w128-d3-in"}
    assert len(dashes) == (table == "table01")
    assert {setting(cell) for _, cell in cells.iterrows()} == set(printed) - dashes
    assert len(cells) == len(printed) - len(dashes)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_prints_the_numbers_of_the_paper(plan, table):
    cells, results, printed = as_printed(plan, table)
    markdown = render(cells, results, about(plan, table))["md"]
    body = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    accuracies = [line for line in body if " gain |" not in line and " interval |" not in line]
    shown = [field.strip() for line in accuracies for field in line.split("|")[3:-1]]
    shown = sorted(field for field in shown if field not in ("", "—"))
    wanted = []
    for row in printed.values():
        if not math.isnan(row["mean"]):
            text = f"{row['mean']:.2f}" + ("" if math.isnan(row["std"]) else f" ± {row['std']:.2f}")
            wanted.append(f"**{text}**" if row["bold"] else text)
    assert shown == sorted(wanted)


@pytest.mark.parametrize("table", TABLES)
def test_bold_is_where_the_paper_has_bold(plan, table):
    cells, results, printed = as_printed(plan, table)
    layout = lay_out(cells, results, about(plan, table))
    frame = tidy(layout)
    best = {setting(row) for _, row in frame.iterrows() if layout.bold and row["best"]}
    assert best == {key for key, row in printed.items() if row["bold"]}


@pytest.mark.parametrize("table", ["table05", "table06", "table07"])
def test_gain_rows_are_those_of_the_paper_where_it_computed_them_right(plan, table):
    cells, results, _ = as_printed(plan, table)
    frame = tidy(lay_out(cells, results, about(plan, table)))
    gains = {setting(row): row["gain"] for _, row in frame.iterrows() if not pd.isna(row["gain"])}
    printed = read_printed()
    printed = printed[(printed["experiment"] == table) & (printed["kind"] == "gain")]
    wrong = {
        (row["method"], row["paper_eval_network"])
        for _, row in printed.iterrows()
        if abs(gains[setting(row)] - row["mean"]) > 0.006
    }
    misprinted = {"table05": {("dm", "vgg11-bn"), ("dsa", "resnet18-in")}}
    assert wrong == misprinted.get(table, set())
    assert len(printed) == len(gains) == {"table05": 15, "table06": 15, "table07": 10}[table]
    markdown = render(cells, results, about(plan, table))["md"]
    assert markdown.count("| gain |") == {"table05": 3, "table06": 3, "table07": 2}[table]


def test_only_tables_5_to_7_have_gain_rows(plan):
    for table in TABLES:
        cells, results, _ = as_printed(plan, table)
        has_gains = "| gain |" in render(cells, results, about(plan, table))["md"]
        assert has_gains == (table in ("table05", "table06", "table07"))


@pytest.mark.parametrize(
    ("table", "columns", "groups"),
    [
        ("table01", 6, 8),  # three methods with two distillation networks, FrePo, full data
        ("table02", 4, 4),  # two datasets, synthetic and full
        ("table03", 6, 5),
        ("table04", 6, 5),
        ("table07", 6, 4),
        ("table08", 2, 2),  # columns are images per class, groups evaluation networks
        ("table09", 3, 1),
        ("table11", 2, 2),
        ("table12", 5, 2),
    ],
)
def test_layout_is_that_of_the_paper(plan, table, columns, groups):
    cells, results, _ = as_printed(plan, table)
    layout = lay_out(cells, results, about(plan, table))
    assert (len(layout.columns), len(layout.groups)) == (columns, groups)
    labels = [group.label for group in layout.groups]
    assert len(set(labels)) == len(labels)
    if columns in (2, 3):
        assert [column.label for column in layout.columns] == [f"IPC {ipc}" for ipc in (1, 10, 50)[:columns]]


def test_rows_say_what_tells_them_apart(plan):
    cells, results, _ = as_printed(plan, "table08")
    layout = lay_out(cells, results, about(plan, "table08"))
    assert [group.label for group in layout.groups] == ["MTT, on ConvNet-W512-D3-IN", "MTT, on ResNet18-IN"]
    for group in layout.groups:
        rows = [row.label for row in group.rows]
        assert rows == ["baseline", "+ ELF, teacher ResNet18-IN", "+ ELF, teacher ConvNet-W512-D3-IN"]
    cells, results, _ = as_printed(plan, "table09")
    rows = [row.label for row in lay_out(cells, results, about(plan, "table09")).groups[0].rows]
    assert rows[0] == "baseline" and len(set(rows)) == 5
    cells, results, _ = as_printed(plan, "table12")
    rows = [row.label for row in lay_out(cells, results, about(plan, "table12")).groups[0].rows]
    assert [re.sub(r".*distance ", "", row) for row in rows] == ["baseline", "MAE", "MSE", "Cos", "CE"]


def test_table_10_prints_the_epochs_of_the_paper(plan):
    from elf.results.teacher_epochs import epochs
    from elf.verdicts.printed import read_teacher_epochs

    cells = cells_of(plan, "table10")
    rows = [
        cell.to_dict() | {"seed": 0, "accuracy": 0.5} | dict.fromkeys(REQUIRED_COLUMNS[-8:])
        for _, cell in cells.iterrows()
    ]
    shown = epochs(cells, pd.DataFrame(rows))
    assert list(shown.index) == ["CIFAR-10", "CIFAR-100", "Tiny ImageNet", "ImageNet-1K"]
    assert list(shown.columns) == ["DM", "DSA", "MTT", "TESLA"]
    found = [int(value) for value in shown.to_numpy().ravel() if value]
    assert found == [int(epoch) for epoch in read_teacher_epochs()["teacher_epoch"].dropna()]
