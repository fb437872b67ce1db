"""The table of artifact kinds: where each lies, what it is made from, which code makes it, what it is called.

Jobs, states, costs, lineage, explanation, measuring and the functions of the rules read it. The rules say the same once
more, written out, because they are what a reader should see; a test compares both through Snakemake's own graph.
"""

from typing import Any

from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec, buffer_name
from elf.specs.features import FeaturesSpec
from elf.specs.kind import Files, Kind
from elf.specs.method import METHODS
from elf.specs.network import parse
from elf.specs.objective import OBJECTIVES, ObjectiveSettings
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec

IMAGES = "images.safetensors"
"""File of a dataset or synthetic set, in a folder of its own."""

COLLECTED, DRAWN = "collected results", "tables, figures, report"
"""Groups of kinds without a specification; they take seconds."""

PRINTED = "elf/verdicts/paper/*.csv"
"""The numbers that the paper prints."""

READ_BY_PEOPLE = (
    "elf.distillation.shared.images_distilled:images_distilled",
    "elf.training.images_seen:images_trained",
)
"""Numbers that a manifest shows and nothing is computed from."""

ONLY_PARTIAL = ("elf.status.rows:rows_of", "elf.status.rows:results_so_far")
"""What draws from evaluations that are not collected yet, which the workflow never does."""


# Datasets and experts


def _dataset(spec: Any) -> Files:
    return {"dataset": DATASETS.at(dataset=spec.dataset)}


def _network(spec: Any) -> list[str]:
    return [f"{parse(spec.network).module}:build"] if spec.network else []


def _read_by_people(spec: Any) -> tuple[str, ...]:
    return READ_BY_PEOPLE


def _source(spec: DatasetSpec) -> list[str]:
    return [f"elf.data.sources.{'torchvision_cifar' if spec.source == 'torchvision' else spec.source}:read"]


DATASETS = Kind(
    name="datasets",
    one="dataset",
    making="preparing data",
    stage="prepare_dataset",
    files=(f"datasets/{{dataset}}/{IMAGES}", "datasets/{dataset}/card.json"),
    spec=DatasetSpec,
    path=lambda spec: f"{spec.folder}/{IMAGES}",
    named=_source,
)
EXPERTS = Kind(
    name="experts",
    one="expert",
    manifest="expert trajectory",
    making="training experts",
    stage="train_expert",
    files=("experts/{dataset}/{buffer}/expert{index}.safetensors",),
    spec=ExpertSpec,
    inputs=_dataset,
    named=_network,
    without=_read_by_people,
)


# Synthetic sets


def experts_of(spec: SyntheticSpec) -> list[str]:
    """Return the trajectories that a synthetic set is made from, in the order of their index; most have none."""
    buffer = {"dataset": spec.dataset, "buffer": buffer_name(spec.network, spec.held_out_per_class)}
    return [EXPERTS.at(index=index, **buffer) for index in range(int(spec.recipe.get("experts", 0)))]


def _method(spec: SyntheticSpec) -> list[str]:
    return [f"{METHODS.module(spec.module)}:distill", *_network(spec)]


def _unused(spec: SyntheticSpec) -> tuple[str, ...]:
    unused = [f"elf.distillation.shared.selection:{'_by_evaluation' if spec.module == 'frepo' else '_by_frepo'}"]
    if "experts" not in spec.recipe:
        unused.append("elf.artifacts.experts:ExpertBuffer")
    if spec.module != "imported":
        unused += ["elf.importing.using:read_imported", "elf.objectives.labels:label_kind"]
    if spec.recipe.get("selection", "final") == "final":
        unused.append("elf.stages.distill:_selection")
    return (*READ_BY_PEOPLE, *unused)


SETS = Kind(
    name="synthetic sets",
    one="synthetic set",
    making="making synthetic sets",
    stage="distill",
    files=(f"synthetic/{{dataset}}/{{synthetic_set}}/{IMAGES}",),
    spec=SyntheticSpec,
    path=lambda spec: f"{spec.folder}/{IMAGES}",
    inputs=lambda spec: _dataset(spec) | {f"expert {index}": path for index, path in enumerate(experts_of(spec))},
    given=lambda spec: {"imported set": str(spec.recipe["file"])} if spec.module == "imported" else {},
    named=_method,
    without=_unused,
)


# Teachers, what they see in synthetic sets, and evaluations


TRAININGS = Kind(
    name="teacher trainings",
    one="teacher training",
    stage="train_teacher",
    mains=("main", "main_keep"),
    # Its checkpoints are jobs, of which the first trains for all; rules/teachers.smk says why.
    rule=None,
    files=("teachers/{dataset}/{network}/training.safetensors",),
    spec=TeacherSpec,
    collection="teachers",
    path=lambda spec: f"{spec.folder}/training.safetensors",
    inputs=_dataset,
    named=_network,
    without=_read_by_people,
)
CHECKPOINTS = Kind(
    name="teacher checkpoints",
    one="teacher",
    manifest="teacher checkpoint",
    making="training teachers",
    stage="train_teacher",
    mains=("main", "main_keep"),
    files=("teachers/{dataset}/{network}/epoch{epoch}.safetensors",),
    spec=TeacherSpec,
    # One for each epoch that the grid asks for.
    collection=None,
    inputs=_dataset,
    named=_network,
    without=_read_by_people,
    is_brief=True,
)


