"""What is published under docs/results is what its results file gives: nothing was typed in or left behind."""

from pathlib import Path

import pytest

from elf.artifacts.tables import read_table
from elf.cli import main
from elf.results.columns import OPTIONAL_COLUMNS, RESULTS

PROJECT = Path(__file__).resolve().parent.parent
PUBLISHED = sorted(path.parent for path in (PROJECT / "docs" / "results").glob("*/results.parquet"))
# A table or figure that was measured later has rows of its own.
FILES = sorted(path for folder in PUBLISHED for path in folder.glob("*.parquet"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_tables_and_data_of_figures_come_from_the_results(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    drawn = [path for kind in ("table", "figure") for path in folder.glob(f"{kind}*.csv")]
    assert drawn
    for published in drawn:
        kind = published.stem.rstrip("0123456789")
        own = published.with_suffix(".parquet")
        results = own if own.exists() else folder / "results.parquet"
        arguments = ["--scale", folder.name, "--results", str(results), "--folder", str(tmp_path)]
        assert main([kind, published.stem, *arguments]) == 0
        texts = [ending for ending in (".csv", ".md", ".tex", ".html") if published.with_suffix(ending).exists()]
        for ending in texts:
            assert (tmp_path / published.name).with_suffix(ending).read_text() == published.with_suffix(
                ending
            ).read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_published_results_are_whole_and_unaltered(file):
    folder = file.parent
    table, manifest = read_table(file, "results", RESULTS, OPTIONAL_COLUMNS)
    rows = table.to_pylist()
    assert rows
    assert {row["scale"] for row in rows} == {folder.name} == {manifest["spec"]["scale"]}
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    # A fraction of the test set: some whole number of images was right.
    assert all(abs(row["accuracy"] * 10_000 - round(row["accuracy"] * 10_000)) < 1e-6 for row in rows)
