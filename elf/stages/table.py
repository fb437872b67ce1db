"""Draw a table from results as Markdown, LaTeX, CSV and HTML; without a folder, print it."""

from elf.artifacts.files import write_text
from elf.results import tables, teacher_epochs
from elf.running.drawing import about, drawn

RENDERERS = {"accuracy": tables.render, "teacher_epoch": teacher_epochs.render}


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    plan, name, cells, results, folder = drawn(argv, "table", __doc__)
    rendered = RENDERERS[plan.settings.experiments[name].shows](cells, results, about(plan, name))
    if folder is None:
        print(rendered["md"], end="")
        return
    for ending, text in rendered.items():
        write_text(folder / f"{name}.{ending}", text)
