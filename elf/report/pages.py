"""The report: a folder of pages that opens offline, where every number is one click from its origin."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import jinja2

from elf.errors import ElfError
from elf.report import text
from elf.report.cell_pages import appearances, cell_view, comparisons_by_cell
from elf.report.comparisons import audit_views, claim_views, comparison_rows, verdict_counts
from elf.report.content import FigureEntry, Origin, Report, Sheet, TableEntry
from elf.report.costs import Cost
from elf.results.columns import Cell
from elf.results.soundness import PNG, check_drawing, check_picture
from elf.results.tables import templates
from elf.verdicts import claims, comparison
from elf.verdicts.text import comparison_frame

ENDINGS = {PNG: "png", b"\xff\xd8\xff": "jpg"}


def render_report(report: Report) -> dict[str, bytes]:
    """Return the files of the report by their path in its folder; ``index.html`` is where to start.

    Nothing is loaded from elsewhere, all addresses are relative, and everything can be read without JavaScript.
    """
    environment = _environment()
    shared = {"about": _about(report), "menu": _menu(report)}

    def page(template: str, root: str, **values) -> bytes:
        return environment.get_template(f"report_{template}.html.j2").render(root=root, **shared, **values).encode()

    files = {
        "style.css": environment.get_template("report.css.j2").render().encode(),
        "report.js": environment.get_template("report.js.j2").render().encode(),
        **_downloads(report),
    }
    for table in report.tables:
        files[f"tables/{table.name}.html"] = page("table", "../", **_table_page(table))
    figures, pictures = _figures(report.figures), _sheets(report.sheets)
    files |= figures.files | pictures.files
    views = claim_views(report.claims)
    names = {table.name for table in report.tables}
    pages = {
        "figures": (report.figures, {"figures": figures.views}),
        "images": (report.sheets, {"sheets": pictures.views}),
        "data": (report.data_cards, {"cards": report.data_cards}),
        "recipes": (report.recipes, {"recipes": by_recipe(report.recipes)}),
        "claims": (report.claims, {"claims": views, "rule": claims.RULE, "tables": names}),
        "audit": (report.audit, {"kinds": audit_views(report.audit)}),
        "costs": (report.costs, {"costs": _cost_views(report)}),
    }
    for name, (content, values) in pages.items():
        if content:
            files[f"{name}.html"] = page(name, "", **values)
    shown, compared = appearances(report), comparisons_by_cell(report)
    for cell in _cells(report).values():
        files[f"cells/{cell.anchor}.html"] = page(
            "cell",
            "../",
            cell=cell_view(cell, report.origins.get(cell.anchor, Origin())),
            shown_in=shown.get(cell.anchor, []),
            compared=compared.get(cell.anchor, []),
        )
    files["index.html"] = page("index", "", **_index_page(report, views))
    return files


def _environment() -> jinja2.Environment:
    environment = templates()
    environment.tests["mapping"] = lambda value: isinstance(value, Mapping)
    environment.tests["listing"] = lambda value: isinstance(value, list | tuple)
    return environment


def _about(report: Report) -> dict:
    given = {"stand_ins": "", "scale_name": "", "comparable": True, "partial": False, "details": {}}
    return {**given, **report.about}


def _menu(report: Report) -> list[dict]:
    """Return the links that stand on every page, relative to the folder of the report."""
    entries = [("index.html", "Overview", True)]
    entries += [
        ("claims.html", "Claims", report.claims),
        ("audit.html", "Audit of the paper", report.audit),
        ("figures.html", "Figures", report.figures),
        ("images.html", "Synthetic images", report.sheets),
        ("data.html", "Data", report.data_cards),
        ("recipes.html", "Recipes", report.recipes),
        ("costs.html", "Costs", report.costs),
    ]
    return [{"address": address, "title": title} for address, title, is_there in entries if is_there]


def _cells(report: Report) -> dict[str, Cell]:
    return {cell.anchor: cell for entry in (*report.tables, *report.figures) for cell in entry.cells}


def _run(cells: tuple[Cell, ...]) -> dict:
    """Return how many cells there are, and how many have seeds."""
    members = {cell.anchor: cell for cell in cells}.values()
    return {"cells": len(members), "run": sum(not cell.rows.empty for cell in members)}


def _index_page(report: Report, claims: list[dict]) -> dict:
    figures = zip(report.figures, text.slugs(figure.name for figure in report.figures), strict=True)
    files = [f"downloads/{name}" for name in (*_csv_files(report), *report.downloads)]
    return {
        "summary": report.summary,
        "run": _run(tuple(_cells(report).values())),
        "tables": [
            {"name": table.name, "title": table.title, "verdicts": verdict_counts(table.comparisons)}
            | _run(table.cells)
            for table in report.tables
        ],
        "figures": [{"name": name, "title": entry.title} | _run(entry.cells) for entry, name in figures],
        "claims": claims,
        "audit": audit_views(report.audit),
        "rule": comparison.RULE,
        "problems": report.problems,
        "downloads": [{"name": file.rpartition("/")[2], "address": file} for file in files]
        + [{"name": name, "address": address} for name, address in report.links.items()],
    }


def _table_page(table: TableEntry) -> dict:
    downloads = [f"{table.name}.csv"] + ([f"{table.name}-comparison.csv"] if table.comparisons else [])
    return {
        "table": table,
        "run": _run(table.cells),
        "verdicts": verdict_counts(table.comparisons),
        "rows": comparison_rows(table),
        "rule": comparison.RULE,
        "downloads": downloads,
    }


def _csv_files(report: Report) -> dict[str, bytes]:
    files = {}
    for table in report.tables:
        files[f"{table.name}.csv"] = table.csv.encode()
        if table.comparisons:
            frame = comparison_frame(table.comparisons)
            files[f"{table.name}-comparison.csv"] = frame.to_csv(index=False, lineterminator="\n").encode()
    return files


def _downloads(report: Report) -> dict[str, bytes]:
    return {f"downloads/{name}": content for name, content in (_csv_files(report) | dict(report.downloads)).items()}


class _Gallery:
    """Pictures: what the page shows, and the files beside it."""

    def __init__(self) -> None:
        self.views: list[dict] = []
        self.files: dict[str, bytes] = {}


def _figures(entries: tuple[FigureEntry, ...]) -> _Gallery:
    gallery = _Gallery()
    for entry, name in zip(entries, text.slugs(entry.name for entry in entries), strict=True):
        addresses = {ending: f"figures/{name}.{ending}" for ending in entry.files}
        gallery.files |= {addresses[ending]: content for ending, content in entry.files.items()}
        if {"svg", "csv"} <= entry.files.keys():
            check_drawing(entry.files["svg"], entry.files["csv"], entry.name)
        rows = list(csv.reader(io.StringIO(entry.files["csv"].decode()))) if "csv" in entry.files else []
        gallery.views.append(
            {
                "name": name,
                "title": entry.title,
                "note": entry.note,
                "command": entry.command,
                "picture": addresses.get("svg") or addresses.get("png"),
                "files": addresses,
                "head": rows[0] if rows else [],
                "rows": rows[1:],
                "origins": list(_links(entry.cells)),
            }
            | _run(entry.cells)
        )
    return gallery


def _links(cells: tuple[Cell, ...]) -> Iterator[dict]:
    for cell in {cell.anchor: cell for cell in cells}.values():
        view = cell_view(cell, Origin())
        yield {key: view[key] for key in ("anchor", "title", "mean", "settings")}


def _sheets(sheets: tuple[Sheet, ...]) -> _Gallery:
    gallery = _Gallery()
    for sheet, name in zip(sheets, text.slugs(sheet.title for sheet in sheets), strict=True):
        address = None
        if sheet.image is not None:
            address = f"images/{name}.{_ending(sheet.image, sheet.title)}"
            check_picture(sheet.image, f"synthetic/{sheet.title}/contact_sheet.png")
            gallery.files[address] = sheet.image
        gallery.views.append({"title": sheet.title, "address": address})
    return gallery


def _ending(image: bytes, title: str) -> str:
    ending = next((ending for start, ending in ENDINGS.items() if image.startswith(start)), None)
    if ending is None:
        raise ElfError(
            f"synthetic/{title}/contact_sheet.png: damaged or altered (an image that is neither PNG nor JPEG); "
            "delete it and start again to have it drawn anew"
        )
    return ending


def by_recipe(lines) -> dict[str, list[Mapping]]:
    """Return hyper-parameters by the name of their recipe."""
    found: dict[str, list[Mapping]] = {}
    for line in lines:
        found.setdefault(str(line["recipe"]), []).append(line)
    return found


def _cost_views(report: Report) -> dict:
    if report.costs is None:
        return {}
    return {
        "stages": [_cost_view(cost) for cost in report.costs.stages],
        "tables": [_cost_view(cost) for cost in report.costs.tables],
        "all_tables": _cost_view(report.costs.all_tables),
        "storage": [
            {key: text.size(value) if isinstance(value, int) else value for key, value in asdict(entry).items()}
            | {"ratio": _times(entry.ratio), "ratio_to_pixels": _times(entry.ratio_to_pixels)}
            for entry in report.costs.storage
        ],
    }


def _cost_view(cost: Cost) -> dict:
    shown = {"wall": text.total, "on_device": text.total, "memory": text.size, "images_per_second": text.rate}
    return vars(cost) | {name: write(getattr(cost, name)) for name, write in shown.items()}


def _times(ratio: float) -> str:
    return text.NOTHING if ratio != ratio else f"{ratio:.2f} ×"
