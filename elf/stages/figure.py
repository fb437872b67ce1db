"""Draw a figure from results as PDF, PNG and SVG, with the data that it shows as CSV."""

import importlib

from elf.files import write_bytes
from elf.stages.drawing import about, cells_of, read_results
from elf.stages.plan import arguments_of_scale, load_plan


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of_scale("figure", __doc__, results="input: results.parquet", folder="output folder")
    parser.add_argument("name", help="experiment, for example figure3")
    arguments = parser.parse_args(argv)
    plan = load_plan(arguments, "figure")
    figure = importlib.import_module(f"elf.results.{arguments.name}")
    rendered = figure.render(
        cells_of(plan, arguments.name), read_results(arguments.results), about(plan, arguments.name)
    )
    for ending, content in rendered.items():
        write_bytes(arguments.folder / f"{arguments.name}.{ending}", content)