def _set(spec: FeaturesSpec | EvaluationSpec) -> Files:
    return {"synthetic set": SETS.at(dataset=spec.dataset, synthetic_set=spec.synthetic_set)}


def checkpoint_of(spec: FeaturesSpec | EvaluationSpec) -> str:
    """Return the state of the teacher whose view of a synthetic set is asked for."""
    return CHECKPOINTS.at(dataset=spec.dataset, network=spec.teacher_network, epoch=spec.teacher_epoch)


FEATURES = Kind(
    name="features",
    one="features",
    making="extracting features",
    stage="extract_features",
    files=("features/{dataset}/{synthetic_set}/{network}-epoch{epoch}.safetensors",),
    spec=FeaturesSpec,
    inputs=lambda spec: _set(spec) | {"teacher": checkpoint_of(spec)},
    named=lambda spec: [f"{parse(spec.teacher_network).module}:build"],
    without=_read_by_people,
)


def _evaluated(spec: EvaluationSpec) -> Files:
    inputs = _dataset(spec) | _set(spec)
    if not spec.objective.needs_teacher:
        return inputs
    teacher = {"network": spec.teacher_network, "epoch": spec.teacher_epoch}
    return inputs | {"features": FEATURES.at(dataset=spec.dataset, synthetic_set=spec.synthetic_set, **teacher)}


def _trained(spec: EvaluationSpec) -> list[str]:
    module = OBJECTIVES.module(spec.objective.name)
    # What checks the settings of a job could also change them.
    own = ["Settings"] if OBJECTIVES.read(spec.objective.name).Settings is not ObjectiveSettings else []
    return [*(f"{module}:{name}" for name in (*OBJECTIVES.functions, "TAKES", *own)), *_network(spec)]


def _other_protocol(spec: EvaluationSpec) -> tuple[str, ...]:
    own = OBJECTIVES.read(spec.objective.name).RECIPE == "frepo-evaluation"
    return READ_BY_PEOPLE if own else (*READ_BY_PEOPLE, "elf.training.frepo:train")


EVALUATIONS = Kind(
    name="evaluations",
    one="evaluation",
    manifest="evaluation shard",
    making="evaluations",
    stage="evaluate",
    files=("evaluations/{dataset}/{synthetic_set}/{network}/{cell}/{shard}.parquet",),
    spec=EvaluationSpec,
    inputs=_evaluated,
    named=_trained,
    without=_other_protocol,
)


# Results, and what shows them


def _drawn_partially(about: Any) -> tuple[str, ...]:
    return ONLY_PARTIAL


def _shown(name: str, stage: str, rule: str, *files: str, **others: Any) -> Kind:
    defaults = {"one": name, "manifest": None, "collection": None, "group": DRAWN, "is_brief": True}
    return Kind(name=name, stage=stage, rule=rule, files=files, **defaults | others)


def _four(file: str, endings: str) -> list[str]:
    return [f"{file}.{ending}" for ending in endings.split()]


ROWS = {"group": COLLECTED, "manifest": "results"}
TEMPLATES = "elf/results/templates"

OF_EXPERIMENTS = _shown("results of one", "collect", "collect_experiment", "collected/{experiment}.parquet", **ROWS)
RESULTS = _shown("results of all", "collect", "collect_results", "results.parquet", **ROWS)
SHEET = "synthetic/{dataset}/{synthetic_set}/contact_sheet.png"
SHEETS = _shown("contact sheets", "contact_sheet", "draw_contact_sheet", SHEET)
TABLE = _four("tables/{table}", "md tex csv html")
DRAWING = {"without": _drawn_partially}
TABLES = _shown("tables", "table", "draw_table", *TABLE, shows=(f"{TEMPLATES}/table.html.j2",), **DRAWING)
FIGURE = _four("figures/{figure}", "pdf png svg csv")
FIGURES = _shown(
    "figures", "figure", "draw_figure", *FIGURE, named=lambda name: [f"elf.results.{name}:render"], **DRAWING
)
VERDICT = [f"verdicts/{name}" for name in ("comparison.csv", "comparison.md", "claims.md", "audit.md")]
VERDICTS = _shown("verdicts", "verdicts", "compare_with_paper", *VERDICT, shows=(PRINTED,), **DRAWING)
REPORT = _shown(
    "report", "report", "write_report", "report/index.html", shows=(PRINTED, f"{TEMPLATES}/*.j2"), **DRAWING
)

_COMPUTED = (DATASETS, EXPERTS, SETS, TRAININGS, CHECKPOINTS, FEATURES, EVALUATIONS)
_GATHERED = (OF_EXPERIMENTS, RESULTS, SHEETS, TABLES, FIGURES, VERDICTS, REPORT)
KINDS = {kind.name: kind for kind in (*_COMPUTED, *_GATHERED)}
"""By name, in the order in which they can be made."""
