"""One HTML page with everything: summary, tables, figures, synthetic images, data, recipes, provenance."""

import base64
import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from elf.errors import ElfError
from elf.results.columns import KEY_COLUMNS, PROVENANCE_COLUMNS, Cell
from elf.results.labels import SETTING_LABELS, method_label, network_label, objective_label, value_label
from elf.results.layout import Table
from elf.results.tables import html, templates

MEDIA_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
# The same for every seed of a cell, unlike time and memory.
SHARED_COLUMNS = [c for c in PROVENANCE_COLUMNS if c not in ("train_seconds", "peak_memory_bytes")]


def render_report(
    *,
    about: Mapping,
    summary: str,
    tables: Sequence[Table],
    figures: Sequence[Mapping] = (),
    contact_sheets: Sequence[Mapping] = (),
    data_cards: Sequence[Mapping] = (),
    recipes: Sequence[Mapping] = (),
    cells: Iterable[Cell] = (),
) -> str:
    """Return the report as one self-contained page: no script, nothing loaded from elsewhere.

    Parameters
    ----------
    about : dict
        ``title``, ``scale``, ``stand_ins``, ``seeds``; optional ``details``, a dict of further facts to list
        (version, commit, command).
    summary : str
        Plain text, as :func:`elf.results.summary.summarise` gives it.
    tables : list of Table
        As :func:`elf.results.layout.lay_out` gives them; each cell links to where it comes from.
    figures : list of dict
        ``title``, ``files`` (extension to bytes with ``svg`` or ``png``, optional ``csv``), optional ``caption``.
    contact_sheets : list of dict
        ``title``, ``image`` (PNG or JPEG bytes), optional ``caption``.
    data_cards : list of dict
        ``name`` and whatever else the card says, nested at will.
    recipes : list of dict
        ``recipe``, ``key``, ``value``, ``source``, ``where``; one dict a hyper-parameter.
    cells : iterable of Cell
        Further cells whose origin is to be listed, such as those of the figures.
    """
    shown = [cell for table in tables for group in table.groups for row in group.rows for cell in row.cells.values()]
    by_anchor = {cell.anchor: cell for cell in [*shown, *cells]}
    by_recipe: dict[str, list[Mapping]] = {}
    for entry in recipes:
        by_recipe.setdefault(str(entry["recipe"]), []).append(entry)
    environment = templates()
    environment.tests["mapping"] = lambda value: isinstance(value, Mapping)
    environment.tests["listing"] = lambda value: isinstance(value, list | tuple)
    return environment.get_template("report.html.j2").render(
        about={"stand_ins": "", "details": {}, **about},
        summary=summary,
        tables=[{"title": t.title, "anchor": slug(t.title), "html": html(t, links=True)} for t in tables],
        figures=[_figure(figure) for figure in figures],
        contact_sheets=[_sheet(sheet) for sheet in contact_sheets],
        data_cards=data_cards,
        recipes=by_recipe,
        origins=[origin(cell) for cell in by_anchor.values()],
    )


def origin(cell: Cell) -> dict:
    """Return what the report says of one cell: its settings, what all its seeds share, and each seed."""
    rows = cell.rows
    columns = [column for column in SHARED_COLUMNS if column in rows]
    shared = {column: _texts(rows[column]) for column in columns if not rows[column].isna().all()}
    summary = cell.summary
    return {
        "anchor": cell.anchor,
        "title": (
            f"{method_label(cell['method'])}, {network_label(cell['paper_eval_network'])}, "
            f"{objective_label(cell['objective'])}"
        ),
        "settings": {
            SETTING_LABELS.get(column, column.replace("_", " ")): value_label(column, cell[column])
            for column in KEY_COLUMNS
            if cell[column] is not None
        },
        "shared": {column.replace("_", " "): text for column, text in shared.items()},
        "seeds": [_seed(row) for row in rows.to_dict("records")],
        "mean": _percent(summary.mean),
        "std": _percent(summary.std),
        "interval": "" if math.isnan(summary.low) else f"{_percent(summary.low)} to {_percent(summary.high)}",
    }


def _seed(row: dict) -> dict:
    return {
        "seed": row["seed"],
        "accuracy": _percent(row["accuracy"]),
        "seconds": _number(row["train_seconds"], 1, ".1f"),
        "memory": _number(row["peak_memory_bytes"], 2**20, ".0f"),
    }


def _texts(values) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values.dropna()))


def _percent(fraction: float) -> str:
    return "" if math.isnan(fraction) else f"{100 * fraction:.2f}"


def _number(value, unit: float, form: str) -> str:
    return "" if pd.isna(value) else format(value / unit, form)


def _figure(figure: Mapping) -> dict:
    files = figure["files"]
    extension, media_type = ("svg", "image/svg+xml") if "svg" in files else ("png", None)
    address = data_address(files[extension], media_type)
    rows = list(csv.reader(io.StringIO(_text(files["csv"])))) if "csv" in files else []
    return {
        "title": figure["title"],
        "caption": figure.get("caption", ""),
        "address": address,
        "head": rows[0] if rows else [],
        "rows": rows[1:],
    }


def _sheet(sheet: Mapping) -> dict:
    return {
        "title": sheet["title"],
        "caption": sheet.get("caption", ""),
        "address": data_address(sheet["image"]),
    }


def data_address(content: bytes | str, media_type: str | None = None) -> str:
    """Return a ``data:`` address that holds an image; without a type it is told from the first bytes."""
    content = content.encode() if isinstance(content, str) else content
    if media_type is None:
        media_type = next((kind for start, kind in MEDIA_TYPES.items() if content.startswith(start)), None)
    if media_type is None:
        raise ElfError("an image of the report is neither PNG nor JPEG; make that image again")
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _text(content: bytes | str) -> str:
    return content.decode() if isinstance(content, bytes) else content


def slug(title: str) -> str:
    """Return an identifier for links: ``Table 5`` becomes ``table-5``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
