"""The layout of a table of accuracies, before it is given a format."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from elf.results import labels
from elf.results.columns import SET_COLUMNS, TRAINING_COLUMNS, Cell, baseline_of, describe_data, describe_seeds, gather
from elf.results.statistics import Difference, paired_difference

NOT_RUN = "—"
WITHOUT_TEACHER = ("task", "frepo")
"""Objectives that have no baseline: they are what others are compared with, each in its own protocol."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Column:
    """One evaluation network; ``aligned`` when the sets were distilled with it."""

    network: str
    label: str
    aligned: bool


@dataclass(frozen=True)
class Row:
    """One objective: its cells, and its change from the baseline in each column (None without a teacher)."""

    label: str
    cells: dict[str, Cell]
    gains: dict[str, Difference] | None


@dataclass(frozen=True)
class Group:
    """The rows of one synthetic set; ``best`` names the cells (by anchor) with the highest mean of a column."""

    label: str
    rows: tuple[Row, ...]
    best: frozenset[str]


@dataclass(frozen=True)
class Table:
    """A table laid out, before it is given a format."""

    title: str
    caption: str
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    seeds: int


def lay_out(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> Table:
    """Arrange cells as in the paper's Table 5: a group a synthetic set, a row an objective, a column a network.

    Parameters
    ----------
    cells, results : DataFrame
        As for :func:`elf.results.columns.gather`.
    about : dict
        ``title``; ``scale``; ``stand_ins``, the text that says what stands in for what; ``seeds``, the number
        of seeds that each cell should have.

    Returns
    -------
    Table
        Columns: the aligned network, then families and norms in the paper's order. Where the cells of a
        column and objective differ in a setting (distance, weight, teacher, ...), each value has its row.
    """
    gathered = gather(cells, results)
    by_set: dict[tuple, list[Cell]] = {}
    for cell in gathered:
        by_set.setdefault(tuple(cell[column] for column in SET_COLUMNS), []).append(cell)
    names = _group_labels(list(by_set))
    groups = tuple(_group(name, members) for name, members in zip(names, by_set.values(), strict=True))
    return Table(
        title=about["title"],
        caption=_caption(gathered, about),
        notes=tuple(_notes(groups, about["seeds"])),
        columns=_columns(gathered),
        groups=groups,
        seeds=about["seeds"],
    )


def _columns(cells: list[Cell]) -> tuple[Column, ...]:
    printed = labels.network_labels(cell["paper_eval_network"] for cell in cells)
    distilled = [cell for cell in cells if cell["distill_network"] is not None]
    aligned = {cell["paper_eval_network"] for cell in distilled if cell.aligned}
    aligned -= {cell["paper_eval_network"] for cell in distilled if not cell.aligned}
    networks = sorted(printed, key=lambda name: (name not in aligned, *labels.network_order(name)))
    return tuple(Column(name, printed[name], name in aligned) for name in networks)


def _group_labels(sets: list[tuple]) -> list[str]:
    """Name each synthetic set by its method, and by what tells it from others of the same method."""
    keys = [dict(zip(SET_COLUMNS, values, strict=True)) for values in sets]
    names = []
    for key in keys:
        same = [other for other in keys if other["method"] == key["method"]]
        settings = [column for column in SET_COLUMNS if column != "synthetic_variant"]
        differing = [c for c in settings if len({other[c] for other in same}) > 1]
        parts = [labels.setting_label(column, key[column]) for column in differing]
        # A variant is named even where it stands alone: a set selected on the test set must not pass for another.
        if key["synthetic_variant"] is not None:
            parts.append(labels.value_label("synthetic_variant", key["synthetic_variant"]))
        names.append(", ".join([labels.method_label(key["method"]), *parts]))
    return names


def _group(label: str, cells: list[Cell]) -> Group:
    objectives = dict.fromkeys(cell["objective"] for cell in cells)
    order = sorted(objectives, key=lambda name: (name != "task", not name.startswith("elf")))
    rows = [row for name in order for row in _rows(name, cells)]
    return Group(label, tuple(rows), frozenset(_best(rows)))


def _rows(objective: str, group: list[Cell]) -> list[Row]:
    cells = [cell for cell in group if cell["objective"] == objective]
    by_network: dict[str, list[Cell]] = {}
    for cell in cells:
        by_network.setdefault(cell["paper_eval_network"], []).append(cell)
    differing = [
        column
        for column in ("eval_network", *TRAINING_COLUMNS)
        if any(len({cell[column] for cell in same}) > 1 for same in by_network.values())
    ]
    rows: dict[tuple, dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault(tuple(cell[c] for c in differing), {})[cell["paper_eval_network"]] = cell
    return [
        Row(
            ", ".join(
                [
                    labels.objective_label(objective),
                    *(labels.setting_label(c, value) for c, value in zip(differing, values, strict=True)),
                ]
            ),
            members,
            None if objective in WITHOUT_TEACHER else _gains(members, group),
        )
        for values, members in rows.items()
    ]


def _gains(cells: dict[str, Cell], group: list[Cell]) -> dict[str, Difference]:
    gains = {}
    for network, cell in cells.items():
        baseline = baseline_of(cell, group)
        if baseline is not None and not cell.rows.empty and not baseline.rows.empty:
            gains[network] = paired_difference(baseline.accuracies, cell.accuracies)
    return gains


def _best(rows: list[Row]) -> Iterator[str]:
    """Yield the best cells of each column as printed, so that equal figures are bold together."""
    by_network: dict[str, dict[str, float]] = {}
    for row in rows:
        for network, cell in row.cells.items():
            if not cell.rows.empty:
                by_network.setdefault(network, {})[cell.anchor] = round(100 * cell.summary.mean, 2)
    for means in by_network.values():
        if len(means) > 1:
            yield from (anchor for anchor, mean in means.items() if mean == max(means.values()))


def _caption(cells: list[Cell], about: dict) -> str:
    gain = (
        "Gain: mean of the paired differences to the baseline in percentage points, with its 95 % t-interval; "
        f"* marks p < {SIGNIFICANT} (paired t-test over seeds, not corrected for multiple comparisons). "
    )
    return (
        f"Test accuracy (%) on {describe_data(cells)}: "
        f"mean ± population standard deviation over {describe_seeds(cells, about['seeds'])}. "
        f"{gain if any(cell['objective'] not in WITHOUT_TEACHER for cell in cells) else ''}"
        f"Bold: best of the column within a method. {labels.scale_text(about)}"
    )


def _notes(groups: tuple[Group, ...], seeds: int) -> Iterator[str]:
    entries = [(group, row, cell) for group in groups for row in group.rows for cell in row.cells.values()]
    if any(cell.rows.empty for _, _, cell in entries):
        yield f"{NOT_RUN} not run."
    short = [
        f"{group.label} {row.label} on {labels.network_label(cell['paper_eval_network'])}: {len(cell.rows)}"
        for group, row, cell in entries
        if 0 < len(cell.rows) < seeds
    ]
    if short:
        yield f"† fewer seeds than {seeds}: {'; '.join(short)}."
    gains = [gain for group in groups for row in group.rows for gain in (row.gains or {}).values()]
    if any(gain.n == 0 for gain in gains):
        yield "n/a: the cell and its baseline have no seed in common."
    yield from dict.fromkeys(_unequal_training(groups))


def _unequal_training(groups: tuple[Group, ...]) -> Iterator[str]:
    """Say where a gain also holds a change of the learning rate or of the number of epochs."""
    for group in groups:
        cells = [cell for row in group.rows for cell in row.cells.values()]
        for row in group.rows:
            for network in row.gains or {}:
                cell, baseline = row.cells[network], baseline_of(row.cells[network], cells)
                for column in ("lr", "epochs"):
                    if cell[column] != baseline[column]:
                        yield (
                            f"{group.label}: {row.label} used {labels.setting_label(column, cell[column])}, "
                            f"the baseline {labels.value_label(column, baseline[column])}."
                        )
