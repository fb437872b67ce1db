"""What the rows of sets of others answer: printed against measured, the pieces of a batch, ELF against logits."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elf.errors import ElfError
from elf.report import text
from elf.results.columns import KEY_COLUMNS, Cell, baseline_of
from elf.results.labels import method_label, network_label, objective_label
from elf.results.statistics import Difference, paired_difference
from elf.verdicts.comparison import OF_OTHERS, RULE, Comparison
from elf.verdicts.text import markdown_table


@dataclass(frozen=True)
class Measured:
    """What one scale has measured.

    Attributes
    ----------
    pieces : int
        In how many pieces a batch is normalised.
    cells : dict
        Gathered cells of each table.
    comparisons : dict
        Of each table, from :func:`elf.verdicts.comparison.compare`.
    """

    pieces: int
    cells: Mapping[str, Sequence[Cell]]
    comparisons: Mapping[str, Sequence[Comparison]]


def blocks(measured: Sequence[Measured]) -> dict[str, str]:
    """Return the parts of the pages by their name, as Markdown; the first scale is the one that the paper is held to.

    Parameters
    ----------
    measured : sequence of Measured
        Scales that differ in the pieces of a batch alone.

    Returns
    -------
    dict
        ``in-short`` and ``printed``: the sentence and the table of all printed numbers that were measured; ``pieces``:
        batch normalisation over pieces of a batch and over all of it; ``teacher``: the gains of ELF and of plain logit
        distillation; ``rule``: what the verdicts mean.
    """
    return {
        "in-short": _in_short(measured),
        "printed": _printed(measured),
        "pieces": _pieces(measured),
        "teacher": _teacher(measured[0]),
        "rule": f"{RULE}\n",
    }


def _run(measured: Measured) -> list[tuple[str, Comparison]]:
    """Return the comparisons that were run, each setting once: with the table that comes first."""
    found: dict[tuple, tuple[str, Comparison]] = {}
    for table, comparisons in measured.comparisons.items():
        for one in comparisons:
            if one.n and one.verdict in OF_OTHERS.values():
                found.setdefault((one.anchor, one.printed["mean"]), (table, one))
    return list(found.values())


def _has_batch_norm(network: str) -> bool:
    return network.endswith("-bn")


def _rows(measured: Sequence[Measured]) -> list[tuple[Measured, str, Comparison]]:
    """Return what is shown: of further scales only what their pieces change."""
    return [
        (scale, table, one)
        for number, scale in enumerate(measured)
        for table, one in _run(scale)
        if number == 0 or _has_batch_norm(one.printed["paper_eval_network"])
    ]


def _in_short(measured: Sequence[Measured]) -> str:
    verdicts = [one.verdict for _, one in _run(measured[0])]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in OF_OTHERS.values() if verdict in verdicts]
    if not counts:
        return "No printed number was measured yet.\n"
    return f"Of {len(verdicts)} comparisons with printed numbers: {'; '.join(counts)}.\n"


def _printed(measured: Sequence[Measured]) -> str:
    header = ("images", "trained on them", "paper prints", "measured (seeds)", "difference [95 %]", "verdict")
    rows = [
        (
            one.other_set,
            _trained(one, scale.pieces),
            text.accuracy(one.printed["mean"], one.printed["std"]) + f" (Table {int(table.removeprefix('table'))})",
            _measured(one.measured_mean, one.measured_std, one.n),
            _interval(one.difference, one.low, one.high),
            " — ".join(filter(None, [one.verdict, one.note])),
        )
        for scale, table, one in _rows(measured)
    ]
    return markdown_table(header, rows)


def _trained(one: Comparison, pieces: int) -> str:
    network, objective = one.printed["paper_eval_network"], one.printed["objective"]
    batch = f", batch in {_count(pieces)}" if _has_batch_norm(network) else ""
    return f"{network_label(network, short=False)}{batch}" + (
        "" if objective == "task" else f" {objective_label(objective)}"
    )


def _count(pieces: int) -> str:
    return "one piece" if pieces == 1 else f"{pieces} pieces"


def _pieces(measured: Sequence[Measured]) -> str:
    first, *others = measured
    header = ("images", "network", *(_count(scale.pieces) for scale in measured))
    header += tuple(f"{_count(first.pieces)} − {_count(scale.pieces)} [95 %]" for scale in others)
    rows = []
    for cell in _cells(first):
        same = [_same(cell, scale) for scale in others]
        if _has_batch_norm(cell["paper_eval_network"]) and all(same):
            differences = [_points(paired_difference(other.accuracies, cell.accuracies)) for other in same]
            rows.append((*_named(cell), *map(_mean, [cell, *same]), *differences))
    return markdown_table(header, rows)


def _teacher(measured: Measured) -> str:
    header = ("images", "network", "baseline", "ELF, gain [95 %]", "kd, gain [95 %]", "ELF − kd [95 %]", "kd : ELF")
    rows = []
    cells = _cells(measured)
    for elf in cells:
        same = ("method", "ipc", "dataset", "eval_network", "teacher_network", "teacher_epoch")
        alike = [cell for cell in cells if cell["objective"] == "kd" and all(cell[c] == elf[c] for c in same)]
        baseline = baseline_of(elf, cells)
        if elf["objective"] != "elf" or not alike or baseline is None:
            continue
        gains = [paired_difference(baseline.accuracies, cell.accuracies) for cell in (elf, alike[0])]
        share = f"{gains[1].mean / gains[0].mean:.0%}" if gains[0].mean > 0 else text.NOTHING
        between = paired_difference(alike[0].accuracies, elf.accuracies)
        rows.append((*_named(elf), _mean(baseline), *map(_points, [*gains, between]), share))
    return markdown_table(header, rows)


def _cells(measured: Measured) -> list[Cell]:
    """Return the cells that were run, each once."""
    cells = {cell.anchor: cell for members in measured.cells.values() for cell in members if not cell.rows.empty}
    return list(cells.values())


def _same(cell: Cell, other: Measured) -> Cell | None:
    same = [column for column in KEY_COLUMNS if column != "batch_norm_splits"]
    return next((found for found in _cells(other) if all(found[name] == cell[name] for name in same)), None)


def _named(cell: Cell) -> tuple[str, str]:
    network = network_label(cell["paper_eval_network"], short=False)
    objective = "" if cell["objective"] in ("task", "elf") else f" {objective_label(cell['objective'])}"
    epoch = cell["teacher_epoch"]
    return method_label(cell["method"]), f"{network}{objective}" + ("" if epoch is None else f", epoch {epoch:g}")


def _mean(cell: Cell) -> str:
    return _measured(100 * cell.summary.mean, 100 * cell.summary.std, cell.summary.n)


def _measured(mean: float, std: float, n: int) -> str:
    # One seed has no spread.
    return f"{text.accuracy(mean, std if n > 1 else math.nan)} ({n})"


def _points(difference: Difference) -> str:
    return _interval(*(100 * value for value in (difference.mean, difference.low, difference.high)))


def _interval(mean: float, low: float, high: float) -> str:
    return text.points(mean) + ("" if math.isnan(low) else f" {text.interval(low, high)}")


MARK = re.compile(r"<!-- answer: ([a-z-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


def filled(page: str, parts: Mapping[str, str], where: str) -> str:
    """Return a page with each ``<!-- answer: NAME -->`` … ``<!-- end -->`` holding the part of that name.

    Raises
    ------
    ElfError
        If it has no such place, or one for a part that does not exist.
    """
    names = [name for name, _ in MARK.findall(page)]
    unknown = [name for name in names if name not in parts]
    if not names or unknown:
        found = f"asks for {unknown[0]!r}" if unknown else "has no place for an answer"
        raise ElfError(f"{where}: {found}; places are '<!-- answer: NAME -->' with {', '.join(parts)}")
    return MARK.sub(lambda match: f"<!-- answer: {match[1]} -->\n{parts[match[1]]}<!-- end -->", page)
