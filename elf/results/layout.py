"""The layout of a table of accuracies, before it is given a format."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from elf.results import labels
from elf.results.columns import SET_COLUMNS, TRAINING_COLUMNS, Cell, baseline_of, describe_data, describe_seeds, gather
from elf.results.statistics import Difference, holm, paired_difference
from elf.specs.labels import UNCHANGED

NOT_RUN = "—"
WITHOUT_TEACHER = ("task", "frepo", "squared", *(f"{name}{UNCHANGED}" for name in ("task", "frepo", "squared")))
"""Objectives that have no baseline: they are what others are compared with, each in its own protocol."""
SIGNIFICANT = 0.05


AXES = {"network": "paper_eval_network", "ipc": "ipc"}
"""Key column that makes the columns of a table, by what the configuration calls it."""


@dataclass(frozen=True)
class Column:
    """One evaluation network or number of images; ``aligned`` when the sets were distilled with that network."""

    value: str | float
    label: str
    aligned: bool


@dataclass(frozen=True)
class Row:
    """One objective: its cells, and its change from the baseline in each column (None without a teacher)."""

    label: str
    cells: dict[str | float, Cell]
    gains: dict[str | float, Difference] | None


@dataclass(frozen=True)
class Group:
    """The rows of one synthetic set; ``best`` names the cells (by anchor) with the highest mean of a column."""

    label: str
    rows: tuple[Row, ...]
    best: frozenset[str]


@dataclass(frozen=True)
class Table:
    """A table laid out, before it is given a format.

    Attributes
    ----------
    adjusted : dict of str to float
        For each cell with a gain (by anchor) its p-value, adjusted by Holm for the number of gains of the table.
    gains, bold : bool
        Whether the paper prints such a table with rows of gains, and with the best of a column in bold.
    """

    title: str
    caption: str
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    seeds: int
    adjusted: dict[str, float]
    gains: bool = True
    bold: bool = True


def lay_out(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> Table:
    """Arrange cells as the paper does: a group a synthetic set, a row an objective, a column a network or IPC.

    Parameters
    ----------
    cells, results : DataFrame
        As for :func:`elf.results.columns.gather`.
    about : dict
        ``title``; ``scale``; ``stand_ins``, the text that says what stands in for what; ``seeds``, the number
        of seeds that each cell should have. Optional: ``columns``, ``"network"`` or ``"ipc"``; ``gains`` and
        ``bold``, whether they are printed (by default they are).

    Returns
    -------
    Table
        Columns: the aligned network, then families and norms in the paper's order; or images per class. Where the
        cells of a column and objective differ in a setting (distance, weight, teacher, ...), each value has its row.
    """
    gathered = gather(cells, results)
    axis = AXES[about.get("columns", "network")]
    grouping = [column for column in SET_COLUMNS if column != axis]
    if axis != "paper_eval_network":
        grouping.append("paper_eval_network")
    by_set: dict[tuple, list[Cell]] = {}
    for cell in gathered:
        by_set.setdefault(tuple(cell[column] for column in grouping), []).append(cell)
    names = _group_labels([dict(zip(grouping, values, strict=True)) for values in by_set])
    groups = tuple(_group(name, members, axis) for name, members in zip(names, by_set.values(), strict=True))
    shown = {"gains": about.get("gains", True), "bold": about.get("bold", True)}
    return Table(
        title=about["title"],
        caption=_caption(gathered, about, **shown),
        notes=tuple(_notes(groups, about["seeds"])),
        columns=_columns(gathered, axis),
        groups=groups,
        seeds=about["seeds"],
        adjusted=_adjusted(groups),
        **shown,
    )


def _columns(cells: list[Cell], axis: str) -> tuple[Column, ...]:
    if axis == "ipc":
        return tuple(Column(ipc, f"IPC {ipc:g}", False) for ipc in sorted({cell["ipc"] for cell in cells}))
    printed = labels.network_labels(cell["paper_eval_network"] for cell in cells)
    distilled = [cell for cell in cells if cell["distill_network"] is not None]
    aligned = {cell["paper_eval_network"] for cell in distilled if cell.aligned}
    aligned -= {cell["paper_eval_network"] for cell in distilled if not cell.aligned}
    networks = sorted(printed, key=lambda name: (name not in aligned, *labels.network_order(name)))
    return tuple(Column(name, printed[name], name in aligned) for name in networks)


def _group_labels(keys: list[dict]) -> list[str]:
    """Name each group by its method, and by what tells it from others of the same method."""
    names = []
    for key in keys:
        same = [other for other in keys if other["method"] == key["method"]]
        differing = [c for c in key if c != "synthetic_variant" and len({other[c] for other in same}) > 1]
        if "paper_dataset" in differing and "dataset" in differing:
            # The paper's name says it, unless one data set has two that stand in for it.
            pairs = {(other["paper_dataset"], other["dataset"]) for other in same}
            if len(pairs) == len({paper for paper, _ in pairs}):
                differing.remove("dataset")
        parts = [labels.group_label(column, key[column]) for column in differing]
        # A variant is named even where it stands alone: a set selected on the test set must not pass for another.
        if key["synthetic_variant"] is not None:
            parts.append(labels.value_label("synthetic_variant", key["synthetic_variant"]))
        names.append(", ".join([labels.method_label(key["method"]), *parts]))
    return names


def _group(label: str, cells: list[Cell], axis: str) -> Group:
    objectives = dict.fromkeys(cell["objective"] for cell in cells)
    order = sorted(objectives, key=lambda name: (not name.startswith("task"), not name.startswith("elf")))
    rows = [row for name in order for row in _rows(name, cells, axis)]
    return Group(label, tuple(rows), frozenset(_best(rows)))


def _rows(objective: str, group: list[Cell], axis: str) -> list[Row]:
    cells = [cell for cell in group if cell["objective"] == objective]
    by_column: dict[str | float, list[Cell]] = {}
    for cell in cells:
        by_column.setdefault(cell[axis], []).append(cell)
    differing = [
        column
        for column in ("eval_network", *TRAINING_COLUMNS)
        if any(len({cell[column] for cell in same}) > 1 for same in by_column.values())
    ]
    # What is in the variant of a training mostly has a column of its own, which says it better.
    said = [column for column in differing if column != "training_variant"]
    if all(len({tuple(cell[c] for c in said) for cell in same}) == len(same) for same in by_column.values()):
        differing = said
    rows: dict[tuple, dict[str | float, Cell]] = {}
    for cell in cells:
        rows.setdefault(tuple(cell[c] for c in differing), {})[cell[axis]] = cell
    return [
        Row(
            ", ".join([*_objective(cells, objective), *map(labels.setting_label, differing, values)]),
            members,
            None if objective in WITHOUT_TEACHER else _gains(members, group),
        )
        for values, members in rows.items()
    ]


def _objective(cells: list[Cell], objective: str) -> list[str]:
    """Return what a row is called; nothing is a baseline where there is nothing to compare with it."""
    return [] if all(cell["ipc"] is None for cell in cells) else [labels.objective_label(objective)]


def _gains(cells: dict[str | float, Cell], group: list[Cell]) -> dict[str | float, Difference]:
    gains = {}
    for column, cell in cells.items():
        baseline = baseline_of(cell, group)
        if baseline is not None and not cell.rows.empty and not baseline.rows.empty:
            gains[column] = paired_difference(baseline.accuracies, cell.accuracies)
    return gains


def _adjusted(groups: tuple[Group, ...]) -> dict[str, float]:
    found = {
        row.cells[column].anchor: gain.p
        for group in groups
        for row in group.rows
        for column, gain in (row.gains or {}).items()
    }
    return dict(zip(found, map(float, holm(list(found.values()))), strict=True))


def _best(rows: list[Row]) -> Iterator[str]:
    """Yield the best cells of each column as printed, so that equal figures are bold together."""
    by_column: dict[str | float, dict[str, float]] = {}
    for row in rows:
        for column, cell in row.cells.items():
            if not cell.rows.empty:
                by_column.setdefault(column, {})[cell.anchor] = round(100 * cell.summary.mean, 2)
    for means in by_column.values():
        if len(means) > 1:
            yield from (anchor for anchor, mean in means.items() if mean == max(means.values()))


def _caption(cells: list[Cell], about: dict, *, gains: bool, bold: bool) -> str:
    sentences = [
        f"Test accuracy (%) on {describe_data(cells)}: mean ± population standard deviation over "
        f"{describe_seeds(cells, about['seeds'])}."
    ]
    if any(cell["ipc"] is None for cell in cells):
        sentences.append("Full data: one training on all real images.")
    if gains and any(cell["objective"] not in WITHOUT_TEACHER for cell in cells):
        sentences.append(
            "Gain: mean of the paired differences to the baseline in percentage points, with its 95 % t-interval; "
            f"* marks p < {SIGNIFICANT} (paired t-test over seeds, adjusted by Holm for the gains of the table)."
        )
    sentences += _labels(cells)
    if bold:
        sentences.append("Bold: best of the column within a method.")
    return " ".join([*sentences, labels.scale_text(about)])


def _labels(cells: list[Cell]) -> Iterator[str]:
    """Say which labels are not hard, where the results know it, and which entered a loss that is not made for them."""
    found: dict[str, None] = {}
    for cell in cells:
        for kind in cell.rows["labels"].dropna().unique() if "labels" in cell.rows else ():
            if kind != "hard":
                found[f"{labels.method_label(cell['method'])} {kind}"] = None
    if found:
        yield f"Labels that are not hard: {', '.join(found)}."
    if any(cell["objective"].endswith(UNCHANGED) for cell in cells):
        yield "Labels unchanged: rows of any numbers are the targets of the loss, as they are."


def _notes(groups: tuple[Group, ...], seeds: int) -> Iterator[str]:
    entries = [(group, row, cell) for group in groups for row in group.rows for cell in row.cells.values()]
    if any(cell.rows.empty for _, _, cell in entries):
        yield f"{NOT_RUN} not run."
    short = [
        f"{' '.join(filter(None, (group.label, row.label)))} on "
        f"{labels.network_label(cell['paper_eval_network'])}: {len(cell.rows)}"
        for group, row, cell in entries
        if 0 < len(cell.rows) < (cell.seeds or seeds)
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
