"""From a cell of the grid to the files behind it, the recipes, and the commands that make it again."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from elf.artifacts.lineage import Artifact, Manifests
from elf.results.columns import KEY_COLUMNS, PAPER_COLUMNS
from elf.results.columns import Cell as Gathered
from elf.specs.kinds import KINDS
from elf.status.jobs import Job, lineage
from elf.study.cell_recipes import recipes_of
from elf.study.cells import Cell, FullDataCell
from elf.study.grid import shards
from elf.study.plan import Plan


@dataclass(frozen=True)
class Origin:
    """What a cell was made from.

    Attributes
    ----------
    artifacts : tuple of Artifact
        Its files and all before them, the nearest first.
    recipes : dict of str to list of dict
        Hyper-parameters by what they are for: ``recipe``, ``key``, ``value``, ``source``, ``where``.
    commands : tuple of str
        What makes its files again.
    """

    artifacts: tuple[Artifact, ...] = ()
    recipes: Mapping[str, list[Mapping]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()


def again(plan: Plan, target: str) -> str:
    """Return the command that makes a file of the results, or a target of the workflow, again."""
    return f"snakemake --profile profiles/local {shlex.quote(target)} --config scale={shlex.quote(plan.settings.name)}"


def of_grid(plan: Plan) -> dict[tuple, Cell | FullDataCell]:
    """Return the cells of the grid by what :func:`key_of` gives for them once they have their results."""
    found: dict[tuple, Cell | FullDataCell] = {}
    for cells in plan.grid.cells.values():
        for cell in cells:
            columns = cell.columns
            found.setdefault(tuple(_plain(columns[name]) for name in (*KEY_COLUMNS, *PAPER_COLUMNS)), cell)
    return found


def key_of(cell: Gathered) -> tuple:
    """Return what identifies a cell with its results."""
    return tuple(cell[name] for name in (*KEY_COLUMNS, *PAPER_COLUMNS))


def _plain(value):
    """Return a value as :func:`elf.results.columns.gather` writes it into the key of a cell."""
    return float(value) if isinstance(value, int | float) else value


def origin_of(plan: Plan, cell: Cell | FullDataCell, jobs: Mapping[str, Job], manifests: Manifests) -> Origin:
    """Return what a cell was made from; ``jobs`` are all of the scale."""
    targets = results_of(plan, cell)
    return Origin(
        artifacts=tuple(artifacts_of(jobs, targets, manifests)),
        recipes=recipes_of(plan.settings, cell),
        commands=tuple(again(plan, f"results/{plan.settings.name}/{path}") for path in targets),
    )


def results_of(plan: Plan, cell: Cell | FullDataCell) -> list[str]:
    """Return the files that hold the numbers of a cell: the shards of its evaluation, or a teacher's last state."""
    if isinstance(cell, FullDataCell):
        return [cell.checkpoint]
    return [str(shard.path) for shard in shards(cell.evaluation, plan.settings.scale.shard_size(cell.dataset))]


def artifacts_of(jobs: Mapping[str, Job], targets: Iterable[str], manifests: Manifests) -> Iterator[Artifact]:
    """Yield the files of a cell and all before them; a file is compared with what those made from it say it was."""
    named: dict[str, dict[str, None]] = {}
    for job in lineage(jobs, targets):
        manifest = manifests.get(job.path)
        yield manifests.artifact(KINDS[job.kind].one, job.path, named.get(job.path, ()))
        recorded = (manifest or {}).get("inputs", {})
        for role, path in job.inputs.items():
            if identifier := recorded.get(role, {}).get("id"):
                named.setdefault(path, {})[identifier] = None
        for role, path in job.given.items():
            expected = [identifier] if (identifier := recorded.get(role, {}).get("id")) else []
            yield replace(manifests.artifact(role, f"../../{path}", expected), path=path)
