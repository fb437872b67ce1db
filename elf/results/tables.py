"""Tables in the layout of the paper, as Markdown, LaTeX, CSV and HTML."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
import pandas as pd

from elf.results.columns import KEY_COLUMNS, PAPER_COLUMNS, Cell
from elf.results.labels import signed
from elf.results.layout import NOT_RUN, SIGNIFICANT, Column, Group, Table, lay_out
from elf.results.statistics import Difference


@dataclass(frozen=True)
class Printed:
    """One field of a printed table: its text, whether it is bold, its marks and the cell it shows."""

    text: str = ""
    bold: bool = False
    mark: str = ""
    anchor: str | None = None


def printed_rows(table: Table, group: Group) -> Iterator[tuple[str, str, list[Printed]]]:
    """Yield (label, kind, fields) of each printed row; kind is ``accuracy``, ``gain`` or ``interval``."""
    columns = [column.value for column in table.columns]
    for row in group.rows:
        cells = [row.cells.get(column) for column in columns]
        yield row.label, "accuracy", [_accuracy(cell, group, table) for cell in cells]
        if row.gains is not None and table.gains:
            gains = [row.gains.get(column) for column in columns]
            yield "gain", "gain", [_gain(gain, cell, table) for gain, cell in zip(gains, cells, strict=True)]
            yield "95 % interval", "interval", [_interval(gain) for gain in gains]


def _accuracy(cell: Cell | None, group: Group, table: Table) -> Printed:
    if cell is None:
        return Printed()
    if cell.rows.empty:
        return Printed(NOT_RUN, anchor=cell.anchor)
    summary = cell.summary
    spread = f" ± {100 * summary.std:.2f}" if summary.n > 1 else ""
    mark = "†" if summary.n < (cell.seeds or table.seeds) else ""
    return Printed(f"{100 * summary.mean:.2f}{spread}", table.bold and cell.anchor in group.best, mark, cell.anchor)


def _gain(gain: Difference | None, cell: Cell | None, table: Table) -> Printed:
    if gain is None or cell is None:
        return Printed()
    if gain.n == 0:
        return Printed("n/a")
    return Printed(signed(gain.mean), mark="*" if table.adjusted[cell.anchor] < SIGNIFICANT else "")


def _interval(gain: Difference | None) -> Printed:
    if gain is None or math.isnan(gain.low):
        return Printed()
    return Printed(f"[{signed(gain.low)}, {signed(gain.high)}]")


def render(cells: pd.DataFrame, results: pd.DataFrame, about: dict) -> dict[str, str]:
    """Return the table as Markdown (``md``), LaTeX (``tex``), CSV (``csv``) and an HTML fragment (``html``).

    Parameters are those of :func:`lay_out`.
    """
    table = lay_out(cells, results, about)
    return {"md": markdown(table), "tex": latex(table), "csv": tidy_csv(table), "html": html(table)}


MARKDOWN_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "\\`*_[]|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
)


def markdown(table: Table) -> str:
    """Return the table in GitHub's Markdown."""
    heads = ["Method", "", *(_heading(column) for column in table.columns)]
    rows = []
    for group in table.groups:
        for index, (label, _, fields) in enumerate(printed_rows(table, group)):
            texts = [f"**{f.text}**{f.mark}" if f.bold else f.text + f.mark.replace("*", r"\*") for f in fields]
            rows.append([_md(group.label) if index == 0 else "", _md(label), *texts])
    body = markdown_table([_md(head) for head in heads], rows, labels=2)
    return "\n\n".join([f"**{_md(table.title)}.** {_md(table.caption)}", body, *map(_md, table.notes)]) + "\n"


def markdown_table(head: list[str], rows: list[list[str]], *, labels: int = 1) -> str:
    """Return a table in GitHub's Markdown, whose first ``labels`` columns are flush left; texts are already escaped."""
    rule = [*["---"] * labels, *["---:"] * (len(head) - labels)]
    return "\n".join(_pipes(row) for row in (head, rule, *rows))


