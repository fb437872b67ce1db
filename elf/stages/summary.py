"""Say in a few lines what the results of a scale show, and where everything is."""

from elf.errors import ElfError
from elf.results.summary import summarise
from elf.stages.drawing import about, cells_of, read_results
from elf.stages.plan import arguments_of_scale, load_plan


def main(argv: list[str]) -> None:
    """Run the command."""
    arguments = arguments_of_scale("summary", __doc__).parse_args(argv)
    plan = load_plan(arguments)
    results = read_results(plan.folder / "results.parquet")
    tables = [name for name in plan.grid.cells if plan.settings.experiments[name].kind == "table"]
    if not tables:
        raise ElfError(f"config/scales/{plan.settings.name}.yaml: experiments: names no table to summarise")
    print("\n".join(summarise(cells_of(plan, name), results, about(plan, name)) for name in tables))
    print(f"results  {plan.folder / 'results.parquet'} ({len(results)} rows, one a seed)")
    for name in plan.grid.cells:
        kind, ending = plan.settings.experiments[name].kind, {"table": "md", "figure": "png"}
        print(f"{kind:<8} {plan.folder / f'{kind}s' / f'{name}.{ending[kind]}'}")
    print(f"report   {plan.folder / 'report.html'}")
