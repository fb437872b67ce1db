"""Write the report: a folder of pages that opens offline, with the origin of every number."""

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from elf.artifacts.files import read_bytes, read_json
from elf.artifacts.lineage import Artifact, Manifests
from elf.artifacts.manifest import seal_of
from elf.errors import ElfError
from elf.report.content import FigureEntry, Report, Sheet, TableEntry
from elf.report.costs import Costs, Storage, cost_by_stage, cost_of, storage
from elf.report.folder import START, write_folder
from elf.report.pages import render_report
from elf.results import tables, teacher_epochs
from elf.results.columns import Cell, gather
from elf.results.layout import lay_out
from elf.results.summary import summarise
from elf.running.drawing import about, cells_of, read_results, title
from elf.specs.kinds import checkpoint_of
from elf.stages.verdicts import held_against
from elf.status.jobs import jobs_of
from elf.status.origins import again, key_of, of_grid, origin_of
from elf.status.rows import results_so_far
from elf.study.cell_recipes import all_recipes
from elf.study.plan import Plan, arguments_of_scale, load_plan
from elf.verdicts.audit import audit
from elf.verdicts.claims import CLAIMS, judge
from elf.verdicts.comparison import compare
from elf.verdicts.observations import observations_of_cells, observations_of_printed

FIGURE_ENDINGS = ("svg", "csv")
COPIED = 20 * 2**20
"""Results up to this size are part of the report; larger ones are linked."""


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of_scale("report", __doc__)
    parser.add_argument(
        "--partial", action="store_true", help="show what has been run so far, and mark everything else"
    )
    parser.add_argument(
        "--folder", type=Path, help="output folder (default: report in that of the scale; partial-report if partial)"
    )
    arguments = parser.parse_args(argv)
    plan = load_plan(arguments, report=True)
    folder = arguments.folder or plan.folder / ("partial-report" if arguments.partial else "report")
    write_folder(folder, render_report(content(plan, partially=arguments.partial)))
    print(f"{folder / START}")


def content(plan: Plan, *, partially: bool = False) -> Report:
    """Return what the report of a scale shows.

    Parameters
    ----------
    plan : Plan
    partially : bool
        Whether to show what has been run so far: what is missing is marked. Otherwise it is an error.
    """
    manifests = Manifests(plan.folder, lenient=partially)
    results, problems = _results(plan, manifests, partially)
    cells = {name: gather(cells_of(plan, name), results) for name in plan.grid.cells}
    known = of_grid(plan)
    jobs = jobs_of(plan)
    origins = {
        cell.anchor: origin_of(plan, known[key_of(cell)], jobs, manifests)
        for members in cells.values()
        for cell in members
    }
    artifacts = {
        name: [artifact for cell in members for artifact in origins[cell.anchor].artifacts]
        for name, members in cells.items()
    }
    experiments = plan.settings.experiments
    accuracies = [name for name in _named(plan, "table") if experiments[name].shows == "accuracy"]
    with_gains = [name for name in accuracies if experiments[name].gains]
    file = plan.folder / "results.parquet"
    is_copied = not partially and file.stat().st_size <= COPIED
    return Report(
        about=_about(plan, partially),
        summary="\n".join(_summary(plan, name, results) for name in with_gains or accuracies),
        tables=tuple(_table(plan, name, results, cells[name]) for name in _named(plan, "table")),
        figures=tuple(_figure(plan, name, results, cells[name], partially) for name in _named(plan, "figure")),
        sheets=tuple(_sheets(plan, partially)),
        data_cards=tuple(_cards(plan, partially)),
        recipes=tuple(all_recipes(plan)),
        origins=origins,
        claims={
            "printed": _judged(observations_of_printed()),
            "measured": _judged(observations_of_cells({name: cells[name] for name in accuracies})),
        },
        audit=tuple(audit()),
        costs=_costs(plan, artifacts, manifests),
        downloads={"results.csv": results.to_csv(index=False).encode()}
        | ({file.name: file.read_bytes()} if is_copied else {}),
        links={} if partially or is_copied else {file.name: f"../{file.name}"},
        problems=tuple(problems),
    )


def _results(plan: Plan, manifests: Manifests, partially: bool) -> tuple[pd.DataFrame, list[str]]:
    if not partially:
        return read_results(plan.folder / "results.parquet"), []
    return results_so_far(plan, manifests)


def _named(plan: Plan, kind: str) -> list[str]:
    return [name for name in plan.grid.cells if plan.settings.experiments[name].kind == kind]


