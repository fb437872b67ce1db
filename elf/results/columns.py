"""The results' schema, and how a cell selects its rows by their columns; the table itself is `elf.specs.columns`."""

import hashlib
import json
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import pyarrow

from elf.errors import ElfError
from elf.results.labels import dataset_label, describe
from elf.results.statistics import Summary, summarise_seeds
from elf.specs.column import ORIGIN, PAPER, PLACE, SET, SPENT, TRAINING, VARIANT
from elf.specs.columns import COLUMNS
from elf.specs.labels import UNCHANGED

TYPES = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
RESULTS = pyarrow.schema([(column.name, TYPES[column.stored]) for column in COLUMNS if column.stored])
"""One row a seed of every evaluation, with every column needed to filter and join without parsing a name."""


def _of(*roles: str) -> tuple[str, ...]:
    return tuple(column.name for role in roles for column in COLUMNS if column.role == role)


# A synthetic set: cells that agree on these are evaluations of the same images.
SET_COLUMNS = _of(SET, VARIANT)
# How a network is trained on them.
TRAINING_COLUMNS = _of(TRAINING)
KEY_COLUMNS = _of(SET, VARIANT, PLACE, TRAINING)
# What the paper calls the other two networks of a cell: known to the cells alone, and none of them differs by it.
PAPER_COLUMNS = _of(PAPER)
PROVENANCE_COLUMNS = _of(ORIGIN, SPENT)
# Results need these columns only if they tell runs apart by them.
OPTIONAL_COLUMNS = tuple(column.name for column in COLUMNS if column.is_optional)
REQUIRED_COLUMNS = (
    *(column for column in KEY_COLUMNS if column not in OPTIONAL_COLUMNS),
    "seed",
    "accuracy",
    *PROVENANCE_COLUMNS,
)


@dataclass(frozen=True, eq=False)
class Cell:
    """One training configuration that a table or figure wants, with the results it has so far.

    Attributes
    ----------
    key : dict
        Value of each of ``KEY_COLUMNS`` and ``PAPER_COLUMNS``; None where it does not apply.
    aligned : bool
        Whether the evaluation network is the one that the set was distilled with.
    rows : DataFrame
        Its rows of the results, one a seed, in the order of the seeds; empty when it has not been run.
    seeds : int or None
        Number of seeds that it should have; None if nobody said.
    """

    key: dict
    aligned: bool
    rows: pd.DataFrame
    seeds: int | None = None

    def __getitem__(self, column: str):
        return self.key[column]

    @cached_property
    def accuracies(self) -> pd.Series:
        """Accuracy (fraction of the test set) by seed."""
        return self.rows.set_index("seed")["accuracy"].astype(float)

    @cached_property
    def summary(self) -> Summary:
        """Statistics of the accuracies, as fractions."""
        return summarise_seeds(self.accuracies)

    @property
    def anchor(self) -> str:
        """Identifier that depends on the key alone, for links."""
        text = json.dumps({column: self.key[column] for column in KEY_COLUMNS}, sort_keys=True)
        return f"cell-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def check_results(results: pd.DataFrame) -> None:
    """Refuse results that cannot be shown without a wrong number.

    Raises
    ------
    ElfError
        When a column is missing, or an accuracy is not a fraction between 0 and 1.
    """
    missing = [column for column in REQUIRED_COLUMNS if column not in results.columns]
    if missing:
        raise ElfError(f"the results lack the column(s) {', '.join(missing)}; make the results again")
    accuracy = pd.to_numeric(results["accuracy"], errors="coerce")
    wrong = ~accuracy.between(0, 1)
    if wrong.any():
        row = wrong.idxmax()
        raise ElfError(
            f"row {row} of the results has the accuracy {results.loc[row, 'accuracy']}; "
            "allowed are fractions from 0 to 1; make that evaluation again"
        )


