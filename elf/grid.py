"""From experiments and a scale to the runs that they need, each of them once.

The only module that knows which results a table or figure is made of.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath

from elf.config import TRAINING_RECIPES, Block, Settings
from elf.errors import ElfError
from elf.networks.names import NetworkName, feature_shape, matching_teacher, parse
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertRecipe, ExpertSpec, snapshots
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import FrepoRecipe, TrainingRecipe

TEACHER_SEED = 3407
"""The seed of the official code; the grid trains one teacher per dataset and architecture."""

DISTILLATION_SEED = 0
"""The paper evaluates one synthetic set per setting."""


@dataclass(frozen=True)
class Cell:
    """One number of a table or figure: what the paper calls it, and the run that measures it."""

    paper_dataset: str
    paper_distill_network: str | None
    paper_eval_network: str
    aligned: bool
    synthetic: SyntheticSpec
    evaluation: EvaluationSpec  # with all seeds; shards are cut from it

    @property
    def identity(self) -> tuple:
        """What two blocks have in common if they ask for the same number; not merely for the same run."""
        paper = (self.paper_dataset, self.paper_distill_network, self.paper_eval_network, self.aligned)
        return (*paper, self.synthetic.canonical(), self.evaluation)

    @property
    def columns(self) -> dict:
        """What identifies the cell in results, and how the paper labels it."""
        evaluation, objective = self.evaluation, self.evaluation.objective
        return {
            "paper_dataset": self.paper_dataset,
            "paper_distill_network": self.paper_distill_network,
            "paper_eval_network": self.paper_eval_network,
            "aligned": self.aligned,
            "synthetic_variant": self.synthetic.variant,
            "dataset": evaluation.dataset,
            "method": self.synthetic.method,
            "distill_network": self.synthetic.network,
            "ipc": self.synthetic.ipc,
            "eval_network": evaluation.network,
            "objective": objective.label,
            "distance": objective.distance,
            "lambda_front": objective.lambda_front,
            "lambda_rear": objective.lambda_rear,
            "variant": objective.variant,
            "temperature": objective.temperature,
            "kd_weight": objective.weight,
            "teacher_network": evaluation.teacher_network,
            "teacher_epoch": evaluation.teacher_epoch,
            "lr": evaluation.recipe.lr,
            "epochs": evaluation.recipe.epochs,
            "batch_size": evaluation.recipe.batch_size,
        }


@dataclass
class Grid:
    """All runs of a scale, by the path of what they make.

    Attributes
    ----------
    cells : dict of list of Cell
        For each experiment.
    datasets, experts, synthetic_sets, teachers, features, evaluations : dict
        Specifications by path below the results folder. Evaluations are shards.
    checkpoints : dict of set of int
        Epochs that the grid asks for, by the teacher's folder.
    """

    cells: dict[str, list[Cell]] = field(default_factory=dict)
    datasets: dict[str, DatasetSpec] = field(default_factory=dict)
    experts: dict[str, ExpertSpec] = field(default_factory=dict)
    synthetic_sets: dict[str, SyntheticSpec] = field(default_factory=dict)
    teachers: dict[str, TeacherSpec] = field(default_factory=dict)
    checkpoints: dict[str, set[int]] = field(default_factory=dict)
    features: dict[str, FeaturesSpec] = field(default_factory=dict)
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)

    def experts_of(self, spec: SyntheticSpec) -> list[str]:
        """Return the paths of the trajectories that a synthetic set is made from, in the order of their index."""
        wanted = (spec.dataset, spec.network, spec.held_out_per_class)
        buffer = [path for path, e in self.experts.items() if (e.dataset, e.network, e.held_out_per_class) == wanted]
        return buffer[: int(spec.recipe.get("experts", 0))]

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
        cells: dict[tuple, Cell] = {}
        for block_name, block in experiment.blocks.items():
            try:
                for cell in _cells(block, settings) if block.enabled else ():
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


def _cells(block: Block, settings: Settings) -> Iterator[Cell]:
    scale = settings.scale
    dataset_name = scale.stand_ins.get(block.dataset, block.dataset)
    if dataset_name not in settings.datasets:
        allowed = ", ".join(sorted(settings.datasets))
        raise ElfError(f"dataset: unknown {dataset_name!r}; config/datasets.yaml knows {allowed}")
    side = settings.datasets[dataset_name].side
    _check_methods(block, settings)
    methods = [method for method in block.method if method in scale.methods]
    objectives = [objective for entry in block.objective for objective in entry.expand()]
    for method, ipc, distill_network, eval_network in product(
        methods, block.ipc, block.distill_network, block.eval_network
    ):
        recipe = settings.recipes[method]
        distill_network = (recipe.network or distill_network) if recipe.uses_network else None
        synthetic = _synthetic(block, dataset_name, method, ipc, distill_network, settings)
        network = _scaled(eval_network, scale.width)
        lr = _of_method(block.lr, method, "lr")
        for objective in objectives:
            protocol = "frepo-evaluation" if objective.name == "frepo" else "evaluation"
            training = _training_recipe(settings, protocol, block.dataset, ipc, lr)
            for epoch in _teacher_epochs(block, method, settings) if objective.needs_teacher else [None]:
                teacher = None
                if objective.needs_teacher:
                    teacher = _teacher_network(block.teacher_network, network, side, scale.width)
                yield Cell(
                    paper_dataset=block.dataset,
                    paper_distill_network=distill_network,
                    paper_eval_network=eval_network,
                    aligned=block.aligned,
                    synthetic=synthetic,
                    evaluation=EvaluationSpec(
                        dataset=dataset_name,
                        synthetic_set=synthetic.name,
                        network=str(network),
                        objective=objective,
                        teacher_network=teacher,
                        teacher_epoch=epoch,
                        recipe=training,
                        seeds=tuple(range(scale.seeds)),
                    ),
                )


def _synthetic(
    block: Block, dataset: str, method: str, ipc: int, network: str | None, settings: Settings
) -> SyntheticSpec:
    """Return the specification of a set; its recipe holds only what the method will read."""
    recipe = settings.recipes[method]
    sourced = recipe.sourced(block.dataset, ipc)
    for key, value in block.recipe.items():
        if key not in sourced:
            raise ElfError(f"recipe: {method} has no {key!r}; allowed: {', '.join(sorted(sourced))}")
        refusal = sourced[key].refusal(value)
        if refusal is not None:
            raise ElfError(f"recipe.{key}: {refusal}")
        sourced[key] = sourced[key].changed(value, "experiment")
    values = {key: entry.value for key, entry in sourced.items()}
    selection = values.get("selection", "final")
    marks = [
        entry.value if isinstance(entry.value, str) else f"{key}{entry.value}"
        for key, entry in sourced.items()
        if entry.unmarked is not None and entry.value != entry.unmarked
    ]
    return SyntheticSpec(
        dataset=dataset,
        method=method,
        module=recipe.module_of(method),
        variant="-".join(marks) or None,
        network=str(_scaled(network, settings.scale.width)) if network else None,
        ipc=ipc,
        seed=DISTILLATION_SEED,
        recipe={key: value for key, value in values.items() if not _is_unread(key, selection)},
    )


def _is_unread(key: str, selection: str) -> bool:
    """Whether a hyper-parameter only says how candidates are compared, and nobody compares them like that."""
    return (key.startswith("selection_") and selection == "final") or (
        key.startswith("validation_") and selection != "validation"
    )


def _scaled(name: str, width: float) -> NetworkName:
    """Return a network at the width of the scale; torchvision's have no width and stay as they are."""
    network = parse(name)
    return network if network.family == "torchvision" else network.scaled(width)


