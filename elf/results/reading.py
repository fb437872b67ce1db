"""Results from a file: one of ours, which is verified, or somebody else's with the same columns."""

import logging
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from elf.artifacts.manifest import MANIFEST
from elf.artifacts.tables import read_table
from elf.errors import ElfError
from elf.results.columns import KEY_COLUMNS, OPTIONAL_COLUMNS, PROVENANCE_COLUMNS, REQUIRED_COLUMNS, RESULTS
from elf.specs.column import PLACE, SET
from elf.specs.columns import BY_NAME, COLUMNS

log = logging.getLogger(__name__)

BEFORE_THE_CHOICE = {column.name: column.earlier for column in COLUMNS if column.earlier is not None}
"""What our results that do not say it were trained with: they are older than the choice."""

UNSAID = {column.name: column.unsaid for column in COLUMNS if column.unsaid is not None}
"""What other people's results that do not say it were trained with."""


def read_results(path: Path) -> pd.DataFrame:
    """Return results, one row a seed.

    Parameters
    ----------
    path : Path
        Parquet with the columns of ``results.parquet``, or the same as CSV. A file with a manifest is verified. One
        without need not have the columns that say what a number was made from, nor those that seldom differ.

    Raises
    ------
    ElfError
        If the file is missing, damaged or altered, or lacks a column.
    """
    if path.suffix != ".csv" and _has_manifest(path):
        return read_table(path, "results", RESULTS, OPTIONAL_COLUMNS)[0].to_pandas().fillna(BEFORE_THE_CHOICE)
    if not path.is_file():
        raise ElfError(f"{path}: there is no such file; name a file of results")
    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise ElfError(
            f"{path}: is no table of results, or is damaged ({str(error).partition(chr(10))[0]}); if the workflow made "
            "it, delete it and start again"
        ) from error
    log.warning("%s carries no manifest: nothing vouches for its numbers", path)
    needed = [column for column in REQUIRED_COLUMNS if column not in PROVENANCE_COLUMNS]
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise ElfError(f"{path}: the column(s) {', '.join(missing)} are missing; needed are {', '.join(needed)}")
    unsaid = dict.fromkeys(PROVENANCE_COLUMNS) | UNSAID
    frame = frame.assign(**{column: value for column, value in unsaid.items() if column not in frame.columns})
    return frame.fillna(UNSAID)


def _has_manifest(path: Path) -> bool:
    try:
        return MANIFEST.encode() in (pyarrow.parquet.read_schema(path).metadata or {})
    except (OSError, ValueError, pyarrow.ArrowException):
        return False


def scale_of(results: pd.DataFrame) -> str | None:
    """Return the scale that all rows are of; None if they do not say."""
    scales = results["scale"].dropna().unique() if "scale" in results else []
    return str(scales[0]) if len(scales) == 1 else None


IDENTIFYING = tuple(name for name in KEY_COLUMNS if BY_NAME[name].role in (SET, PLACE) and BY_NAME[name].stored)
"""What a row must share with a cell to be of the same place in a table, however it was trained."""


def cells_as_found(cells: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of an experiment with the settings that stand in a file, instead of those of the configuration.

    Parameters
    ----------
    cells : DataFrame
        As for :func:`elf.results.columns.gather`.
    results : DataFrame
        Rows that were trained otherwise than the configuration says: other rates, epochs, weights or teachers.

    Returns
    -------
    DataFrame
        A cell for each setting that the file has in a place of the experiment; places that it has nothing for stay
        as they are. Distances and weights that are in the file and not in the experiment are shown, too.
    """
    own = [column for column in KEY_COLUMNS if column in results.columns and column not in IDENTIFYING]
    settings = results.drop_duplicates([*IDENTIFYING, *own])
    found = []
    for _, place in cells.drop_duplicates(list(IDENTIFYING)).iterrows():
        same = pd.Series(True, index=settings.index)
        for column in IDENTIFYING:
            wanted = place[column]
            same &= settings[column].isna() if pd.isna(wanted) else settings[column] == wanted
        rows = settings[same]
        if rows.empty:
            alike = (cells[list(IDENTIFYING)].fillna("") == place[list(IDENTIFYING)].fillna("")).all(axis=1)
            found += [cell for _, cell in cells[alike].iterrows()]
        taken = [column for column in own if BY_NAME[column].stored]
        found += [pd.concat([place.drop(taken), row[taken]]) for _, row in rows.iterrows()]
    return pd.DataFrame(found).reset_index(drop=True)


def mismatch(cells: pd.DataFrame, results: pd.DataFrame) -> str | None:
    """Return why no row belongs to any cell: the columns that have no value in common; None if rows belong."""
    joined = [column for column in KEY_COLUMNS if column in results.columns and column in cells.columns]
    if results.empty or not cells[joined].astype(object).merge(results[joined].astype(object)).empty:
        return None
    apart = []
    for column in joined:
        wanted, found = (set(map(str, frame[column].dropna())) for frame in (cells, results))
        if wanted and not wanted & found:
            apart.append(f"{column} {', '.join(sorted(found)) or 'empty'} instead of {', '.join(sorted(wanted))}")
    return "; ".join(apart) or "no row agrees with a cell in all columns at once"
