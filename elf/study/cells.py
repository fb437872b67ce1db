"""The cells of a table or figure: what the paper calls a number, and the run that measures it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from pydantic import ValidationError

from elf.errors import ElfError
from elf.specs.column import Run
from elf.specs.columns import of_cell
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.expert import ExpertRecipe
from elf.specs.network import NetworkName, feature_shape, matching_teacher, may_have_batch_norm, parse
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.study.config import TRAINING_RECIPES, Block, Settings

TEACHER_SEED = 3407
"""The seed of the official code; the grid trains one teacher per dataset and architecture."""

DISTILLATION_SEED = 0
"""The paper evaluates one synthetic set per setting."""


@dataclass(frozen=True)
class Cell:
    """One number that is measured by training on a synthetic set."""

    paper_dataset: str
    paper_distill_network: str | None
    paper_eval_network: str
    paper_teacher_network: str | None
    aligned: bool
    synthetic: SyntheticSpec
    evaluation: EvaluationSpec  # with all seeds; shards are cut from it

    @property
    def identity(self) -> tuple:
        """What two blocks have in common if they ask for the same number; not merely for the same run."""
        paper = (self.paper_dataset, self.paper_distill_network, self.paper_eval_network, self.aligned)
        return (*paper, self.synthetic.canonical(), self.evaluation)

    @property
    def dataset(self) -> str:
        """Dataset that stands for the paper's."""
        return self.evaluation.dataset

    @property
    def columns(self) -> dict:
        """What identifies the cell in results, and how the paper labels it."""
        run = Run(
            evaluation=self.evaluation,
            images=self.synthetic,
            paper_dataset=self.paper_dataset,
            paper_distill_network=self.paper_distill_network,
            paper_eval_network=self.paper_eval_network,
            paper_teacher_network=self.paper_teacher_network,
            aligned=self.aligned,
        )
        return of_cell(run)


@dataclass(frozen=True)
class FullDataCell:
    """One number that is measured by training on all real images: the test accuracy of a teacher at its last epoch."""

    paper_dataset: str
    paper_eval_network: str
    teacher: TeacherSpec

    @property
    def identity(self) -> tuple:
        """What two blocks have in common if they ask for the same number."""
        return (self.paper_dataset, self.paper_eval_network, self.teacher)

    @property
    def dataset(self) -> str:
        """Dataset that stands for the paper's."""
        return self.teacher.dataset

    @property
    def checkpoint(self) -> str:
        """Path of the teacher's last state below the results folder."""
        return str(self.teacher.checkpoint(self.teacher.recipe.passes))

    @property
    def columns(self) -> dict:
        """What identifies the cell in results, and how the paper labels it."""
        paper = {"paper_dataset": self.paper_dataset, "paper_eval_network": self.paper_eval_network}
        return of_cell(Run.on_all_images(self.teacher, **paper))


def cells_of(block: Block, settings: Settings) -> Iterator[Cell | FullDataCell]:
    """Yield the cells that a block asks for at the scale of the settings.

    Raises
    ------
    ElfError
        If a name is unknown, a teacher does not fit, or no teacher reaches an epoch; the message starts with the key.
    """
    dataset = settings.scale.stand_ins.get(block.dataset, block.dataset)
    if dataset not in settings.datasets:
        allowed = ", ".join(sorted(settings.datasets))
        raise ElfError(f"dataset: unknown {dataset!r}; config/datasets.yaml knows {allowed}")
    if block.full_data:
        for network in block.eval_network:
            teacher = teacher_spec(settings, dataset, block.dataset, str(scaled(network, settings.scale.width)))
            yield FullDataCell(block.dataset, network, teacher)
        return
    _check_methods(block, settings)
    methods = [method for method in block.method if method in settings.scale.methods]
    for method, ipc, network in product(methods, block.ipc, block.distill_network):
        recipe = settings.recipes[method]
        network = (recipe.network or network) if recipe.uses_network else None
        synthetic = _synthetic(block, dataset, method, ipc, network, settings)
        for eval_network in block.eval_network:
            yield from _evaluations(block, settings, synthetic, network, eval_network)


def _evaluations(
    block: Block, settings: Settings, synthetic: SyntheticSpec, distill_network: str | None, eval_network: str
) -> Iterator[Cell]:
    """Yield the cells of one synthetic set and one evaluation network: every objective and teacher epoch."""
    network = scaled(eval_network, settings.scale.width)
    lr = _of_method(block.lr, synthetic.method, "lr")
    for objective in (objective for entry in block.objective for objective in entry.expand()):
        objective = _for_labels(objective, synthetic)
        protocol = objective.about.RECIPE
        trainings = list(_trainings(block, settings, protocol, synthetic.ipc, str(network), lr))
        teachers = _teachers(block, settings, synthetic, objective, eval_network)
        for (paper_teacher, teacher, epoch), (training, changed) in product(teachers, trainings):
            yield Cell(
                paper_dataset=block.dataset,
                paper_distill_network=distill_network,
                paper_eval_network=eval_network,
                paper_teacher_network=paper_teacher,
                aligned=block.aligned,
                synthetic=synthetic,
                evaluation=EvaluationSpec(
                    dataset=synthetic.dataset,
                    synthetic_set=synthetic.name,
                    network=str(network),
                    objective=objective,
                    teacher_network=teacher,
                    teacher_epoch=epoch,
                    recipe=training,
                    changed=changed,
                    seeds=tuple(range(settings.scale.seeds)),
                    seeds_at_once=settings.scale.seeds_at_once,
                ),
            )


