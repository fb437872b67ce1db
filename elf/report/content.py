"""What a report is made of, before it is given pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from elf.report.costs import Costs
from elf.results.columns import Cell
from elf.status.origins import Origin
from elf.verdicts.audit import Finding
from elf.verdicts.claims import Judgement
from elf.verdicts.comparison import Comparison


@dataclass(frozen=True)
class TableEntry:
    """A table of the report.

    Attributes
    ----------
    name : str
        Of the experiment, such as ``"table05"``.
    title : str
    html : str
        The table as an HTML fragment, whose links are relative to the folder ``tables``.
    csv : str
        The numbers of the table.
    cells : tuple of Cell
    comparisons : tuple of Comparison
        With what the paper prints; empty where it prints no accuracies.
    command : str
        What makes the table again.
    """

    name: str
    title: str
    html: str
    csv: str
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class FigureEntry:
    """A figure: files by ending (``svg`` or ``png``, and ``csv``); where there are none, ``note`` may say why."""

    name: str
    title: str
    files: Mapping[str, bytes]
    cells: tuple[Cell, ...] = ()
    command: str = ""
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """The contact sheet of a synthetic set: PNG or JPEG; None if there is none yet."""

    title: str
    image: bytes | None


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Attributes
    ----------
    about : dict
        ``title``, ``scale`` (description), ``scale_name``, ``stand_ins``, ``seeds``; ``comparable``, whether single
        numbers may be held against the paper's; ``partial``, whether the run still goes on.
    summary : str
        Plain text, as :func:`elf.results.summary.summarise` gives it.
    origins : dict of str to Origin
        By the anchor of the cell.
    claims : dict of str to list of Judgement
        Source of the numbers (``"printed"``, ``"measured"``) to what they say of each claim.
    audit : tuple of Finding
        What the paper's numbers say of the paper itself.
    data_cards, recipes : list of dict
    costs : Costs or None
    downloads : dict of str to bytes
        Further files to be offered, by name.
    links : dict of str to str
        Files beside the report that are too large to be part of it: name to relative address.
    problems : tuple of str
        What was left out, and why.
    """

    about: Mapping
    summary: str = ""
    tables: tuple[TableEntry, ...] = ()
    figures: tuple[FigureEntry, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    data_cards: tuple[Mapping, ...] = ()
    recipes: tuple[Mapping, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    claims: Mapping[str, list[Judgement]] = field(default_factory=dict)
    audit: tuple[Finding, ...] = ()
    costs: Costs | None = None
    downloads: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
