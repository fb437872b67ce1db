"""Hold what was measured against what the paper prints and claims, and the paper against itself."""

from pathlib import Path

from elf.artifacts.files import write_text
from elf.results.columns import Cell, gather
from elf.results.labels import scale_text
from elf.results.reading import read_results
from elf.running.drawing import about, cells_of, given_results
from elf.study.plan import Plan, arguments_of_scale, load_plan
from elf.verdicts import text as verdicts
from elf.verdicts.audit import audit
from elf.verdicts.claims import CLAIMS, judge
from elf.verdicts.comparison import compare
from elf.verdicts.observations import observations_of_cells, observations_of_printed
from elf.verdicts.printed import TABLES


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of_scale("verdicts", __doc__)
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="parquet or CSV (default: results.parquet of the scale)"
    )
    parser.add_argument("--folder", type=Path, help="output folder (default: verdicts in that of the scale)")
    arguments = parser.parse_args(argv)
    results = given_results(arguments)
    plan = load_plan(arguments, drawings=True)
    if results is None:
        results = read_results(plan.folder / "results.parquet")
    names = [name for name in (f"table{number:02d}" for number in TABLES) if name in plan.grid.cells]
    cells = {name: gather(cells_of(plan, name), results) for name in names}
    for name, text in render(plan, cells).items():
        write_text((arguments.folder or plan.folder / "verdicts") / name, text)


def render(plan: Plan, cells: dict[str, list[Cell]]) -> dict[str, str]:
    """Return the files of the stage: name to text."""
    comparisons = {name: compare(name, members, **held_against(plan)) for name, members in cells.items()}
    everything = [comparison for members in comparisons.values() for comparison in members]
    sections = [verdicts.comparison_markdown(name, members) for name, members in comparisons.items()]
    judgements = {
        source: [judge(claim, observations) for claim in CLAIMS]
        for source, observations in (
            ("printed", observations_of_printed()),
            ("measured", observations_of_cells(cells)),
        )
    }
    measured = scale_text({"scale": plan.settings.scale.description, "stand_ins": _stand_ins(plan, list(cells))})
    return {
        "comparison.csv": verdicts.comparison_frame(everything).to_csv(index=False),
        "comparison.md": verdicts.comparison_page(sections, measured),
        "claims.md": verdicts.claims_markdown(judgements, measured),
        "audit.md": verdicts.audit_markdown(audit()),
    }


def held_against(plan: Plan) -> dict:
    """Return what :func:`elf.verdicts.comparison.compare` is to know of a scale."""
    others = {
        name: (recipe.other_set_of.method, recipe.other_set_of.network)
        for name, recipe in plan.settings.recipes.items()
        if recipe.other_set_of is not None
    }
    return {"comparable": plan.settings.scale.comparable, "reason": f"scale {plan.settings.name}", "others": others}


def _stand_ins(plan: Plan, experiments: list[str]) -> str:
    texts = [text for name in experiments for text in about(plan, name)["stand_ins"].split("; ")]
    return "; ".join(dict.fromkeys(filter(None, texts)))
