"""Write what the rows of sets of others answer into the pages that show it."""

import argparse
from pathlib import Path

from elf.artifacts.files import write_text
from elf.errors import ElfError
from elf.report.answers import Measured, blocks, filled
from elf.results.columns import gather
from elf.results.reading import read_results
from elf.running.drawing import cells_of
from elf.stages.verdicts import held_against
from elf.study.plan import make_plan
from elf.verdicts.comparison import compare
from elf.verdicts.printed import TABLES

SCALES = ("published", "published-one-piece")
"""They differ in the pieces of a batch alone; the first is held against the paper."""
PAGES = (Path("README.md"), Path("docs/results/published/README.md"))


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="elf answers", description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("docs/results"),
        help=f"holds <scale>/results.parquet of {' and '.join(SCALES)} (default: docs/results)",
    )
    parser.add_argument(
        "--page",
        nargs="+",
        type=Path,
        default=PAGES,
        metavar="FILE",
        help=f"with places such as '<!-- answer: printed -->' (default: {' '.join(map(str, PAGES))})",
    )
    arguments = parser.parse_args(argv)
    parts = answers(arguments.folder)
    texts = {page: filled(_read(page), parts, str(page)) for page in arguments.page}
    for page, text in texts.items():
        write_text(page, text)
        print(page)


def answers(folder: Path) -> dict[str, str]:
    """Return the parts of the pages, from the rows of the scales that were run; the first must be there."""
    return blocks(
        [_measured(scale, folder / scale / "results.parquet") for scale in SCALES if _is_there(scale, folder)]
    )


def _is_there(scale: str, folder: Path) -> bool:
    return scale == SCALES[0] or (folder / scale / "results.parquet").is_file()


def _measured(scale: str, file: Path) -> Measured:
    plan, results = make_plan(Path("config"), scale, Path("results")), read_results(file)
    found = set(results["scale"].dropna()) if "scale" in results.columns else set()
    if found != {scale}:
        raise ElfError(f"{file}: holds rows of {', '.join(sorted(found)) or 'no scale'}, expected {scale} alone")
    names = [name for name in (f"table{number:02d}" for number in TABLES) if name in plan.grid.cells]
    cells = {name: gather(cells_of(plan, name), results) for name in names}
    return Measured(
        pieces=int(plan.settings.recipes["evaluation"].values["batch_norm_splits"].value),
        cells=cells,
        comparisons={name: compare(name, members, **held_against(plan)) for name, members in cells.items()},
    )


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except OSError as error:
        raise ElfError(f"{page}: cannot be read: {error.strerror}") from error
