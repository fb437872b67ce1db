"""What stages that draw share: the results, the cells of an experiment, and what its caption says."""

import argparse
import logging
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from elf.results.columns import RESULTS
from elf.results.reading import cells_as_found, mismatch, read_results, scale_of
from elf.status.rows import rows_of
from elf.study.cells import Cell
from elf.study.plan import Plan, arguments_of_scale, load_plan

log = logging.getLogger(__name__)

TRAINED = {"evaluation": "evaluation networks", "teacher": "teachers", "expert": "experts"}
"""What the recipes that have a precision are for."""


def cells_of(plan: Plan, experiment: str) -> pd.DataFrame:
    """Return one row for each cell of an experiment."""
    return pd.DataFrame([cell.columns for cell in plan.grid.cells[experiment]])


def about(plan: Plan, experiment: str) -> dict:
    """Return what a caption says."""
    scale, config = plan.settings.scale, plan.settings.experiments[experiment]
    shown = {cell.paper_dataset for cell in plan.grid.cells[experiment]}
    stand_ins = [f"{stand_in} stands in for {name}" for name, stand_in in scale.stand_ins.items() if name in shown]
    stand_ins += [
        f"{precision} stands in for float32 in the training of {trained}"
        for trained, precision in _reduced(plan).items()
    ]
    stand_ins += _changed(plan, experiment)
    return {
        "title": title(plan, experiment),
        "scale": scale.description,
        "stand_ins": "; ".join(stand_ins),
        "seeds": scale.seeds,
        "columns": config.columns,
        "gains": config.gains,
        "bold": config.bold,
    }


def _changed(plan: Plan, experiment: str) -> list[str]:
    """Return what an experiment trains evaluation networks with instead of what the scale has."""
    trained = [cell.evaluation for cell in plan.grid.cells[experiment] if isinstance(cell, Cell)]
    found = Counter(f"{key} {getattr(spec.recipe, key)}" for spec in trained for key in spec.changed)
    return [
        f"{text} stands in for the scale's value in the training of {count} of {len(trained)} cells"
        for text, count in found.items()
    ]


def _reduced(plan: Plan) -> dict[str, str]:
    """Return what is trained in another precision than float32, for any dataset or number of images, and in which."""
    found = {}
    for name, trained in TRAINED.items():
        recipe = plan.settings.recipes[name]
        for values in (recipe.values, *(variant.values for variant in recipe.variants)):
            if "precision" in values and values["precision"].value != "float32":
                found[trained] = str(values["precision"].value)
    return found


def title(plan: Plan, experiment: str) -> str:
    """Return kind, number and title of an experiment."""
    config = plan.settings.experiments[experiment]
    return f"{config.kind.capitalize()} {config.number}: {config.title}"


def given_results(arguments: argparse.Namespace) -> pd.DataFrame | None:
    """Return the results that ``--results`` names, if any; without ``--scale`` theirs becomes the scale."""
    if arguments.results is None:
        return None
    results = read_results(arguments.results)
    if arguments.scale is None:
        named = scale_of(results)
        known = named is not None and (arguments.config / "scales" / f"{named}.yaml").is_file()
        arguments.scale = named if known else None
    return results


def drawn(argv: list[str], kind: str, description: str) -> tuple[Plan, str, pd.DataFrame, pd.DataFrame, Path | None]:
    """Read the arguments of a stage that draws one experiment.

    Parameters
    ----------
    argv : list of str
    kind : {"table", "figure"}
    description : str
        Help of the command.

    Returns
    -------
    plan : Plan
    name : str
        Of the experiment.
    cells, results : DataFrame
        As for :func:`elf.results.columns.gather`.
    folder : Path or None
        Where to write; None where nobody said.
    """
    parser = arguments_of_scale(kind, description)
    example = {"table": "5 or table05", "figure": "4 or figure4"}[kind]
    parser.add_argument("name", metavar="NAME", help=f"number or name, for example {example}")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results to draw from, parquet or CSV: ours, or any with the same columns; nothing else is needed "
        "(default: what the workflow collected)",
    )
    source.add_argument("--partial", action="store_true", help="draw from what has been run so far")
    parser.add_argument(
        "--as-found",
        action="store_true",
        help="show rows whatever rate, epochs or teacher they were trained with, instead of those of the configuration",
    )
    parser.add_argument("--folder", type=Path, help="output folder")
    arguments = parser.parse_args(argv)
    results = given_results(arguments)
    digits = re.fullmatch(rf"(?:{kind})?0*([1-9][0-9]*)", arguments.name.lower())
    if digits:
        number = int(digits[1])
        arguments.name = f"table{number:02d}" if kind == "table" else f"figure{number}"
    plan = load_plan(arguments, kind)
    cells = cells_of(plan, arguments.name)
    if arguments.partial:
        results = pd.DataFrame(rows_of(plan, arguments.name, partial=True)[0], columns=RESULTS.names)
    elif results is None:
        results = read_results(plan.folder / "collected" / f"{arguments.name}.parquet")
    if arguments.as_found:
        cells = cells_as_found(cells, results)
    apart = mismatch(cells, results)
    if apart is not None and not arguments.partial:
        log.warning(
            "none of the %d rows belongs to a cell of %s at the scale %s: %s; --as-found shows them all the same",
            len(results),
            arguments.name,
            plan.settings.name,
            apart,
        )
    return plan, arguments.name, cells, results, arguments.folder
