"""From a cell of the grid to the files behind it, the recipes, and the commands that make it again."""

import shlex
from collections.abc import Iterator

from elf.artifacts.lineage import Artifact, Manifests
from elf.artifacts.manifest import Manifest
from elf.cells import Cell, FullDataCell
from elf.grid import shards
from elf.results.columns import KEY_COLUMNS, PAPER_COLUMNS
from elf.results.columns import Cell as Gathered
from elf.results.report.content import Origin
from elf.stages.cell_recipes import recipes_of
from elf.stages.plan import Plan


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


def origin_of(plan: Plan, cell: Cell | FullDataCell, manifests: Manifests) -> Origin:
    """Return what a cell was made from."""
    targets = results_of(plan, cell)
    return Origin(
        artifacts=tuple(artifacts_of(plan, cell, manifests)),
        recipes=recipes_of(plan.settings, cell),
        commands=tuple(again(plan, f"results/{plan.settings.name}/{path}") for path in targets),
    )


def results_of(plan: Plan, cell: Cell | FullDataCell) -> list[str]:
    """Return the files that hold the numbers of a cell: the shards of its evaluation, or a teacher's last state."""
    if isinstance(cell, FullDataCell):
        return [cell.checkpoint]
    return [str(shard.path) for shard in shards(cell.evaluation, plan.settings.scale.shard_size(cell.dataset))]


def artifacts_of(plan: Plan, cell: Cell | FullDataCell, manifests: Manifests) -> Iterator[Artifact]:
    """Yield the files of a cell and all before them; a file is compared with the identifier that the next one names."""
    dataset = f"datasets/{cell.dataset}/images.safetensors"
    if isinstance(cell, FullDataCell):
        checkpoint = manifests.artifact("teacher", cell.checkpoint)
        yield checkpoint
        yield manifests.artifact("dataset", dataset, _input(checkpoint.manifest, "dataset"))
        return
    evaluations = [manifests.artifact("evaluation", path) for path in results_of(plan, cell)]
    yield from evaluations
    first = next((entry.manifest for entry in evaluations if entry.manifest), None)
    spec = cell.evaluation
    if spec.objective.needs_teacher:
        teacher = f"{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
        features = manifests.artifact(
            "features", f"features/{spec.dataset}/{spec.synthetic_set}/{teacher}", _input(first, "features")
        )
        yield features
        checkpoint = f"teachers/{spec.dataset}/{spec.teacher_network}/epoch{spec.teacher_epoch}.safetensors"
        yield manifests.artifact("teacher", checkpoint, _input(features.manifest, "teacher"))
    images = manifests.artifact(
        "synthetic set", f"{cell.synthetic.folder}/images.safetensors", _input(first, "synthetic set")
    )
    yield images
    for index, path in enumerate(plan.grid.experts_of(cell.synthetic)):
        yield manifests.artifact("expert", path, _input(images.manifest, f"expert {index}"))
    yield manifests.artifact("dataset", dataset, _input(images.manifest, "dataset"))


def _input(manifest: Manifest | None, role: str) -> str | None:
    """Return the identifier that a manifest names for a role; None where it names none."""
    return (manifest or {}).get("inputs", {}).get(role, {}).get("id")
