"""Write the report: tables, figures, pictures, data, recipes and the origin of every number on one page."""

from collections.abc import Iterator
from pathlib import Path

from elf.cells import Cell
from elf.files import read_bytes, read_json, write_text
from elf.results.columns import gather
from elf.results.layout import lay_out
from elf.results.report import render_report
from elf.results.summary import summarise
from elf.specs.base import canonical_json
from elf.stages.drawing import about, cells_of, read_results, title
from elf.stages.plan import Plan, arguments_of_scale, load_plan

FIGURE_ENDINGS = ("svg", "csv")


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of_scale("report", __doc__, page="output: HTML")
    arguments = parser.parse_args(argv)
    plan = load_plan(arguments, report=True)
    results = read_results(plan.folder / "results.parquet")
    kinds = {name: plan.settings.experiments[name].kind for name in plan.grid.cells}
    tables = [name for name, kind in kinds.items() if kind == "table"]
    figures = [name for name, kind in kinds.items() if kind == "figure"]
    page = render_report(
        about={
            "title": "ELF: evaluation with distillation features",
            "scale": plan.settings.scale.description,
            "stand_ins": "; ".join(f"{b} stands in for {a}" for a, b in plan.settings.scale.stand_ins.items()),
            "seeds": plan.settings.scale.seeds,
        },
        summary="\n".join(summarise(cells_of(plan, name), results, about(plan, name)) for name in tables),
        tables=[lay_out(cells_of(plan, name), results, about(plan, name)) for name in tables],
        figures=[_figure(plan, name) for name in figures],
        contact_sheets=list(_contact_sheets(plan)),
        data_cards=[read_json(plan.folder / path / "card.json") for path in plan.grid.datasets],
        recipes=list(_recipes(plan)),
        cells=[cell for name in figures for cell in gather(cells_of(plan, name), results)],
    )
    write_text(arguments.page, page)


def _figure(plan: Plan, name: str) -> dict:
    files = {ending: read_bytes(plan.folder / "figures" / f"{name}.{ending}") for ending in FIGURE_ENDINGS}
    return {"title": title(plan, name), "files": files}


def _contact_sheets(plan: Plan) -> Iterator[dict]:
    for path in plan.grid.synthetic_sets:
        picture: Path = plan.folder / path / "contact_sheet.png"
        yield {"title": path.removeprefix("synthetic/"), "image": read_bytes(picture)}


def _recipes(plan: Plan) -> Iterator[dict]:
    """Yield the hyper-parameters that hold for the cells of the grid, each with its source."""
    recipes = plan.settings.recipes
    seen = set()
    for name, dataset, ipc, changed in _used(plan):
        for key, entry in recipes[name].sourced(dataset, ipc).items():
            if changed is not None and key not in changed:
                continue
            if changed is not None and changed[key] != entry.value:
                entry = entry.changed(changed[key], "experiment")
            line = {"recipe": name, "key": key, "value": entry.value, "source": entry.source, "where": entry.where}
            if tuple(line.values()) not in seen:
                seen.add(tuple(line.values()))
                yield line


def _used(plan: Plan) -> list[tuple[str, str | None, int | None, dict | None]]:
    """Return recipe, dataset and images per class of all cells, and for methods the values that a set was made with."""
    used: dict[str, tuple] = {"teacher": ("teacher", None, None, None)}
    for cell in (cell for cells in plan.grid.cells.values() for cell in cells if isinstance(cell, Cell)):
        synthetic, dataset = cell.synthetic, cell.paper_dataset
        protocol = "frepo-evaluation" if cell.evaluation.objective.name == "frepo" else "evaluation"
        entries = [
            (synthetic.method, dataset, synthetic.ipc, synthetic.recipe),
            (protocol, dataset, synthetic.ipc, None),
        ]
        if "experts" in synthetic.recipe:
            entries.append(("expert", dataset, None, None))
        for entry in entries:
            used.setdefault(canonical_json(entry), entry)
    return sorted(used.values(), key=lambda entry: canonical_json(entry))
