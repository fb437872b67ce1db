"""Draw a table from results as Markdown, LaTeX, CSV and HTML."""

from elf.files import write_text
from elf.results import tables
from elf.stages.drawing import about, cells_of, read_results
from elf.stages.plan import arguments_of_scale, load_plan


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of_scale("table", __doc__, results="input: results.parquet", folder="output folder")
    parser.add_argument("name", help="experiment, for example table05")
    arguments = parser.parse_args(argv)
    plan = load_plan(arguments, "table")
    rendered = tables.render(
        cells_of(plan, arguments.name), read_results(arguments.results), about(plan, arguments.name)
    )
    for ending, text in rendered.items():
        write_text(arguments.folder / f"{arguments.name}.{ending}", text)