def _check_methods(block: Block, settings: Settings) -> None:
    allowed = sorted({*settings.recipes} - {*TRAINING_RECIPES})
    named = {"method": block.method, "teacher_epoch": block.teacher_epoch, "lr": block.lr}
    for key, value in named.items():
        for method in value if key == "method" or isinstance(value, dict) else ():
            if method not in allowed:
                raise ElfError(f"{key}: unknown method {method!r}; allowed: {', '.join(allowed)}")


def _of_method(value, method: str, key: str):
    """Return a value that may be given for each method; one that is forgotten must not pass for the default."""
    if not isinstance(value, dict):
        return value
    if method not in value:
        raise ElfError(f"{key}: no value is given for the method {method!r}; found {value}")
    return value[method]


def _teacher_epochs(block: Block, method: str, settings: Settings) -> list[int]:
    epochs = _of_method(block.teacher_epoch, method, "teacher_epoch")
    epochs = [epochs] if isinstance(epochs, int) else epochs
    if not epochs:
        raise ElfError("teacher_epoch: this key is missing; objectives other than task need it")
    reached = _training_recipe(settings, "teacher", block.dataset, None).epochs
    if max(epochs) > reached:
        raise ElfError(
            f"teacher_epoch: {max(epochs)} is asked for, but the recipe of teachers (config/recipes/teacher.yaml, "
            f"scale {settings.name}) ends after {reached} epochs"
        )
    return epochs


