"""The table of columns: results files, rows, cells, names and labels follow from it, and a column is one entry."""

import json
import os
import shutil

import pyarrow.parquet
import pytest
from conftest import PROJECT

from elf.results.columns import KEY_COLUMNS, RESULTS, TRAINING_COLUMNS
from elf.results.labels import PRINTED
from elf.specs.columns import BY_NAME, COLUMNS
from elf.specs.shard import MEASURED, SHARD

BEFORE = '    Column("labels"'
ENTRY = (
    '    Column("momentum", float, lambda run: run.recipe.model_dump().get("momentum"), **TRAINED, '
    'label="SGD momentum", words="momentum{:g}", **LATER, earlier=0.9),\n'
)
"""Not every protocol has one: FrePo's has none."""

PROGRAM = """
import json, sys
from pathlib import Path
import elf
import pandas as pd
from fabricated_results import ABOUT, cell, frames
from fabricated_runs import configuration, finish, plan_of
from elf.artifacts.code import code_of
from elf.results.columns import RESULTS
from elf.results.labels import setting_label
from elf.results.reading import read_results
from elf.results.tables import render
from elf.specs.kinds import _COMPUTED, OF_EXPERIMENTS
from elf.status.cell_names import Names, words_of
from elf.status.explanation_text import _columns
from elf.status.rows import rows_of

folder = Path(sys.argv[1])
configuration(folder)
plan = plan_of(folder)
specs = [(kind, spec) for kind in _COMPUTED if kind.collection for spec in getattr(plan.grid, kind.collection).values()]
said = {
    "package": elf.__path__[0],
    "schema": [[field.name, str(field.type)] for field in RESULTS],
    "computed": [code_of(kind, spec) for kind, spec in specs],
    "collected": code_of(OF_EXPERIMENTS),
}
if "momentum" in RESULTS.names:
    finish(plan)
    cells = [cell.columns for cells in plan.grid.cells.values() for cell in cells]
    said["cells"] = [[columns["method"], columns["objective"], columns["momentum"]] for columns in cells]
    rows = rows_of(plan)[0]
    said["rows"] = [[row["method"], row["objective"], row["momentum"]] for row in rows]
    one = next(columns for columns in cells if columns["objective"] == "elf")
    two = [one, one | {"momentum": 0.5}]
    said["names"] = [Names([words_of(columns) for columns in two]).shortest(index) for index in range(2)]
    said["explained"] = "\\n".join(_columns(two[1]))
    said["label"] = setting_label("momentum", 0.5)
    changes = [{"momentum": momentum} for momentum in (0.9, 0.5)]
    entries = [(cell(**change), [0.25 + index / 4]) for index, change in enumerate(changes)]
    said["table"] = render(*frames(entries), ABOUT)["md"]
    said["published"] = [float(value) for value in read_results(Path(sys.argv[2]))["momentum"].unique()]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(run_python, tmp_path_factory) -> tuple[dict, dict]:
    """What the program prints of the package as it is, and of a copy with one more column."""

    def of(package_in) -> dict:
        folder = tmp_path_factory.mktemp("study")
        (folder / "results").mkdir()
        program = package_in / "program.py" if package_in != PROJECT else folder / "program.py"
        program.write_text(PROGRAM, encoding="utf-8")
        path = os.pathsep.join([str(package_in), str(PROJECT / "tests")])
        published = PROJECT / "docs" / "results" / "laptop" / "results.parquet"
        ended = run_python(program, folder, published, env=os.environ | {"PYTHONPATH": path})
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout.splitlines()[-1])
        assert told["package"] == str(package_in / "elf")
        return told

    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(PROJECT / "elf", copy / "elf", ignore=shutil.ignore_patterns("__pycache__"))
    table = copy / "elf" / "specs" / "columns.py"
    text = table.read_text(encoding="utf-8")
    assert text.count(BEFORE) == 1
    table.write_text(text.replace(BEFORE, ENTRY + BEFORE), encoding="utf-8")
    return of(PROJECT), of(copy)


def test_a_column_is_one_entry(said):
    before, after = said
    added = [entry for entry in after["schema"] if entry not in before["schema"]]
    assert added == [["momentum", "double"]]
    names = [name for name, _ in after["schema"]]
    assert names[names.index("momentum") + 1] == "labels"
    for kind in ("cells", "rows"):
        entries = after[kind]
        assert {momentum for _, objective, momentum in entries if objective == "elf"} == {0.9}
        assert {momentum for method, _, momentum in entries if method == "full-data"} == {0.9}
        assert {momentum for _, objective, momentum in entries if objective == "frepo"} == {None}
    assert after["names"] == ["momentum0.9", "momentum0.5"]
    assert "SGD momentum 0.5" in after["explained"]
    assert after["label"] == "SGD momentum 0.5"


def test_cells_that_differ_in_a_new_column_have_rows_of_their_own(said):
    table = said[1]["table"]
    assert "| baseline, SGD momentum 0.9 | 25.00† |" in table
    assert "| baseline, SGD momentum 0.5 | **50.00**† |" in table


def test_results_of_before_a_column_are_read_as_it_says(said):
    assert said[1]["published"] == [0.9]


def test_a_column_makes_stale_what_is_collected_and_nothing_that_was_computed(said):
    before, after = said
    assert before["computed"] and before["computed"] == after["computed"]
    assert before["collected"] != after["collected"]


def test_columns_of_shards_are_those_that_evaluations_write():
    """The table says them again, because evaluations must not depend on it."""
    own = [RESULTS.field(column.name) for column in COLUMNS if column.stored and column.of is None]
    assert own == list(SHARD)
    assert set(MEASURED) <= set(SHARD.names)


def test_what_was_published_has_these_columns_in_this_order():
    published = pyarrow.parquet.read_schema(PROJECT / "docs" / "results" / "laptop" / "results.parquet")
    assert len(published) > 30
    assert [RESULTS.field(name) for name in published.names] == [field.remove_metadata() for field in published]
    assert sorted(published.names, key=RESULTS.names.index) == published.names


def test_every_column_has_what_its_kind_needs():
    assert len(BY_NAME) == len(COLUMNS)
    for column in COLUMNS:
        # Rows and cells are read from a run; what is measured is only in shards.
        assert column.of or (column.stored and not column.is_of_cells), column.name
        assert column.stored or column.is_of_cells, column.name
        assert not column.names or column.names in PRINTED, column.name
        assert column.is_optional or (column.earlier is None and column.unsaid is None), column.name
    assert set(TRAINING_COLUMNS) < set(KEY_COLUMNS)