def _about(plan: Plan, partially: bool) -> dict:
    scale = plan.settings.scale
    return {
        "title": "ELF: evaluation with distillation features",
        "scale": scale.description,
        "scale_name": plan.settings.name,
        "stand_ins": "; ".join(f"{stand_in} stands in for {name}" for name, stand_in in scale.stand_ins.items()),
        "seeds": scale.seeds,
        "comparable": plan.settings.scale.comparable,
        "partial": partially,
        "details": {"made by": again(plan, "report")},
    }


def _summary(plan: Plan, name: str, results: pd.DataFrame) -> str:
    return summarise(cells_of(plan, name), results, about(plan, name))


def _judged(observations: pd.DataFrame) -> list:
    return [judge(claim, observations) for claim in CLAIMS]


def _table(plan: Plan, name: str, results: pd.DataFrame, cells: list[Cell]) -> TableEntry:
    wanted, said = cells_of(plan, name), about(plan, name)
    entry = partial(TableEntry, name=name, title=title(plan, name), cells=tuple(cells), command=again(plan, name))
    if plan.settings.experiments[name].shows == "teacher_epoch":
        drawn = teacher_epochs.render(wanted, results, said)
        return entry(html=drawn["html"], csv=drawn["csv"])
    table = lay_out(wanted, results, said)
    compared = compare(name, cells, **held_against(plan))
    return entry(html=tables.html(table, links="../cells/"), csv=tables.tidy_csv(table), comparisons=tuple(compared))


def _figure(plan: Plan, name: str, results: pd.DataFrame, cells: list[Cell], partially: bool) -> FigureEntry:
    entry = partial(FigureEntry, name=name, title=title(plan, name), cells=tuple(cells), command=again(plan, name))
    if not partially:
        return entry(
            files={ending: read_bytes(plan.folder / "figures" / f"{name}.{ending}") for ending in FIGURE_ENDINGS}
        )
    if all(cell.rows.empty for cell in cells):
        return entry(files={})
    try:
        # By name, so that the report of everything does not depend on how a figure is drawn.
        drawn = importlib.import_module(f"elf.results.{name}").render(cells_of(plan, name), results, about(plan, name))
    except ElfError as error:
        return entry(files={}, note=str(error))
    return entry(files={ending: drawn[ending] for ending in FIGURE_ENDINGS})


def _sheets(plan: Plan, partially: bool) -> Iterator[Sheet]:
    for path in plan.grid.synthetic_sets:
        picture = plan.folder / path / "contact_sheet.png"
        is_missing = partially and not picture.is_file()
        yield Sheet(path.removeprefix("synthetic/"), None if is_missing else read_bytes(picture))


def _cards(plan: Plan, partially: bool) -> Iterator[dict]:
    for path, spec in plan.grid.datasets.items():
        file = plan.folder / path / "card.json"
        if partially and not file.is_file():
            yield {"name": spec.name, "state": "not prepared"}
            continue
        card = read_json(file)
        if not isinstance(card, dict) or card.pop("seal", None) != seal_of(card):
            raise ElfError(
                f"{file}: is damaged or was altered (it does not fit its seal); bring back the file as it was, or "
                "delete it and start again, which makes the dataset anew, too"
            )
        yield card


def _costs(plan: Plan, artifacts: dict[str, list[Artifact]], manifests: Manifests) -> Costs:
    together = [artifact for members in artifacts.values() for artifact in members]
    return Costs(
        stages=cost_by_stage(together),
        tables=tuple(cost_of(title(plan, name), members) for name, members in artifacts.items()),
        all_tables=cost_of("All tables and figures", together),
        storage=tuple(_storage(plan, manifests)),
    )


def _storage(plan: Plan, manifests: Manifests) -> Iterator[Storage]:
    """Yield what each synthetic set and each teacher's view of it take, as far as the files are there."""
    teachers: dict[str, list] = {}
    for path, spec in plan.grid.features.items():
        if manifests.sizes(path):
            teachers.setdefault(f"synthetic/{spec.dataset}/{spec.synthetic_set}", []).append((path, spec))
    for path in plan.grid.synthetic_sets:
        images, name = manifests.sizes(f"{path}/images.safetensors"), path.removeprefix("synthetic/")
        if not images:
            continue
        if path not in teachers:
            yield storage(name, images)
        for features, spec in teachers.get(path, []):
            checkpoint = checkpoint_of(spec)
            teacher = f"{spec.teacher_network}, epoch {spec.teacher_epoch}"
            yield storage(name, images, teacher, manifests.sizes(features), manifests.sizes(checkpoint))
