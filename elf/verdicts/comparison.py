"""Each number that the paper prints beside the one that was measured, and what can be said of the two."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from elf.results.columns import Cell
from elf.results.statistics import Summary, Welch, holm, published, welch
from elf.verdicts.observations import PRINTED_SEEDS, is_of_paper, setting_of, setting_of_row
from elf.verdicts.printed import read_printed

MARGIN_POINTS = 2.0
MARGIN_SHARE = 0.1
LEVEL = 0.05
NO_OTHERS: Mapping[str, tuple[str, str | None]] = MappingProxyType({})

OF_OTHERS = {
    "reproduced": "as printed, other set",
    "close": "close, other set",
    "deviates": "deviates, other set",
}
"""What a verdict is called where the images are not those of this project: they were distilled by somebody else."""
VERDICTS = ("reproduced", "close", "deviates", *OF_OTHERS.values(), "not comparable", "not run", "not printed")

RULE = (
    f"A margin is the smaller of {MARGIN_POINTS:g} percentage points and {100 * MARGIN_SHARE:g} % of the printed mean. "
    f"Reproduced: the 90 % interval of the difference lies within the margin (two one-sided tests at {LEVEL:g}), and "
    f"Welch's test, adjusted over the table by Holm, finds no difference (p ≥ {LEVEL:g}). "
    "Close: the difference of the means is within the margin, but it is significant, or the seeds are too few or too "
    "far apart to bound it. Deviates: the difference is larger than the margin. "
    f"{'; '.join(OF_OTHERS.values()).capitalize()}: the same three, of images that others distilled; they are about "
    "the evaluation, not about the distillation. "
    "Not comparable: another scale, or data that stand in for the paper's. Not run: no seeds yet. "
    "Not printed: the paper's value is lost. "
    f"The printed standard deviation is that of {PRINTED_SEEDS} networks trained on one synthetic set; how much "
    "another distillation would change the mean is in neither number, so that a small significant difference is "
    "expected."
)
"""The rule of the verdicts, for reports."""


@dataclass(frozen=True)
class Comparison:
    """One printed accuracy and its measurement; accuracies and differences in percent and percentage points.

    Attributes
    ----------
    printed : dict
        The row of :func:`elf.verdicts.printed.read_printed`.
    measured_mean, measured_std : float
        NaN where nothing was measured; the standard deviation is that of the population.
    n : int
        Number of seeds measured.
    difference, low, high : float
        Measured minus printed, and its 95 % interval; NaN where it makes no sense or cannot be known.
    p, p_holm : float
        Welch's test, or a t-test against the printed number where no spread is printed; and adjusted by Holm over
        the cells of the table.
    verdict : str
        One of ``VERDICTS``, by ``RULE``.
    note : str
        What else is to be known: why the verdict is not better, what the test could not take into account.
    other_set : str or None
        Method of the images in the results where others distilled them.
    anchor : str or None
        Of the cell that was measured.
    """

    printed: dict
    measured_mean: float
    measured_std: float
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: str
    note: str
    other_set: str | None = None
    anchor: str | None = None


def compare(
    experiment: str,
    cells: Iterable[Cell],
    *,
    comparable: bool,
    reason: str,
    others: Mapping[str, tuple[str, str | None]] = NO_OTHERS,
) -> list[Comparison]:
    """Compare each printed accuracy of a table with what was measured for it.

    Parameters
    ----------
    experiment : str
        For example ``"table05"``; one that prints no accuracies gives an empty list.
    cells : iterable of Cell
        The gathered cells of the experiment. Of several for one setting that with the printed teacher's epoch is
        preferred, then that with the most seeds, then the first.
    comparable : bool
        Whether measured numbers may be held against the paper's at all: whether the scale is the paper's. Cells
        whose data stand in for the paper's never are.
    reason : str
        Why they may not; stands in the note of each cell that was run.
    others : dict
        Methods that are sets of others, each with the method and the distillation network of the printed set.

    Returns
    -------
    list of Comparison
        In the order of the printed rows; verdicts by ``RULE``. A printed row comes once for this project's own set,
        unless only sets of others were run, and once for each of these.
    """
    printed = read_printed()
    printed = printed[(printed["experiment"] == experiment) & (printed["kind"] == "accuracy")]
    by_set: dict[str | None, dict[tuple, list[Cell]]] = {}
    for cell in cells:
        if is_of_paper(cell):
            other_set = cell["method"] if cell["method"] in others else None
            setting = setting_of(_as_printed(cell, others))
            by_set.setdefault(other_set, {}).setdefault(setting, []).append(cell)
    entries = []
    for row in printed.to_dict("records"):
        found = {
            name: cell
            for name, of_set in by_set.items()
            if (cell := _preferred(of_set.get(setting_of_row(row), []), row["teacher_epoch"])) is not None
        }
        run = {name: cell for name, cell in found.items() if name is not None and not cell.rows.empty}
        own = {None: found.get(None)} if None in found or not run else {}
        entries += [_compared(row, cell, comparable, reason, name) for name, cell in (own | run).items()]
    return _with_verdicts(entries)


def _as_printed(cell: Cell, others: Mapping[str, tuple[str, str | None]]) -> Cell:
    """Return the cell of a set of others as if its set were the printed one."""
    if cell["method"] not in others:
        return cell
    method, network = others[cell["method"]]
    return replace(cell, key=cell.key | {"method": method, "paper_distill_network": network})


def _with_verdicts(entries: list[tuple[Comparison, Welch | None]]) -> list[Comparison]:
    """Adjust the tests over the cells of each set, and judge by them."""
    p_values: dict[str | None, list[float]] = {}
    for comparison, _ in entries:
        p_values.setdefault(comparison.other_set, []).append(comparison.p)
    adjusted = {name: iter(holm(values)) for name, values in p_values.items()}
    return [_judged(one, test, float(next(adjusted[one.other_set]))) for one, test in entries]


def _preferred(cells: list[Cell], epoch: float) -> Cell | None:
    return max(cells, key=lambda cell: (cell.key.get("teacher_epoch") == epoch, len(cell.rows)), default=None)


def _compared(
    row: dict, cell: Cell | None, comparable: bool, reason: str, other_set: str | None
) -> tuple[Comparison, Welch | None]:
    anchor = None if cell is None else cell.anchor
    nothing = Comparison(row, *[math.nan] * 2, 0, *[math.nan] * 5, "", "", other_set, anchor)
    if cell is None or cell.rows.empty:
        verdict = "not printed" if math.isnan(row["mean"]) else "not run"
        return replace(nothing, verdict=verdict, note=row["note"] if verdict == "not printed" else ""), None
    measured = cell.summary
    measured = Summary(
        *[100 * value for value in (measured.mean, measured.std, measured.low, measured.high)], measured.n
    )
    found = replace(nothing, measured_mean=measured.mean, measured_std=measured.std, n=measured.n)
    if math.isnan(row["mean"]):
        return replace(found, verdict="not printed", note=row["note"]), None
    reasons = [] if comparable else [reason]
    if cell["dataset"] != row["paper_dataset"]:
        reasons.append(f"{cell['dataset']} stands in for {row['paper_dataset']}")
    if reasons:
        return replace(found, verdict="not comparable", note="; ".join(reasons)), None
    test = welch(published(row["mean"], row["std"], PRINTED_SEEDS), measured)
    low, high = test.interval()
    note = "; ".join(_notes(row, cell, measured))
    return replace(found, difference=test.mean, low=low, high=high, p=test.p, note=note), test


def _notes(row: dict, cell: Cell, measured: Summary) -> list[str]:
    notes = [row["note"]] if row["note"] else []
    if measured.n < 2:
        notes.append("one seed, no test")
    elif math.isnan(row["std"]):
        notes.append("no spread printed, tested against the printed number itself")
    elif measured.std == 0 and row["std"] == 0:
        notes.append("no spread on either side")
    epoch = cell.key.get("teacher_epoch")
    if epoch is not None and not math.isnan(row["teacher_epoch"]) and epoch != row["teacher_epoch"]:
        notes.append(f"teacher of epoch {epoch:g} instead of {row['teacher_epoch']:g}")
    return notes


def _judged(comparison: Comparison, test: Welch | None, p_holm: float) -> Comparison:
    if test is None:
        return comparison
    # A printed mean has two decimals: a difference that equals the margin must not depend on binary fractions.
    limit = margin(comparison.printed["mean"]) + 1e-9
    note = comparison.note
    if abs(test.mean) > limit:
        verdict = "deviates"
        if p_holm >= LEVEL:
            note = "; ".join(filter(None, [note, "not significant: the spread is wide"]))
    elif test.is_within(limit, LEVEL) and p_holm >= LEVEL:
        verdict = "reproduced"
    else:
        verdict = "close"
    if comparison.other_set is not None:
        verdict = OF_OTHERS[verdict]
    return replace(comparison, p_holm=p_holm, verdict=verdict, note=note)


def margin(printed_mean: float) -> float:
    """Return how many percentage points a measured mean may be away: 2, but no more than a tenth of the printed one."""
    return min(MARGIN_POINTS, MARGIN_SHARE * printed_mean)