def _teacher_network(wanted: str, network: NetworkName, side: int, width: float) -> str:
    """Return the feature model, checked to give the map that the network's rear takes."""
    if wanted != "match":
        teacher = str(_scaled(wanted, width))
        needed, given = feature_shape(str(network), side), feature_shape(teacher, side)
        if given is None:
            raise ElfError(f"teacher_network: {teacher} has no map of its own; allowed: convnet, resnet18 and vgg11")
        if needed is not None and needed != given:
            raise ElfError(
                f"teacher_network: {teacher} gives maps of {'x'.join(map(str, given))} at {side}x{side}, "
                f"but {network} is split at {'x'.join(map(str, needed))}; {matching_teacher(str(network), side)} fits"
            )
        return teacher
    teacher = matching_teacher(str(network), side)
    if teacher is None:
        raise ElfError(f"teacher_network: name one for {network}: it is split where the teacher's map fits")
    return teacher


def _training_recipe(
    settings: Settings, name: str, dataset: str | None, ipc: int | None, lr: float | None = None
) -> TrainingRecipe | FrepoRecipe:
    values = {key: entry.value for key, entry in settings.recipes[name].sourced(dataset, ipc).items()}
    model = FrepoRecipe if name == "frepo-evaluation" else TrainingRecipe
    return model(**(values if lr is None else values | {"lr": lr}))


def _add_runs(grid: Grid, cell: Cell, settings: Settings, data_folder: Path) -> None:
    evaluation = cell.evaluation
    if evaluation.dataset not in (spec.name for spec in grid.datasets.values()):
        dataset = dataset_spec(settings, evaluation.dataset, data_folder)
        grid.add("datasets", dataset.folder, dataset)
    grid.add("synthetic_sets", cell.synthetic.folder, cell.synthetic)
    if evaluation.objective.needs_teacher:
        teacher = TeacherSpec(
            dataset=evaluation.dataset,
            network=evaluation.teacher_network,
            seed=TEACHER_SEED,
            recipe=_training_recipe(settings, "teacher", cell.paper_dataset, None),
        )
        grid.add("teachers", teacher.folder, teacher)
        grid.checkpoints.setdefault(str(teacher.folder), set()).add(evaluation.teacher_epoch)
        features = FeaturesSpec(
            dataset=evaluation.dataset,
            synthetic_set=cell.synthetic.name,
            teacher_network=evaluation.teacher_network,
            teacher_epoch=evaluation.teacher_epoch,
        )
        grid.add("features", features.path, features)
    for shard in shards(evaluation, settings.scale.seeds_per_job):
        grid.add("evaluations", shard.path, shard)


def _add_experts(grid: Grid, settings: Settings) -> None:
    """Add the trajectories that the synthetic sets match, with the snapshots that any of the sets can read."""
    papers = {cell.synthetic.folder: cell.paper_dataset for cells in grid.cells.values() for cell in cells}
    buffers: dict[tuple, list[SyntheticSpec]] = {}
    for spec in grid.synthetic_sets.values():
        if "experts" in spec.recipe:
            buffers.setdefault((spec.dataset, spec.network, spec.held_out_per_class), []).append(spec)
    for (dataset, network, held_out), sets in buffers.items():
        read = [snapshots(int(s.recipe["max_start_epoch"]), int(s.recipe["expert_epochs"])) for s in sets]
        epochs = tuple(sorted(set().union(*read)))
        values = settings.recipes["expert"].sourced(papers[sets[0].folder], None)
        recipe = ExpertRecipe(**{key: entry.value for key, entry in values.items()})
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


def dataset_spec(settings: Settings, name: str, data_folder: Path) -> DatasetSpec:
    """Return the specification of a dataset, with the layout that is found in the data folder."""
    entry = settings.datasets[name]
    source, location = entry.source, entry.location
    if source == "auto":
        source = "parquet" if any((data_folder / (location or name)).glob("*.parquet")) else "torchvision"
    if source in ("parquet", "folder"):
        location = location or name
        if not (data_folder / location).is_dir():
            raise ElfError(
                f"config/datasets.yaml: {name}: there is no folder {location!r} in the data folder {data_folder}; "
                "put the dataset there or set ELF_DATA_DIR to the folder that holds it"
            )
    return DatasetSpec(
        name=name,
        source=source,
        location=location if source in ("parquet", "folder") else None,
        side=entry.side,
        normalisation=entry.normalisation,
        train_per_class=entry.train_per_class,
        test_per_class=entry.test_per_class,
    )


def data_folder() -> Path:
    """Return the folder with the real images: ``ELF_DATA_DIR``, by default ``data``."""
    return Path(os.environ.get("ELF_DATA_DIR", "data"))
