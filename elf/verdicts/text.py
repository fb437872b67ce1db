"""Comparison, claims and audit as Markdown for people and as a tidy table for programs."""

import math
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from elf.verdicts import audit, claims, comparison
from elf.verdicts.claims import Evidence, Judgement
from elf.verdicts.comparison import Comparison
from elf.verdicts.printed import SETTING
from elf.verdicts.setting_text import set_text

NOTHING = "—"

MEASURED_COLUMNS = ("measured_mean", "measured_std", "n", "difference", "low", "high", "p", "p_holm", "verdict")


def comparison_frame(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Return one row a printed accuracy.

    Returns
    -------
    DataFrame
        ``experiment``, ``row``, the columns of the setting, ``teacher_epoch``, ``printed_mean``, ``printed_std``,
        ``other_set``, then what :class:`elf.verdicts.comparison.Comparison` has. Percent and percentage points; NaN
        where there is nothing.
    """
    columns = ("experiment", "row", *SETTING, "teacher_epoch")
    rows = [
        {column: one.printed[column] for column in columns}
        | {"other_set": one.other_set}
        | {"printed_mean": one.printed["mean"], "printed_std": one.printed["std"]}
        | {column: getattr(one, column) for column in (*MEASURED_COLUMNS, "note")}
        for one in comparisons
    ]
    return pd.DataFrame(rows, columns=[*columns, "other_set", "printed_mean", "printed_std", *MEASURED_COLUMNS, "note"])


def comparison_markdown(experiment: str, comparisons: Sequence[Comparison]) -> str:
    """Return the section of one table: how many cells have which verdict, then each cell."""
    counts = {verdict: sum(one.verdict == verdict for one in comparisons) for verdict in comparison.VERDICTS}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    rows = [
        (
            set_text(one),
            _accuracy(one.printed["mean"], one.printed["std"]),
            _accuracy(one.measured_mean, one.measured_std) + (f" ({one.n})" if one.n else ""),
            _difference(one),
            _p(one.p),
            _p(one.p_holm),
            one.verdict,
            one.note,
        )
        for one in comparisons
    ]
    header = ("cell", "paper", "measured (seeds)", "difference [95 %]", "p", "p, Holm", "verdict", "note")
    return f"## {_title(experiment)}\n\n{summary}.\n\n{markdown_table(header, rows)}"


def comparison_page(sections: Iterable[str], about: str) -> str:
    """Return all sections under one heading, with the rule of the verdicts."""
    return "\n".join(["# The paper's numbers and ours\n", f"{about}\n", f"{comparison.RULE}\n", *sections])


def claims_markdown(judgements: dict[str, Sequence[Judgement]], about: str) -> str:
    """Return each claim of the paper with what each source of numbers says of it.

    Parameters
    ----------
    judgements : dict
        Source, such as ``"printed"`` or ``"measured"``, to its judgements of all claims.
    about : str
        What the measured numbers are: scale and stand-ins.
    """
    overview = [
        (str(of_claim[0].claim.number), of_claim[0].claim.text, *map(_status, of_claim))
        for of_claim in zip(*judgements.values(), strict=True)
    ]
    lines = [
        "# The paper's claims\n",
        f"{about}\n",
        f"{claims.RULE}\n",
        markdown_table(("", "claim", *judgements), overview),
    ]
    for of_claim in zip(*judgements.values(), strict=True):
        claim = of_claim[0].claim
        tables = ", ".join(str(number) for number in claim.tables)
        lines.append(f"## {claim.number}. {claim.text}\n\nTable{'s' * (len(claim.tables) > 1)} {tables}.\n")
        header = ("statement", "numbers", "agree (significant)", "against (significant)", "without", "points", "status")
        evidence = [
            (source, found)
            for of_statement in zip(*(judgement.evidence for judgement in of_claim), strict=True)
            for source, found in zip(judgements, of_statement, strict=True)
        ]
        lines.append(markdown_table(header, [_evidence(source, found) for source, found in evidence]))
        lines += [line for source, found in evidence for line in _against(source, found)]
    return "\n".join(lines)


def _status(judgement: Judgement) -> str:
    """Return the status, and how much of the claim it rests on."""
    if not judgement.tested or not judgement.untested:
        return judgement.status
    return f"{judgement.status}, from {judgement.tested} of {judgement.tested + judgement.untested} pairs"


def _evidence(source: str, found: Evidence) -> tuple[str, ...]:
    tested = [*found.supporting, *found.contradicting]
    differences = sorted(pair.difference for pair in tested)
    return (
        found.statement.text,
        source,
        f"{len(found.supporting)} ({found.significant(found.supporting)})",
        f"{len(found.contradicting)} ({found.significant(found.contradicting)})",
        str(len(found.untested)),
        f"{_signed(differences[0])} to {_signed(differences[-1])}" if differences else NOTHING,
        found.status,
    )


def _against(source: str, found: Evidence) -> Iterator[str]:
    if found.contradicting:
        header = (f"against, {source}", "should be higher", "should be lower", "points", "p, Holm")
        rows = [
            (
                f"{_title(pair.experiment)}: {pair.where}",
                f"{pair.higher} {pair.higher_mean:.2f}",
                f"{pair.lower} {pair.lower_mean:.2f}",
                _signed(pair.difference),
                _p(found.adjusted[pair]),
            )
            for pair in found.contradicting
        ]
        yield f"Against “{found.statement.text}”:\n\n{markdown_table(header, rows)}"


def audit_markdown(findings: Sequence[audit.Finding]) -> str:
    """Return what the paper's numbers say of the paper itself, by kind."""
    gains, changes = audit.recomputed_gains(), audit.changes_by_elf()
    lines = [
        "# The paper's numbers against each other\n",
        f"Computed from the printed numbers alone: {len(gains)} gains are compared with their cells, and "
        f"{len(changes)} changes by ELF tested by Welch's test between two means of 5 networks, adjusted by Holm over "
        "each table. The paper does not print what a test paired by seed would need.\n",
    ]
    for kind, title in audit.KINDS.items():
        members = [finding for finding in findings if finding.kind == kind]
        lines.append(f"## {title} ({len(members)})\n")
        lines += [f"{note}\n" for note in [audit.note_on(kind)] if note]
        for finding in members:
            tables = ", ".join(str(number) for number in finding.tables)
            lines.append(f"- Table{'s' * (len(finding.tables) > 1)} {tables}. {finding.text}")
        lines.append("")
    return "\n".join(lines)


def _title(experiment: str) -> str:
    return f"Table {int(experiment.removeprefix('table'))}"


def _accuracy(mean: float, std: float) -> str:
    if math.isnan(mean):
        return NOTHING
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def _difference(one: Comparison) -> str:
    if math.isnan(one.difference):
        return NOTHING
    interval = "" if math.isnan(one.low) else f" [{_signed(one.low)}, {_signed(one.high)}]"
    return _signed(one.difference) + interval


def _signed(points: float) -> str:
    text = f"{points:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _p(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
