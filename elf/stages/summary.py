"""Say in a few lines what the results of a scale show, and where everything is."""

from elf.errors import ElfError
from elf.results.summary import summarise
from elf.running.drawing import about, cells_of, read_results
from elf.study.plan import arguments_of_scale, load_plan

ENDINGS = {"table": "md", "figure": "png"}


def main(argv: list[str]) -> None:
    """Run the command."""
    arguments = arguments_of_scale("summary", __doc__).parse_args(argv)
    plan = load_plan(arguments)
    kinds = {name: plan.settings.experiments[name].kind for name in plan.grid.cells}
    collected = {name: plan.folder / "collected" / f"{name}.parquet" for name in kinds}
    there = [name for name, path in collected.items() if path.is_file()]
    if not there:
        raise ElfError(
            f"{plan.folder}: no table or figure has been collected yet; "
            f"run 'snakemake --profile profiles/local --config scale={plan.settings.name}'"
        )
    # Tables of accuracies with something to compare; full data and single rows speak for themselves.
    told = [name for name in there if kinds[name] == "table" and plan.settings.experiments[name].gains] or [
        name for name in there if kinds[name] == "table"
    ]
    for name in told:
        print(summarise(cells_of(plan, name), read_results(collected[name]), about(plan, name)))
    everything = plan.folder / "results.parquet"
    if everything.is_file():
        print(f"results  {everything} ({len(read_results(everything))} rows, one a seed)")
    for name in there:
        print(f"{kinds[name]:<8} {plan.folder / f'{kinds[name]}s' / f'{name}.{ENDINGS[kinds[name]]}'}")
    missing = [name for name in kinds if name not in there]
    if missing:
        print(f"not made yet: {', '.join(missing)}")
    pages = [plan.folder / folder / "index.html" for folder in ("report", "partial-report")]
    page = next((page for page in pages if page.is_file()), None)
    if page is not None:
        print(f"report   {page}")
