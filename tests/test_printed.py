"""The paper's numbers in the project's names, against the files that they were copied into and the list of its runs."""

import csv
import math
from collections import Counter
from pathlib import Path

import pytest
from conftest import PROJECT

from elf.errors import ElfError
from elf.specs.network import matching_teacher, parse
from elf.verdicts import printed as module
from elf.verdicts.printed import SETTING, network_of, read_printed, read_teacher_epochs

# Rows and rows with a value, as the project's notes on the paper count them.
COUNTS = {1: (48, 43), 2: (16, 16), 3: (30, 26), 4: (30, 30), 5: (54, 54), 6: (54, 54), 7: (44, 44), 8: (12, 12)}
COUNTS |= {9: (15, 15), 11: (12, 12), 12: (50, 50)}
GRID = Path(__file__).parent / "paper"
TERMS = {"task": "task", "task+front+rear": "elf", "task+rear": "elf[rear+task]", "task+front": "elf[front+task]"}
TERMS |= {"front+rear": "elf[front+rear]", "frepo": "frepo"}
DATA = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "TinyImageNet": "tiny-imagenet", "ImageNet-1K": "imagenet-1k"}


def records(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def file_of(number: int) -> list[dict]:
    return records(PROJECT / f"elf/verdicts/paper/table{number:02d}.csv")


@pytest.mark.parametrize("number", COUNTS)
def test_every_row_of_the_files_is_read(number):
    rows = read_printed().query("table == @number")
    assert (len(rows), rows["mean"].notna().sum()) == COUNTS[number]
    assert set(rows["experiment"]) == {f"table{number:02d}"}
    assert list(rows["row"]) == [int(row["row"]) for row in file_of(number)]


@pytest.mark.parametrize("number", COUNTS)
@pytest.mark.parametrize("column", ["mean", "std"])
def test_numbers_are_those_of_the_text(number, column):
    read = Counter(read_printed().query("table == @number")[column].dropna())
    assert read == Counter(float(row[column]) for row in file_of(number) if row[column])


def test_a_setting_is_printed_once_a_table():
    assert not read_printed().duplicated(["table", "kind", *SETTING]).any()


def test_names_are_those_of_the_project():
    printed = read_printed()
    for column in ("paper_distill_network", "paper_eval_network", "paper_teacher_network"):
        for name in printed[column].dropna().unique():
            assert str(parse(name)) == name
    assert set(printed["method"]) == {"dm", "dsa", "mtt", "tesla", "frepo", "full-data"}
    assert set(printed["distance"].dropna()) == {"ce", "mae", "mse", "cos"}
    assert set(printed["objective"]) == set(TERMS.values())


def test_what_applies_to_a_row_is_there_and_nothing_else():
    printed = read_printed()
    is_full = printed["method"] == "full-data"
    is_elf = printed["objective"].str.startswith("elf")
    assert (printed["ipc"].isna() == is_full).all()
    assert (printed["paper_distill_network"].isna() == is_full).all()
    assert (printed["paper_teacher_network"].notna() == is_elf).all()
    assert (printed["teacher_epoch"].notna() == (is_elf & (printed["kind"] == "accuracy"))).all()
    # The rear term alone has no distance.
    assert (printed["distance"].notna() == (is_elf & (printed["objective"] != "elf[rear+task]"))).all()
    assert (printed["objective"] == "frepo").equals(printed["paper_dataset"] == "cifar10-frepo")
    assert printed.loc[is_full, "std"].isna().all() and printed.loc[is_full, "mean"].notna().all()


def test_teachers_fit_where_the_paper_says_nothing_else():
    # Tables 8 and 11 are about teachers that do not.
    elf = read_printed().query("objective.str.startswith('elf') and table not in (8, 11)")
    for row in elf.to_dict("records"):
        side = 64 if row["table"] == 7 else 32
        assert row["paper_teacher_network"] == matching_teacher(row["paper_eval_network"], side)


def test_each_evaluation_of_the_list_of_runs_is_printed_and_the_other_way_round():
    """The list of runs was derived from the tables apart from their numbers."""
    wanted = Counter()
    for row in records(GRID / "grid_evaluations.csv"):
        zca = {"0": "", "1": "-zca", "frepo": "-frepo"}[row["zca"]]
        setting = (
            DATA[row["dataset"]] + zca,
            float(row["ipc"]),
            row["method"].lower(),
            network_of(row["distill_model"]),
            network_of(row["eval_model"]),
            "frepo" if row["method"] == "FrePo" else TERMS[row["loss_terms"]],
            row["distance"].lower() or None,
            network_of(row["feature_model"]),
            float(row["feature_epoch"] or "nan"),
        )
        wanted.update((int(table), *map(str, setting)) for table in row["tables"].split(";"))
    rows = read_printed().query("kind == 'accuracy' and method != 'full-data' and note != 'printed as a dash'")
    columns = [*SETTING, "teacher_epoch"]
    found = Counter((row["table"], *(str(row[column]) for column in columns)) for row in rows.to_dict("records"))
    assert found == wanted


def test_each_full_data_run_of_the_list_is_printed_and_the_other_way_round():
    wanted = {
        (int(table), DATA[row["dataset"]], network_of(row["model"]))
        for row in records(GRID / "grid_full_data.csv")
        for table in row["tables"].split(";")
    }
    rows = read_printed().query("method == 'full-data'")
    assert set(rows[["table", "paper_dataset", "paper_eval_network"]].itertuples(index=False, name=None)) == wanted


def test_epochs_of_teachers_are_those_of_table_10():
    epochs = read_teacher_epochs()
    assert len(epochs) == 16 and epochs["teacher_epoch"].notna().sum() == 8
    known = epochs.dropna()
    table10 = {tuple(row)[:-1]: row.teacher_epoch for row in known.itertuples(index=False)}
    elf = read_printed().query("table in (5, 6, 7) and objective == 'elf' and kind == 'accuracy'")
    for row in elf.itertuples():
        assert row.teacher_epoch == table10[row.table, row.paper_dataset, row.ipc, row.method]


@pytest.mark.parametrize(
    ("table", "row", "expected"),
    [
        (5, 7, {"paper_teacher_network": "convnet-w128-d3-in", "teacher_epoch": 30, "mean": 55.19, "std": 0.44}),
        (5, 12, {"kind": "gain", "objective": "elf", "distance": "ce", "mean": 9.02}),
        (7, 1, {"paper_eval_network": "convnet-w128-d4-in", "inferred": True, "paper_dataset": "tiny-imagenet"}),
        (8, 3, {"paper_teacher_network": "resnet18-in", "teacher_epoch": 100, "paper_dataset": "cifar100-zca"}),
        (8, 5, {"bold": True, "paper_eval_network": "convnet-w512-d3-in", "mean": 30.76}),
        (9, 7, {"objective": "elf[front+task]", "distance": "ce", "ipc": 1, "mean": 21.47}),
        (1, 38, {"paper_distill_network": "frepoconv-w128-bn", "paper_dataset": "cifar10-frepo", "mean": 65.6}),
        (12, 20, {"distance": "cos", "bold": True, "paper_eval_network": "vgg11-bn", "mean": 30.05}),
    ],
)
def test_rows_as_the_paper_has_them(table, row, expected):
    (found,) = read_printed().query("table == @table and row == @row").to_dict("records")
    assert {column: found[column] for column in expected} == expected


def test_what_is_read_can_be_changed_without_harm():
    printed = read_printed()
    printed["mean"] = math.nan
    assert read_printed()["mean"].notna().any()


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("ConvNet-IN", "convnet-w128-d3-in"),
        ("ConvNetD4-BN", "convnet-w128-d4-bn"),
        ("ConvNetD4W256-IN", "convnet-w256-d4-in"),
        ("ResNet18-IN", "resnet18-in"),
        ("VGG11-BN", "vgg11-bn"),
        ("FrePoConv-BN", "frepoconv-w128-bn"),
        ("", None),
    ],
)
def test_networks_are_named(printed, name):
    assert network_of(printed) == name


@pytest.mark.parametrize("printed", ["AlexNet-IN", "ConvNet", "ResNet18", "ConvNetW-IN"])
def test_an_unknown_network_is_refused(printed):
    with pytest.raises(ElfError, match=f"unknown network '{printed}'"):
        network_of(printed)


def test_an_unknown_method_is_refused(monkeypatch):
    monkeypatch.delitem(module.METHODS, "TESLA")
    with pytest.raises(ElfError, match="unknown 'TESLA'; known are DM, DSA"):
        read_teacher_epochs()


def test_package_brings_the_files_along():
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"paper/*.csv"' in text
    assert len(list((PROJECT / "elf/verdicts/paper").glob("table*.csv"))) == 12
