"""What the paper's numbers say of the paper itself: whether they agree with each other, and how sure its gains are."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from elf.results.statistics import Welch, holm_by_key, welch
from elf.results.storage import IMAGE_BITS
from elf.specs.network import parse
from elf.verdicts.more_images import more_images, more_images_text
from elf.verdicts.observations import observations_of_printed, setting_of_row, summary_of
from elf.verdicts.printed import SETTING, read_printed
from elf.verdicts.setting_text import setting_text

LEVEL = 0.05

KINDS = {
    "gain": "A printed gain that is not the difference of the printed cells",
    "repeated": "One setting, different numbers",
    "other images": "The same but for the network of the distillation, which Tables 8 and 11 leave open",
    "not significant": "A change by ELF that the printed means and deviations do not show to be more than chance",
    "above aligned": "ELF on another network above the network that the images were distilled with",
    "more images": "ELF beside the next larger number of images of the same method, trained without features",
    "lost": "A printed cell without a value",
}
"""The kinds of findings, in the order of a report."""


def note_on(kind: str) -> str:
    """Return what there is to say of all findings of a kind together; mostly nothing."""
    return more_images_text(more_images(observations_of_printed())) if kind == "more images" else ""


@dataclass(frozen=True)
class Finding:
    """Something in the paper's numbers that a reader should know.

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    text : str
        One line with the numbers.
    tables : tuple of int
        Where it is printed.
    cells : tuple of str
        The settings concerned, in words.
    numbers : dict
        Accuracies in percent, differences in percentage points, p-values (NaN where no spread is printed).
    """

    kind: str
    text: str
    tables: tuple[int, ...]
    cells: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)


def audit() -> list[Finding]:
    """Return all findings, by kind, computed from what :func:`elf.verdicts.printed.read_printed` reads.

    Tests are Welch's, between two means of 5 networks each, by their printed standard deviations; the paper does not
    print what a test paired by seed would need.
    """
    return [
        *_gains(),
        *_repeated(),
        *_other_images(),
        *_not_significant(),
        *_above_aligned(),
        *_more_images(),
        *_lost(),
    ]


def _observations() -> pd.DataFrame:
    observations = observations_of_printed()
    return observations.assign(table=observations["experiment"].str.removeprefix("table").astype(int))


def recomputed_gains() -> pd.DataFrame:
    """Return each printed gain beside the difference of its printed cells.

    Returns
    -------
    DataFrame
        The rows of kind ``gain`` with ``recomputed`` in percentage points, and ``agrees``: two cells and a gain,
        each rounded to 0.01, may differ by 0.01.
    """
    printed = read_printed()
    accuracies = printed[printed["kind"] == "accuracy"]
    means = {(row["table"], *setting_of_row(row)): row["mean"] for row in accuracies.to_dict("records")}
    gains = printed[printed["kind"] == "gain"].copy()
    rows = gains.to_dict("records")
    gains["recomputed"] = [means[row["table"], *setting_of_row(row)] - means[_baseline_key(row)] for row in rows]
    gains["agrees"] = (gains["mean"] - gains["recomputed"]).abs() < 0.01 + 1e-6
    return gains


def _baseline_key(row: Mapping) -> tuple:
    baseline = {**row, "objective": "task", "distance": None, "paper_teacher_network": None}
    return (row["table"], *setting_of_row(baseline))


def _gains() -> Iterator[Finding]:
    gains = recomputed_gains()
    for row in gains[~gains["agrees"]].to_dict("records"):
        difference = row["mean"] - row["recomputed"]
        yield Finding(
            "gain",
            f"{setting_text(row)}: printed gain {row['mean']:.2f}, but the cells differ by {row['recomputed']:.2f}",
            (row["table"],),
            (setting_text(row),),
            {"printed": row["mean"], "recomputed": row["recomputed"], "difference": difference},
        )


def _repeated() -> Iterator[Finding]:
    known = _observations().dropna(subset="mean")
    for _, rows in known.groupby(list(SETTING), dropna=False, sort=False):
        if rows["mean"].nunique() > 1:
            yield _spread_over_tables("repeated", rows)


def _spread_over_tables(kind: str, rows: pd.DataFrame) -> Finding:
    """Return a finding on rows that ought to be equal: each number with its tables, lowest against highest."""
    ordered = rows.sort_values("mean", kind="stable").to_dict("records")
    low, high = ordered[0], ordered[-1]
    test = welch(summary_of(low), summary_of(high))
    shown = []
    for mean, members in rows.groupby("mean", sort=True):
        std, tables = members["std"].iloc[0], ", ".join(f"{number}" for number in members["table"])
        shown.append(f"{_value(mean, std)} (Table{'s' * (len(members) > 1)} {tables})")
    cells = tuple(dict.fromkeys(setting_text(row) for row in rows.to_dict("records")))
    return Finding(
        kind,
        f"{' / '.join(cells)}: {' and '.join(shown)}; {test.mean:.2f} points apart{_p_text(test.p)}",
        tuple(sorted(rows["table"])),
        cells,
        {"lowest": low["mean"], "highest": high["mean"], "difference": test.mean, "p": test.p},
    )


def _value(mean: float, std: float) -> str:
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def _p_text(p: float, name: str = "p") -> str:
    if math.isnan(p):
        return ", no spread printed"
    return f", {name} < 0.0001" if p < 0.0001 else f", {name} = {p:.4f}"


def _other_images() -> Iterator[Finding]:
    """Find settings that tables share but for the network of the distillation, of which each has only its own."""
    known = _observations().dropna(subset=["mean", "ipc"])
    known = known.assign(norm=[parse(network).norm for network in known["paper_distill_network"]])
    rest = ["norm", *(column for column in SETTING if column != "paper_distill_network")]
    for _, rows in known.groupby(rest, dropna=False, sort=False):
        tables = [set(members["table"]) for _, members in rows.groupby("paper_distill_network")]
        if len(tables) > 1 and not set.intersection(*tables):
            yield _spread_over_tables("other images", rows)


def changes_by_elf() -> list[tuple[dict, dict, Welch, float]]:
    """Return each printed ELF cell that has a baseline in its table.

    Returns
    -------
    list of (dict, dict, Welch, float)
        Cell and baseline as rows of the observations, Welch's test in percentage points, and its p adjusted by Holm
        over the table.
    """
    rows = _observations().dropna(subset="mean").to_dict("records")
    by_setting = {(row["table"], *setting_of_row(row)): row for row in rows}
    changes = []
    for number in sorted({row["table"] for row in rows}):
        pairs = [
            (row, by_setting[_baseline_key(row)])
            for row in rows
            if row["table"] == number and row["objective"].startswith("elf") and _baseline_key(row) in by_setting
        ]
        tests = {place: welch(summary_of(baseline), summary_of(row)) for place, (row, baseline) in enumerate(pairs)}
        adjusted = holm_by_key(tests)
        changes += [(*pair, tests[place], adjusted[place]) for place, pair in enumerate(pairs)]
    return changes


def _not_significant() -> Iterator[Finding]:
    for row, baseline, test, p_holm in changes_by_elf():
        if not p_holm < LEVEL:
            yield Finding(
                "not significant",
                f"{setting_text(row)}: {_value(row['mean'], row['std'])} against "
                f"{_value(baseline['mean'], baseline['std'])} of the baseline, {test.mean:+.2f} points"
                f"{_p_text(test.p)}{_p_text(p_holm, 'by Holm')}",
                (row["table"],),
                (setting_text(row),),
                {"change": test.mean, "p": test.p, "p_holm": p_holm},
            )


def _above_aligned() -> Iterator[Finding]:
    rows = _observations().dropna(subset="mean").to_dict("records")
    images = ("table", "paper_dataset", "ipc", "method", "paper_distill_network")
    aligned = {
        tuple(row[column] for column in images): row
        for row in rows
        if row["objective"] == "task" and row["paper_eval_network"] == row["paper_distill_network"]
    }
    for row in rows:
        best = aligned.get(tuple(row[column] for column in images))
        is_crossed = row["paper_eval_network"] != row["paper_distill_network"]
        if row["objective"].startswith("elf") and is_crossed and best is not None and row["mean"] > best["mean"]:
            test = welch(summary_of(best), summary_of(row))
            yield Finding(
                "above aligned",
                f"{setting_text(row)}: {_value(row['mean'], row['std'])}, {test.mean:.2f} points above the aligned "
                f"model's {_value(best['mean'], best['std'])}{_p_text(test.p)}",
                (row["table"],),
                (setting_text(row),),
                {"elf": row["mean"], "aligned": best["mean"], "difference": test.mean, "p": test.p},
            )


def _more_images() -> Iterator[Finding]:
    tables = _tables_by_value()
    for pair in more_images(observations_of_printed()):
        elf, plain = pair.elf, pair.plain
        yield Finding(
            "more images",
            f"{setting_text(elf)}: {_value(elf['mean'], elf['std'])}; IPC {plain['ipc']:g}, baseline: "
            f"{_value(plain['mean'], plain['std'])}, {pair.test.mean:+.2f} points"
            f"{_p_text(pair.test.p)}; {pair.sizes_text}",
            tuple(sorted({table for row in (elf, plain) for table in tables[_printed_key(row)]})),
            (setting_text(elf), setting_text(plain)),
            {
                "elf": elf["mean"],
                "plain": plain["mean"],
                "difference": pair.test.mean,
                "p": pair.test.p,
                **{f"break-even bits, {name}": pair.break_even_bits(bits) for name, bits in IMAGE_BITS.items()},
            },
        )


def _printed_key(row: Mapping) -> tuple:
    return (*setting_of_row(row), row["mean"])


def _tables_by_value() -> dict[tuple, set[int]]:
    """Return in which tables each number of each setting is printed."""
    tables: dict[tuple, set[int]] = {}
    for row in _observations().dropna(subset="mean").to_dict("records"):
        tables.setdefault(_printed_key(row), set()).add(row["table"])
    return tables


def _lost() -> Iterator[Finding]:
    printed = read_printed()
    lost = printed[(printed["kind"] == "accuracy") & printed["mean"].isna()]
    for row in lost.to_dict("records"):
        yield Finding("lost", f"{setting_text(row)}: {row['note']}", (row["table"],), (setting_text(row),))
