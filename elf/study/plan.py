"""What stages that look at a whole scale share: its configuration and grid, read anew from ``config/``."""

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elf.errors import ElfError
from elf.guards.scales_here import scale_meant
from elf.specs.base import canonical_json
from elf.specs.objective import Objective
from elf.study.cells import Cell, FullDataCell
from elf.study.config import Settings
from elf.study.config_reading import load_settings, load_top
from elf.study.grid import Grid, build_grid, shards
from elf.study.images import data_folder

PROJECT_CONFIG = Path(__file__).resolve().parents[2] / "config"


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
        # What stands in the columns is said by the objectives themselves.
        columns = [_columns(spec.objective) for spec in grid.evaluations.values()]
        specs = [spec.model_dump(mode="json") for spec in (*grid.evaluations.values(), *grid.full_data.values())]
        return _digest([specs, columns])

    def experiment_digest(self, name: str) -> str:
        """Digest of what a table or figure shows and says: its cells, its title and the scale."""
        experiment, scale = self.settings.experiments[name], self.settings.scale
        cells = [cell.columns for cell in self.grid.cells.get(name, [])]
        layout = [experiment.columns, experiment.shows, experiment.gains, experiment.bold]
        evaluated = [cell.evaluation for cell in self.grid.cells.get(name, []) if isinstance(cell, Cell)]
        printed = {spec.objective.name: spec.objective.about.LABEL for spec in evaluated}
        shown = [cells, printed, experiment.title, layout, scale.description, scale.stand_ins, scale.seeds]
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


def _columns(objective: Objective) -> list:
    return [objective.label, objective.about.COLUMNS]


def _digest(content) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def make_plan(config: Path, scale: str | None, results: Path, plugins: str | None = None) -> Plan:
    """Read and validate the configuration of a scale and derive its grid; arguments as of `load_settings`."""
    settings = load_settings(config, scale, plugins)
    return Plan(settings, build_grid(settings, data_folder()), results / settings.name)


def scale_said(config: Mapping[str, Any], files: Sequence[Path]) -> str | None:
    """Return the scale that Snakemake was told; None if it is that of ``config.yaml``.

    Parameters
    ----------
    config : mapping
        What ``--config`` and the configuration files of the command line or of a profile say together.
    files : sequence of Path
        These files.

    Raises
    ------
    ElfError
        If the scale is empty, or if there are files and none says it: they stand in place of that of the profile.
    """
    if files and "scale" not in config:
        raise ElfError(
            f"scale: {', '.join(map(str, files))} says none, and stands in place of what a profile says; add "
            "--config scale=NAME"
        )
    if "scale" in config and not config["scale"]:
        raise ElfError("scale: is empty; name a file of config/scales/, for example --config scale=laptop")
    return config.get("scale")


def arguments_of_scale(stage: str, description: str, **files: str) -> argparse.ArgumentParser:
    """Return a parser with the options of stages that look at a whole scale."""
    parser = argparse.ArgumentParser(prog=f"elf {stage}", description=description)
    parser.add_argument("--scale", help="a file of config/scales/ (default: the one that was run last in this folder)")
    parser.add_argument(
        "--config", type=Path, default=config_folder(), help="configuration (default: config, or that of the project)"
    )
    parser.add_argument("--results-folder", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--digest", help="digest that the job was planned with")
    for name, text in files.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, metavar="PATH", help=text)
    return parser


def config_folder() -> Path:
    """Return the folder ``ELF_CONFIG``, which the workflow sets where it was started elsewhere; else the next one."""
    if named := os.environ.get("ELF_CONFIG"):
        return Path(named)
    here = Path("config")
    return here if (here / "config.yaml").is_file() or not PROJECT_CONFIG.is_dir() else PROJECT_CONFIG


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
    scale = _scale_meant(arguments) if arguments.scale is None else arguments.scale
    plan = make_plan(arguments.config, scale, arguments.results_folder)
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


def _scale_meant(arguments: argparse.Namespace) -> str:
    scales = sorted(file.stem for file in (arguments.config / "scales").glob("*.yaml"))
    default = load_top(arguments.config).scale
    return scale_meant(scales, default, arguments.results_folder, lambda line: print(line, file=sys.stderr))