def gather(cells: pd.DataFrame, results: pd.DataFrame) -> list[Cell]:
    """Join cells with their results on the key columns that both have; a missing value equals a missing value.

    Parameters
    ----------
    cells : DataFrame
        One row a cell, with ``KEY_COLUMNS`` (``synthetic_variant`` only where there are any), ``aligned``, and,
        where they are known, ``PAPER_COLUMNS`` and ``seeds``; a cell listed twice counts once.
    results : DataFrame
        One row a seed, with ``REQUIRED_COLUMNS``; ``OPTIONAL_COLUMNS`` count where they are there. Without
        ``synthetic_variant`` the cells may name no more than one.

    Raises
    ------
    ElfError
        When a column is missing, an accuracy is no fraction, or a cell has two rows with the same seed.
    """
    check_results(results)
    optional = ("synthetic_variant", "training_variant", *PAPER_COLUMNS, "seeds")
    cells = cells.assign(**{column: None for column in optional if column not in cells.columns})
    missing = [column for column in (*KEY_COLUMNS, "aligned") if column not in cells.columns]
    if missing:
        raise ElfError(f"the cells lack the column(s) {', '.join(missing)}; name each of {', '.join(KEY_COLUMNS)}")
    joined = [column for column in KEY_COLUMNS if column in results.columns]
    if "synthetic_variant" not in joined and cells["synthetic_variant"].nunique(dropna=False) > 1:
        raise ElfError("the results lack the column synthetic_variant, by which the cells differ")
    positions: dict[tuple, list[int]] = {}
    for position, values in enumerate(_tuples(results, joined)):
        positions.setdefault(values, []).append(position)
    gathered: dict[tuple, Cell] = {}
    named = _tuples(cells, (*KEY_COLUMNS, *PAPER_COLUMNS))
    for values, aligned, seeds in zip(named, cells["aligned"], cells["seeds"], strict=True):
        key = dict(zip((*KEY_COLUMNS, *PAPER_COLUMNS), values, strict=True))
        rows = results.iloc[positions.get(tuple(key[column] for column in joined), [])].sort_values("seed")
        if rows["seed"].duplicated().any():
            seed = rows.loc[rows["seed"].duplicated(), "seed"].iloc[0]
            raise ElfError(f"the results have seed {seed} twice for {describe(key)}; make the results again")
        wanted = None if pd.isna(seeds) else int(seeds)
        gathered.setdefault(values, Cell(key, bool(aligned), rows, wanted))
    return list(gathered.values())


def _tuples(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple]:
    return list(zip(*([_plain(value) for value in frame[column]] for column in columns), strict=True))


def _plain(value):
    """Return None for a missing value and a float for a number, so that 30, 30.0 and NumPy's 30 are equal."""
    if value is None or pd.isna(value):
        return None
    return float(value) if isinstance(value, numbers.Real) else str(value)


def baseline_of(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """Return the cell that trains the same network on the same synthetic set with the task loss alone.

    Where several do (for instance at two learning rates) the one with the same ``lr`` and ``epochs`` is
    preferred, then the first.
    """
    same = (*SET_COLUMNS, "paper_eval_network", "eval_network")
    task = "task" + (UNCHANGED if cell["objective"].endswith(UNCHANGED) else "")
    baselines = [other for other in cells if other["objective"] == task and all(other[c] == cell[c] for c in same)]
    matched = [other for other in baselines if all(other[c] == cell[c] for c in ("lr", "epochs"))]
    return next(iter(matched + baselines), None)


def describe_data(cells: Iterable[Cell]) -> str:
    """Return what the cells were trained and tested on: ``CIFAR-10 (stand-in: digits), 10 images per class``."""
    cells = list(cells)
    datasets = dict.fromkeys((cell["paper_dataset"], cell["dataset"]) for cell in cells)
    names = [
        dataset_label(paper) + ("" if paper == used else f" (stand-in: {dataset_label(used)})")
        for paper, used in datasets
    ]
    ipcs = sorted({cell["ipc"] for cell in cells if cell["ipc"] is not None})
    if not ipcs:
        return f"{', '.join(names)}, all training images"
    images = " and ".join(", ".join(f"{ipc:g}" for ipc in ipcs).rsplit(", ", 1))
    return f"{', '.join(names)}, {images} {'image' if ipcs == [1] else 'images'} per class"


def describe_seeds(cells: Iterable[Cell], wanted: int) -> str:
    """Return how many seeds the cells that were run have: ``5 seeds``, or ``3 to 5 of 5 seeds``."""
    # A training on all real images is run once, as in the paper.
    counted = [cell for cell in cells if cell["ipc"] is not None]
    counts = {len(cell.rows) for cell in counted if not cell.rows.empty} or {0}
    found = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{min(counts)}"
    return f"{wanted} seeds" if counts == {wanted} else f"{found} of {wanted} seeds"
