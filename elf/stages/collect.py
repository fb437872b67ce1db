"""Collect the evaluation shards that the grid asks for into one table, a row for each seed."""

from dataclasses import asdict

from elf.artifacts.code import collect_code
from elf.artifacts.ledger import Ledger
from elf.artifacts.manifest import describe
from elf.artifacts.tables import write_table
from elf.results.columns import RESULTS
from elf.specs.shard import MEASURED
from elf.status.rows import remove_seed_states, rows_of
from elf.study.plan import arguments_of_scale, load_plan


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of_scale("collect", __doc__, results="output")
    parser.add_argument("--experiment", help="the evaluations of this table or figure alone (default: all)")
    parser.add_argument("--partial", action="store_true", help="leave out what has not been run yet")
    arguments = parser.parse_args(argv)
    ledger = Ledger()
    plan = load_plan(arguments, experiment=arguments.experiment)
    rows, inputs = rows_of(plan, arguments.experiment, partial=arguments.partial)
    spec = {"scale": plan.settings.name, "experiment": arguments.experiment, "partial": arguments.partial}
    measured = {"device": "cpu"} | asdict(ledger.spent())
    manifest = describe("results", spec, inputs=inputs, code=collect_code(), measured=measured)
    write_table(arguments.results, rows, RESULTS, manifest, MEASURED)
    if not arguments.partial:
        for path in plan.collected(arguments.experiment).evaluations:
            remove_seed_states(plan.folder / path)
    print(f"{arguments.results}: {len(rows)} rows from {len({row['shard'] for row in rows})} files")
