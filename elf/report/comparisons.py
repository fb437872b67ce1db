"""Printed numbers beside measured ones, claims, and the paper's own numbers, for the pages of the report."""

import math
from collections.abc import Callable, Iterable

from elf.report import text
from elf.report.content import TableEntry
from elf.verdicts.audit import KINDS, Finding, note_on
from elf.verdicts.claims import Evidence, Judgement
from elf.verdicts.comparison import VERDICTS, Comparison
from elf.verdicts.setting_text import set_text

MARKS = {
    "reproduced": "✓",
    "close": "≈",
    "deviates": "✗",
    "as printed, other set": "✓",
    "close, other set": "≈",
    "deviates, other set": "✗",
    "not comparable": "○",
    "not run": "…",
    "not printed": "?",
    "supported": "✓",
    "mostly supported": "≈",
    "undecided": "○",
    "contradicted": "✗",
    "not testable": "…",
}
"""A sign for each verdict and status, so that colour is not all that tells them apart."""


def badge(name: str) -> dict:
    """Return how a verdict or status is shown: its name, its sign and its class."""
    return {"name": name, "mark": MARKS.get(name, ""), "kind": text.slug(name)}


def verdict_counts(comparisons: Iterable[Comparison]) -> list[dict]:
    """Return the verdicts that occur, each with its number, in the order of the rule."""
    found = [one.verdict for one in comparisons]
    return [badge(name) | {"count": found.count(name)} for name in VERDICTS if name in found]


def comparison_row(table: TableEntry) -> Callable[[Comparison], dict]:
    """Return a function that says of a comparison of the table what is shown, with the anchor of its cell."""
    known = {cell.anchor for cell in table.cells}

    def row(one: Comparison) -> dict:
        return {
            "setting": set_text(one),
            "printed": text.accuracy(one.printed["mean"], one.printed["std"]),
            "measured": text.accuracy(one.measured_mean, one.measured_std if one.n > 1 else math.nan),
            "n": one.n or "",
            "difference": text.points(one.difference),
            "interval": text.interval(one.low, one.high),
            "p": text.p_value(one.p),
            "p_holm": text.p_value(one.p_holm),
            "verdict": badge(one.verdict),
            "note": one.note,
            "anchor": one.anchor if one.anchor in known else None,
        }

    return row


def comparison_rows(table: TableEntry) -> list[dict]:
    """Return the rows of a table's comparison; the first of each verdict says so, to be linked to."""
    rows = list(map(comparison_row(table), table.comparisons))
    seen = set()
    for row in rows:
        kind = row["verdict"]["kind"]
        row["first"] = kind not in seen
        seen.add(kind)
    return rows


def claim_views(claims: dict[str, list[Judgement]]) -> list[dict]:
    """Return each claim with what each source of numbers says of it."""
    views = []
    for judgements in zip(*claims.values(), strict=True):
        sources = dict(zip(claims, judgements, strict=True))
        claim = judgements[0].claim
        views.append(
            {
                "number": claim.number,
                "text": claim.text,
                "tables": [f"table{number:02d}" for number in claim.tables],
                "sources": [
                    {
                        "source": source,
                        "status": badge(judgement.status),
                        "tested": judgement.tested,
                        "all": judgement.tested + judgement.untested,
                        "evidence": [_evidence(evidence) for evidence in judgement.evidence],
                    }
                    for source, judgement in sources.items()
                ],
            }
        )
    return views


def _evidence(evidence: Evidence) -> dict:
    tested = [*evidence.supporting, *evidence.contradicting]
    differences = sorted(pair.difference for pair in tested)
    return {
        "text": evidence.statement.text,
        "status": badge(evidence.status),
        "supporting": f"{len(evidence.supporting)} ({evidence.significant(evidence.supporting)})",
        "contradicting": f"{len(evidence.contradicting)} ({evidence.significant(evidence.contradicting)})",
        "untested": len(evidence.untested),
        "range": f"{text.points(differences[0])} to {text.points(differences[-1])}" if differences else text.NOTHING,
        "against": [
            {
                "experiment": pair.experiment,
                "where": pair.where,
                "higher": f"{pair.higher} {pair.higher_mean:.2f}",
                "lower": f"{pair.lower} {pair.lower_mean:.2f}",
                "difference": text.points(pair.difference),
                "p": text.p_value(evidence.adjusted[pair]),
            }
            for pair in evidence.contradicting
        ],
    }


def audit_views(findings: Iterable[Finding]) -> list[dict]:
    """Return the findings by kind; kinds without any are left out."""
    findings = list(findings)
    views = []
    for kind, title in KINDS.items():
        members = [finding for finding in findings if finding.kind == kind]
        if members:
            shown = [{"tables": ", ".join(map(str, found.tables)), "text": found.text} for found in members]
            views.append({"anchor": text.slug(kind), "title": title, "note": note_on(kind), "findings": shown})
    return views
