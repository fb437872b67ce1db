"""What stages that look at a whole scale share: its configuration and grid, read anew from ``config/``."""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

from elf.cells import Cell, FullDataCell
from elf.config import Settings
from elf.config_reading import load_settings
from elf.errors import ElfError
from elf.finding_data import data_folder
from elf.grid import Grid, build_grid, shards
from elf.specs.base import canonical_json


@dataclass(frozen=True)
class Plan:
    """A scale, everything that it needs, and where that lies.

    Attributes
    ----------
    settings : Settings
    grid : Grid
    folder : Path
        Results folder of the scale.
    """

    settings: Settings
    grid: Grid
    folder: Path

    def collected(self, experiment: str | None = None) -> Grid:
        """Return the datasets, synthetic sets, evaluations and full-data trainings of one experiment, or of all."""
        if experiment is None:
            return self.grid
        cells = self.grid.cells[experiment]
        distilled = [cell for cell in cells if isinstance(cell, Cell)]
        names = {cell.dataset for cell in cells}
        return Grid(
            cells={experiment: cells},
            datasets={path: spec for path, spec in self.grid.datasets.items() if spec.name in names},
            synthetic_sets={str(cell.synthetic.folder): cell.synthetic for cell in distilled},
            evaluations={
                str(shard.path): shard
                for cell in distilled
                for shard in shards(cell.evaluation, self.settings.scale.shard_size(cell.dataset))
            },
            full_data={cell.checkpoint: cell.teacher for cell in cells if isinstance(cell, FullDataCell)},
        )

    def results_digest(self, experiment: str | None = None) -> str:
        """Digest of all evaluations: what results depend on besides the shards themselves."""
        grid = self.collected(experiment)
        return _digest(
            [spec.model_dump(mode="json") for spec in (*grid.evaluations.values(), *grid.full_data.values())]
        )

    def experiment_digest(self, name: str) -> str:
        """Digest of what a table or figure shows and says: its cells, its title and the scale."""
        experiment, scale = self.settings.experiments[name], self.settings.scale
        cells = [cell.columns for cell in self.grid.cells.get(name, [])]
        layout = [experiment.columns, experiment.shows, experiment.gains, experiment.bold]
        shown = [cells, experiment.title, layout, scale.description, scale.stand_ins, scale.seeds]
        return _digest(shown)

    @property
    def drawings_digest(self) -> str:
        """Digest of all that the tables and figures show and say, and of what they are held against."""
        others = {
            name: recipe.other_set_of.model_dump(mode="json")
            for name, recipe in self.settings.recipes.items()
            if recipe.other_set_of
        }
        held_against = [self.settings.scale.comparable, others]
        return _digest([held_against, *map(self.experiment_digest, self.grid.cells)])

    @property
    def report_digest(self) -> str:
        """Digest of all that the report says besides the results: every experiment and the recipes."""
        recipes = {name: recipe.model_dump(mode="json") for name, recipe in self.settings.recipes.items()}
        return _digest([recipes, self.drawings_digest])


def _digest(content) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def make_plan(config: Path, scale: str | None, results: Path) -> Plan:
    """Read and validate the configuration of a scale and derive its grid."""
    settings = load_settings(config, scale)
    return Plan(settings, build_grid(settings, data_folder()), results / settings.name)


def arguments_of_scale(stage: str, description: str, **files: str) -> argparse.ArgumentParser:
    """Return a parser with the options of stages that look at a whole scale."""
    parser = argparse.ArgumentParser(prog=f"elf {stage}", description=description)
    parser.add_argument("--scale", help="a file of config/scales/ (default: the one of config/config.yaml)")
    parser.add_argument("--config", type=Path, default=Path("config"), help="configuration (default: config)")
    parser.add_argument("--results-folder", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--digest", help="digest that the job was planned with")
    for name, text in files.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, metavar="PATH", help=text)
    return parser


def load_plan(
    arguments: argparse.Namespace,
    kind: str | None = None,
    *,
    experiment: str | None = None,
    drawings: bool = False,
    report: bool = False,
) -> Plan:
    """Return the plan; what of it the stage shows must be as it was when the job was planned.

    Parameters
    ----------
    arguments : argparse.Namespace
    kind : {"table", "figure"} or None
        What ``arguments.name`` has to be; None where the stage draws no single experiment.
    experiment : str or None
        The only experiment whose evaluations the stage looks at; None for all.
    drawings, report : bool
        Whether the stage shows all experiments, or these and the recipes.
    """
    plan = make_plan(arguments.config, arguments.scale, arguments.results_folder)
    if experiment is not None and experiment not in plan.grid.cells:
        allowed = ", ".join(plan.grid.cells)
        raise ElfError(f"{experiment!r} is not an experiment of the scale {plan.settings.name}; allowed: {allowed}")
    digest = plan.report_digest if report else plan.results_digest(experiment)
    if drawings:
        digest = plan.drawings_digest
    if kind is not None:
        allowed = [name for name in plan.grid.cells if plan.settings.experiments[name].kind == kind]
        if arguments.name not in allowed:
            found = f"{arguments.name!r} is not a {kind} of the scale {plan.settings.name}"
            raise ElfError(f"{found}; allowed: {', '.join(allowed) or 'none'}")
        digest = plan.experiment_digest(arguments.name)
    if arguments.digest is not None and arguments.digest != digest:
        raise ElfError(f"{arguments.config} changed after this job was planned; start the workflow again")
    return plan
