"""From experiments and a scale to the runs that they need, each of them once.

The only module that knows which results a table or figure is made of.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from elf.errors import ElfError
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec, snapshots
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.study.cells import Cell, FullDataCell, cells_of, teacher_spec, training_recipe
from elf.study.config import Settings
from elf.study.images import dataset_spec


@dataclass
class Grid:
    """All runs of a scale, by the path of what they make.

    Attributes
    ----------
    cells : dict of list of Cell and FullDataCell
        For each experiment.
    datasets, experts, synthetic_sets, teachers, features, evaluations : dict
        Specifications by path below the results folder. Evaluations are shards.
    checkpoints : dict of set of int
        Epochs that the grid asks for, by the teacher's folder.
    full_data : dict of TeacherSpec
        Trainings whose test accuracy is a result, by the path of their last checkpoint.
    """

    cells: dict[str, list[Cell | FullDataCell]] = field(default_factory=dict)
    datasets: dict[str, DatasetSpec] = field(default_factory=dict)
    experts: dict[str, ExpertSpec] = field(default_factory=dict)
    synthetic_sets: dict[str, SyntheticSpec] = field(default_factory=dict)
    teachers: dict[str, TeacherSpec] = field(default_factory=dict)
    checkpoints: dict[str, set[int]] = field(default_factory=dict)
    full_data: dict[str, TeacherSpec] = field(default_factory=dict)
    features: dict[str, FeaturesSpec] = field(default_factory=dict)
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)

    def add(self, collection: str, path: PurePosixPath, spec) -> None:
        """Add a specification; two that share a path must be equal."""
        known = getattr(self, collection).setdefault(str(path), spec)
        if known is not spec and known != spec:
            differing = [key for key in type(spec).model_fields if getattr(known, key) != getattr(spec, key)]
            raise ElfError(
                f"config: two different runs would both be written to {path}: they differ in {', '.join(differing)}"
            )


def build_grid(settings: Settings, data_folder: Path) -> Grid:
    """Return the runs that the experiments of a scale need, each of them once.

    Parameters
    ----------
    settings : Settings
        The validated configuration.
    data_folder : Path
        Where the real images lie; looked at only to find out in which layout a dataset is stored.

    Raises
    ------
    ElfError
        If a network is unknown, a teacher does not fit, or no teacher reaches an epoch.
    """
    grid = Grid()
    for name in settings.scale.experiments:
        experiment = settings.experiments[name]
        cells: dict[tuple, Cell | FullDataCell] = {}
        for block_name, block in experiment.blocks.items():
            try:
                for cell in cells_of(block, settings) if block.enabled else ():
                    cells.setdefault(cell.identity, cell)
            except ElfError as error:
                changed = name in settings.scale.changes
                where = f" (with the changes in config/scales/{settings.name}.yaml)" if changed else ""
                raise ElfError(f"config/experiments/{name}.yaml{where}: blocks.{block_name}: {error}") from None
        grid.cells[name] = list(cells.values())
        for cell in grid.cells[name]:
            _add_runs(grid, cell, settings, data_folder)
    _add_experts(grid, settings)
    return grid


def _add_runs(grid: Grid, cell: Cell | FullDataCell, settings: Settings, data_folder: Path) -> None:
    if f"datasets/{cell.dataset}" not in grid.datasets:
        dataset = dataset_spec(settings, cell.dataset, data_folder)
        grid.add("datasets", dataset.folder, dataset)
    if isinstance(cell, FullDataCell):
        _add_checkpoint(grid, cell.teacher, cell.teacher.recipe.passes)
        grid.add("full_data", PurePosixPath(cell.checkpoint), cell.teacher)
        return
    evaluation = cell.evaluation
    grid.add("synthetic_sets", cell.synthetic.folder, cell.synthetic)
    if evaluation.objective.needs_teacher:
        teacher = teacher_spec(settings, evaluation.dataset, cell.paper_dataset, evaluation.teacher_network)
        _add_checkpoint(grid, teacher, evaluation.teacher_epoch)
        features = FeaturesSpec(
            dataset=evaluation.dataset,
            synthetic_set=cell.synthetic.name,
            teacher_network=evaluation.teacher_network,
            teacher_epoch=evaluation.teacher_epoch,
        )
        grid.add("features", features.path, features)
    for shard in shards(evaluation, settings.scale.shard_size(evaluation.dataset)):
        grid.add("evaluations", shard.path, shard)


def _add_checkpoint(grid: Grid, teacher: TeacherSpec, epoch: int) -> None:
    grid.add("teachers", teacher.folder, teacher)
    grid.checkpoints.setdefault(str(teacher.folder), set()).add(epoch)


def _add_experts(grid: Grid, settings: Settings) -> None:
    """Add the trajectories that the synthetic sets match, with the snapshots that any of the sets can read."""
    cells = [cell for cells in grid.cells.values() for cell in cells if isinstance(cell, Cell)]
    papers = {cell.synthetic.folder: cell.paper_dataset for cell in cells}
    buffers: dict[tuple, list[SyntheticSpec]] = {}
    for spec in grid.synthetic_sets.values():
        if "experts" in spec.recipe:
            buffers.setdefault((spec.dataset, spec.network, spec.held_out_per_class), []).append(spec)
    for (dataset, network, held_out), sets in buffers.items():
        read = [snapshots(int(s.recipe["max_start_epoch"]), int(s.recipe["expert_epochs"])) for s in sets]
        epochs = tuple(sorted(set().union(*read)))
        recipe = training_recipe(settings, "expert", papers[sets[0].folder], None, network)
        if epochs[-1] > recipe.passes:
            raise ElfError(
                f"config/recipes/expert.yaml, scale {settings.name}: epochs: found {recipe.epochs}, but "
                f"{sets[0].name} reads snapshots up to epoch {epochs[-1]}"
            )
        for index in range(max(int(spec.recipe["experts"]) for spec in sets)):
            expert = ExpertSpec(
                dataset=dataset,
                network=network,
                index=index,
                epochs=epochs,
                held_out_per_class=held_out,
                recipe=recipe,
            )
            grid.add("experts", expert.path, expert)


def shards(evaluation: EvaluationSpec, seeds_per_job: int) -> Iterator[EvaluationSpec]:
    """Cut an evaluation into the parts that one job each trains; more seeds mean more shards."""
    for first in range(0, len(evaluation.seeds), seeds_per_job):
        seeds = evaluation.seeds[first : first + seeds_per_job]
        yield evaluation.model_copy(update={"seeds": seeds})
