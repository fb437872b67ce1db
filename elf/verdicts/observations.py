"""One form for numbers that are printed and numbers that are measured, so that both answer the same questions."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from elf.results.columns import Cell
from elf.results.statistics import Summary, published
from elf.specs.teacher import FULL_DATA
from elf.verdicts.printed import SETTING, read_printed

PRINTED_SEEDS = 5
"""Networks behind each mean and standard deviation of the paper."""

COLUMNS = ("experiment", *SETTING, "mean", "std", "n", "accuracies")
"""``mean`` and ``std`` (of the population) are in percent, NaN where nothing is printed or measured; ``n`` is the
number of seeds; ``accuracies`` is a Series in percent by seed, None where only the mean is known."""


def observations_of_printed() -> pd.DataFrame:
    """Return the accuracies that the paper prints, with the columns ``COLUMNS``.

    A mean that is printed alone has ``n = 1``; the FrePo row, quoted from another paper, counts as 5 networks.
    """
    printed = read_printed().query("kind == 'accuracy'")
    seeds = printed["std"].notna().map({True: PRINTED_SEEDS, False: 1}).where(printed["mean"].notna(), 0)
    accuracies = pd.Series([None] * len(printed), index=printed.index, dtype=object)
    return printed.assign(n=seeds, accuracies=accuracies)[list(COLUMNS)].reset_index(drop=True)


def observations_of_cells(cells: Mapping[str, Iterable[Cell]]) -> pd.DataFrame:
    """Return what was measured, with the columns ``COLUMNS``, one row a setting of the paper and experiment.

    Parameters
    ----------
    cells : dict
        Gathered cells of each experiment. Those that the paper has no word for are left out: see
        :func:`is_of_paper`. Of several for one setting the first with the most seeds counts.
    """
    rows = []
    for experiment, members in cells.items():
        chosen: dict[tuple, Cell] = {}
        for cell in members:
            setting = setting_of(cell)
            if is_of_paper(cell) and (setting not in chosen or len(cell.rows) > len(chosen[setting].rows)):
                chosen[setting] = cell
        rows += [_row(experiment, setting, cell) for setting, cell in chosen.items()]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    names = [column for column in SETTING if column != "ipc"]
    return frame.astype({"ipc": float, "mean": float, "std": float} | dict.fromkeys(names, object))


def _row(experiment: str, setting: tuple, cell: Cell) -> dict:
    summary = cell.summary
    measured = {"mean": 100 * summary.mean, "std": 100 * summary.std, "n": summary.n}
    measured["accuracies"] = None if cell.rows.empty else 100 * cell.accuracies
    return {"experiment": experiment, **dict(zip(SETTING, setting, strict=True)), **measured}


def is_of_paper(cell: Cell) -> bool:
    """Whether a cell is trained as in the paper's tables.

    The weights of the loss are one, its definition is the official one, and neither set nor training
    is a variant.
    """
    weights = (cell.key.get("lambda_front"), cell.key.get("lambda_rear"))
    return (
        all(weight in (None, 1.0) for weight in weights)
        and cell.key.get("variant") in (None, "official")
        and cell.key.get("synthetic_variant") is None
        and cell.key.get("training_variant") is None
    )


def setting_of(cell: Cell) -> tuple:
    """Return a cell's values of ``SETTING``, None where there is none.

    Where a cell does not know what the paper calls a network, the network that was used stands for it.
    """
    key = cell.key
    setting = {column: key.get(column) for column in SETTING}
    if setting["paper_distill_network"] is None:
        setting["paper_distill_network"] = key.get("distill_network")
    if setting["paper_teacher_network"] is None:
        setting["paper_teacher_network"] = key.get("teacher_network")
    if setting["method"] == FULL_DATA:
        setting |= {"ipc": None, "objective": "task", "distance": None}
    # Without a front term there is nothing that a distance could apply to.
    if setting["objective"] == "elf[rear+task]":
        setting["distance"] = None
    ipc = setting["ipc"]
    setting["ipc"] = None if ipc is None or math.isnan(ipc) else float(ipc)
    return tuple(setting.values())


def setting_of_row(row: Mapping) -> tuple:
    """Return a row's values of ``SETTING``, None where there is none, to be compared with those of a cell."""
    return tuple(None if pd.isna(row[column]) else row[column] for column in SETTING)


def summary_of(row: Mapping) -> Summary:
    """Return mean and spread of an observation in percent, as :func:`elf.results.statistics.contrast` takes them.

    A mean that is printed without a spread counts as one network, of which no spread can be known.
    """
    return published(float(row["mean"]), 0.0 if pd.isna(row["std"]) else float(row["std"]), int(row["n"]))