def _trainings(
    block: Block, settings: Settings, protocol: str, ipc: int, network: str, lr: float | None
) -> Iterator[tuple[TrainingRecipe | FrepoRecipe, tuple[str, ...]]]:
    """Yield the recipe for each combination of what a block changes, with the keys whose values are not the scale's."""
    sourced = settings.recipes[protocol].sourced(block.dataset, ipc)
    own = training_recipe(settings, protocol, block.dataset, ipc, network)
    axes: dict[str, list] = {}
    for key, values in block.evaluation.items():
        values = values if isinstance(values, list) else [values]
        if key not in sourced:
            raise ElfError(f"evaluation: {protocol} has no {key!r}; allowed: {', '.join(sorted(sourced))}")
        for value in values:
            if (refusal := sourced[key].refusal(value)) is not None:
                raise ElfError(f"evaluation.{key}: {refusal}")
        # What a network has no use for makes no cells of its own.
        if key in own.model_dump():
            axes[key] = values
    for combination in product(*axes.values()):
        changes = dict(zip(axes, combination, strict=True)) | ({} if lr is None else {"lr": lr})
        try:
            recipe = type(own)(**own.model_dump() | changes)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ElfError(f"evaluation.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        yield recipe, tuple(key for key in sorted(axes) if getattr(recipe, key) != getattr(own, key))


def _for_labels(objective: Objective, synthetic: SyntheticSpec) -> Objective:
    """Return an objective as it is for the labels of a set; those that are hard enter as always."""
    if (refusal := objective.refusal(synthetic.label_kind)) is not None:
        raise ElfError(f"objective: {synthetic.method}: {refusal}")
    return objective.model_copy(update={"labels": None}) if synthetic.label_kind == "hard" else objective


def _teachers(
    block: Block, settings: Settings, synthetic: SyntheticSpec, objective: Objective, eval_network: str
) -> Iterator[tuple[str | None, str | None, int | None]]:
    """Yield the feature models of an objective: the paper's network, that of the scale, and the epoch."""
    if not objective.needs_teacher:
        yield None, None, None
        return
    side, width = settings.datasets[synthetic.dataset].side, settings.scale.width
    wanted = [block.teacher_network] if isinstance(block.teacher_network, str) else block.teacher_network
    for paper in wanted:
        teacher = _teacher_network(paper, scaled(eval_network, width), side, width)
        # In the paper's width, so that a cell is recognised at any scale.
        named = matching_teacher(eval_network, side) if paper == "match" else paper
        for epoch in _teacher_epochs(block, synthetic.method, settings):
            yield named, teacher, epoch


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
    network = str(scaled(network, settings.scale.width)) if network else None
    unread = [key for key in values if _is_unread(key, values, network)]
    marks = [
        entry.value if isinstance(entry.value, str) else f"{key}{entry.value}"
        for key, entry in sourced.items()
        if entry.unmarked is not None and entry.value != entry.unmarked and key not in unread
    ]
    return SyntheticSpec(
        dataset=dataset,
        method=method,
        module=recipe.module_of(method),
        variant="-".join(marks) or None,
        network=network,
        ipc=ipc,
        seed=DISTILLATION_SEED,
        recipe={key: value for key, value in values.items() if key not in unread},
    )


def _is_unread(key: str, values: dict, network: str | None) -> bool:
    """Whether a hyper-parameter changes nothing: it says how candidates are compared that nobody compares like that."""
    selection = values.get("selection", "final")
    return (
        (key.startswith("selection_") and selection == "final")
        or (key.startswith("validation_") and selection != "validation")
        # The constants of the dataset itself are what is used without this key.
        or (key == "constants" and values[key] == "dataset")
        or (key == "memory_budget_gb" and values.get("gradient") != "unrolled")
        or (key == "batch_norm_splits" and (network is None or not may_have_batch_norm(network)))
    )


def scaled(name: str, width: float) -> NetworkName:
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
    named = _of_method(block.teacher_epoch, method, "teacher_epoch")
    named = [named] if isinstance(named, int) else named
    if not named:
        raise ElfError("teacher_epoch: this key is missing; objectives other than task need it")
    epochs = list(dict.fromkeys(settings.scale.teacher_epochs.get(str(epoch), epoch) for epoch in named))
    reached = int(settings.recipes["teacher"].sourced(block.dataset)["epochs"].value)
    if max(epochs) > reached:
        raise ElfError(
            f"teacher_epoch: {max(epochs)} is asked for, but the recipe of teachers (config/recipes/teacher.yaml, "
            f"scale {settings.name}) ends after {reached} epochs"
        )
    return epochs


def _teacher_network(wanted: str, network: NetworkName, side: int, width: float) -> str:
    """Return the feature model, checked to give the map that the network's rear takes."""
    if wanted != "match":
        teacher = str(scaled(wanted, width))
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


def teacher_spec(settings: Settings, dataset: str, paper_dataset: str, network: str) -> TeacherSpec:
    """Return the specification of a training on all real images."""
    recipe = training_recipe(settings, "teacher", paper_dataset, None, network)
    return TeacherSpec(dataset=dataset, network=network, seed=TEACHER_SEED, recipe=recipe)


def training_recipe(
    settings: Settings, name: str, dataset: str | None, ipc: int | None, network: str
) -> TrainingRecipe | FrepoRecipe | ExpertRecipe:
    """Return the hyper-parameters of a network's training that hold for a dataset of the paper and images per class."""
    values = {key: entry.value for key, entry in settings.recipes[name].sourced(dataset, ipc).items()}
    if not may_have_batch_norm(network):
        values.pop("batch_norm_splits", None)
    model = {"frepo-evaluation": FrepoRecipe, "expert": ExpertRecipe}.get(name, TrainingRecipe)
    return model(**values)
