"""What stages that draw share: the results, the cells of an experiment, and what its caption says."""

from pathlib import Path

import pandas as pd

from elf.artifacts.tables import read_table
from elf.results.columns import OPTIONAL_COLUMNS
from elf.results.schema import RESULTS
from elf.stages.plan import Plan


def read_results(path: Path) -> pd.DataFrame:
    """Return results, one row a seed."""
    return read_table(path, "results", RESULTS, OPTIONAL_COLUMNS)[0].to_pandas()


def cells_of(plan: Plan, experiment: str) -> pd.DataFrame:
    """Return one row for each cell of an experiment."""
    return pd.DataFrame([cell.columns for cell in plan.grid.cells[experiment]])


def about(plan: Plan, experiment: str) -> dict:
    """Return what a caption says."""
    scale = plan.settings.scale
    shown = {cell.paper_dataset for cell in plan.grid.cells[experiment]}
    stand_ins = [f"{stand_in} stands in for {name}" for name, stand_in in scale.stand_ins.items() if name in shown]
    return {
        "title": title(plan, experiment),
        "scale": scale.description,
        "stand_ins": "; ".join(stand_ins),
        "seeds": scale.seeds,
    }


def title(plan: Plan, experiment: str) -> str:
    """Return kind, number and title of an experiment."""
    config = plan.settings.experiments[experiment]
    return f"{config.kind.capitalize()} {config.number}: {config.title}"
