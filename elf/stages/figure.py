"""Draw a figure from results as PDF, PNG and SVG, with the data that it shows as CSV."""

import importlib
from pathlib import Path

from elf.artifacts.files import write_bytes
from elf.running.drawing import about, drawn


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    plan, name, cells, results, folder = drawn(argv, "figure", __doc__)
    figure = importlib.import_module(f"elf.results.{name}")
    for ending, content in figure.render(cells, results, about(plan, name)).items():
        path = (folder or Path()) / f"{name}.{ending}"
        write_bytes(path, content)
        if folder is None:
            print(f"written: {path}")