def _heading(column: Column) -> str:
    return column.label + (" (aligned)" if column.aligned else "")


def _md(text: str) -> str:
    return text.translate(MARKDOWN_ESCAPES)


def _pipes(fields) -> str:
    return f"| {' | '.join(fields)} |"


# The bracket in braces, because one that follows the end of a row would be read as an optional argument.
LATEX_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
    | {
        "±": r"$\pm$",
        "−": "$-$",
        "—": "---",
        "†": r"$^\dagger$",
        "*": r"$^*$",
        "λ": r"$\lambda$",
        "[": "{[}",
        "×": r"$\times$",
    }
)


def latex(table: Table) -> str:
    """Return a LaTeX ``table``; it needs the package ``booktabs``."""
    stacked = [rf"\shortstack{{{_tex(c.label)}\\(aligned)}}" if c.aligned else _tex(c.label) for c in table.columns]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{\textbf{{{_tex(table.title)}.}} {_tex(table.caption)}}}",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["Method", "", *stacked]) + r" \\",
    ]
    for group in table.groups:
        lines.append(r"\midrule")
        for index, (label, kind, fields) in enumerate(printed_rows(table, group)):
            heads = [_tex(group.label) if index == 0 else "", _tex(label)]
            lines.append(" & ".join([*heads, *(_tex_field(field, kind) for field in fields)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_tex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tex(text: str) -> str:
    return text.translate(LATEX_ESCAPES)


def _tex_field(field: Printed, kind: str) -> str:
    text = _tex(field.text)
    if kind == "interval" and text:
        return rf"\scriptsize {text}"
    return (rf"\textbf{{{text}}}" if field.bold else text) + _tex(field.mark)


def tidy(table: Table) -> pd.DataFrame:
    """Return one row a cell: its key, statistics in percent, and its gain in percentage points."""
    rows = []
    for group in table.groups:
        for row in group.rows:
            for column in table.columns:
                cell = row.cells.get(column.value)
                if cell is None:
                    continue
                gain = (row.gains or {}).get(column.value)
                rows.append(
                    {
                        "title": table.title,
                        "group": group.label,
                        "row": row.label,
                        "column": column.label,
                        "aligned": cell.aligned,
                        **_statistics(cell, gain),
                        "p_holm": table.adjusted.get(cell.anchor, math.nan),
                        "best": cell.anchor in group.best,
                        **{name: cell[name] for name in (*KEY_COLUMNS, *PAPER_COLUMNS)},
                    }
                )
    return pd.DataFrame(rows).convert_dtypes()


def _statistics(cell: Cell, gain: Difference | None) -> dict:
    summary, gain = cell.summary, gain or Difference(math.nan, math.nan, math.nan, math.nan, 0)
    percent = {
        "mean": summary.mean,
        "std": summary.std,
        "ci_low": summary.low,
        "ci_high": summary.high,
        "gain": gain.mean,
        "gain_ci_low": gain.low,
        "gain_ci_high": gain.high,
    }
    scaled = {name: 100 * value for name, value in percent.items()}
    return {"unit": "percent", **scaled, "p": gain.p, "n": summary.n, "pairs": gain.n}


def tidy_csv(table: Table) -> str:
    """Return :func:`tidy` as CSV."""
    stream = io.StringIO()
    tidy(table).to_csv(stream, index=False, float_format="%.6g", lineterminator="\n")
    return stream.getvalue()


def templates() -> jinja2.Environment:
    """Return the templates of the package; every value is escaped, and an unknown one is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("elf.results"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html(table: Table, *, links: str | None = None) -> str:
    """Return the table as an HTML fragment; with the address of a folder each cell leads to its page there."""
    groups = [(group.label, list(printed_rows(table, group))) for group in table.groups]
    return templates().get_template("table.html.j2").render(table=table, groups=groups, links=links)
