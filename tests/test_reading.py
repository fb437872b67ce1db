"""Tables and figures from a results file alone: ours, somebody else's, and what does not fit."""

import logging

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT

from elf.cli import main
from elf.errors import ElfError
from elf.results.columns import KEY_COLUMNS
from elf.results.reading import cells_as_found, mismatch, read_results
from elf.running.drawing import cells_of
from elf.study.plan import Plan, make_plan

# What a stranger's file needs: what was trained, how, and what came out; nothing on its origin.
LEAST = [
    "scale",
    *(c for c in KEY_COLUMNS if c not in ("paper_dataset", "paper_eval_network")),
    "seed",
    "accuracy",
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    return make_plan(PROJECT / "config", "paper", tmp_path_factory.mktemp("results"))


def rows_for(plan: Plan, experiment: str, **changes) -> pd.DataFrame:
    """Return made-up results for every cell of an experiment, as somebody else might have them."""
    random = np.random.default_rng(0)
    cells = cells_of(plan, experiment).assign(scale="paper", **changes)
    cells = cells.loc[cells.index.repeat(cells["seeds"])].reset_index(drop=True)
    seeds = cells.groupby([c for c in KEY_COLUMNS if c in cells], dropna=False, sort=False).cumcount()
    return cells.assign(seed=seeds, accuracy=random.uniform(0.1, 0.6, len(cells)))[LEAST]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with the configuration and nothing else: no images, no results."""
    (tmp_path / "config").symlink_to(PROJECT / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELF_DATA_DIR", str(tmp_path / "no images"))
    return tmp_path


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_is_drawn_from_a_strangers_file_alone(plan, elsewhere, ending, capsys):
    results = rows_for(plan, "table05")
    write = {"parquet": results.to_parquet, "csv": results.to_csv}[ending]
    write(elsewhere / f"theirs.{ending}", index=False)
    # The file says its scale; a bare number is the name of a table.
    assert main(["table", "5", "--results", f"theirs.{ending}"]) == 0
    printed = capsys.readouterr().out
    key = ["method", "eval_network", "objective"]
    for name, group in results.groupby(key):
        mean, std = 100 * group["accuracy"].mean(), 100 * group["accuracy"].std(ddof=0)
        text = f"{mean:.2f}" + (f" ± {std:.2f}" if len(group) > 1 else "")
        assert text in printed, name
    assert "—" not in printed.split("Bold")[0].replace("— not run", "")
    assert "Scale: scale of the paper" in printed


@pytest.mark.parametrize(("number", "bars"), [(1, 22), (3, 15), (4, 45)])
def test_figures_are_drawn_from_a_strangers_file_alone(plan, elsewhere, number, bars, capsys):
    results = rows_for(plan, f"figure{number}")
    results.to_parquet(elsewhere / "theirs.parquet", index=False)
    assert main(["figure", str(number), "--results", "theirs.parquet", "--folder", "drawn"]) == 0
    shown = pd.read_csv(elsewhere / "drawn" / f"figure{number}.csv")
    assert len(shown) == bars
    means = 100 * results.groupby([c for c in LEAST if c not in ("seed", "accuracy")], dropna=False)["accuracy"].mean()
    np.testing.assert_allclose(sorted(set(shown["mean"])), sorted(set(means)), rtol=1e-4)
    assert {file.suffix for file in (elsewhere / "drawn").iterdir()} == {".pdf", ".png", ".svg", ".csv"}
    assert not (elsewhere / "results").exists()


def test_rows_of_other_settings_are_named_and_shown_on_request(plan, elsewhere, capsys, caplog):
    results = rows_for(plan, "table05", lr=0.02, epochs=300)
    results.to_parquet(elsewhere / "theirs.parquet", index=False)
    with caplog.at_level(logging.WARNING):
        assert main(["table", "5", "--results", "theirs.parquet"]) == 0
    assert "± " not in capsys.readouterr().out.split("over")[1]
    assert "epochs 300" in caplog.text and "lr 0.02" in caplog.text and "--as-found" in caplog.text
    assert main(["table", "5", "--results", "theirs.parquet", "--as-found"]) == 0
    printed = capsys.readouterr().out
    for _, group in results[results["method"] == "dsa"].groupby(["eval_network", "objective"]):
        assert f"{100 * group['accuracy'].mean():.2f}" in printed


def test_epochs_that_nobody_planned_are_points_of_the_figure(plan, elsewhere):
    results = rows_for(plan, "figure4")
    results["teacher_epoch"] = results["teacher_epoch"].replace({10: 7, 200: 190})
    results.to_parquet(elsewhere / "theirs.parquet", index=False)
    for as_found in ((), ("--as-found",)):
        assert main(["figure", "4", "--results", "theirs.parquet", "--folder", "drawn", *as_found]) == 0
        epochs = set(pd.read_csv(elsewhere / "drawn/figure4.csv")["teacher_epoch"].dropna())
        assert epochs == {20, 30, 50, 80, 100, 150} | ({7, 190} if as_found else set())


def test_cells_as_found_keeps_places_that_the_file_has_nothing_for(plan):
    cells = cells_of(plan, "table09")
    results = rows_for(plan, "table09", lr=0.5)
    found = cells_as_found(cells, results[results["ipc"] == 10])
    assert len(found) == len(cells)
    assert set(found.loc[found["ipc"] == 10, "lr"]) == {0.5}
    assert set(found.loc[found["ipc"] != 10, "lr"]) == {0.01}
    assert mismatch(cells, results) == "lr 0.5 instead of 0.01"
    assert mismatch(found, results) is None
    assert mismatch(cells, results.iloc[:0]) is None


def test_what_is_no_table_of_results_is_named(elsewhere):
    (elsewhere / "text.csv").write_text("a,b\n1,2\n")
    (elsewhere / "text.parquet").write_text("no parquet")
    for file, message in {
        "none.parquet": "none.parquet: there is no such file",
        "text.csv": r"text.csv: the column\(s\) dataset, method, .* are missing",
        "text.parquet": "text.parquet: is no table of results",
    }.items():
        with pytest.raises(ElfError, match=message):
            read_results(elsewhere / file)


def test_a_fraction_that_is_none_is_refused(plan, elsewhere, capsys):
    results = rows_for(plan, "table09")
    results.loc[3, "accuracy"] = 47.1
    results.to_csv(elsewhere / "percent.csv", index=False)
    assert main(["table", "9", "--results", "percent.csv"]) == 1
    assert "has the accuracy 47.1; allowed are fractions from 0 to 1" in " ".join(capsys.readouterr().err.split())
