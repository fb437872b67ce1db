"""The table of artifact kinds: where each lies, what it is made from, which code makes it, what it is called.

Jobs, states, costs, lineage, explanation, measuring and the functions of the rules read it. The rules say the same once
more, written out, because they are what a reader should see; a test compares both through Snakemake's own graph. The
kinds stand in the order in which they can be made.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elf.networks.names import parse
from elf.specs.base import Spec
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec, buffer_name
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec

IMAGES = "images.safetensors"
"""File of a dataset or synthetic set, in a folder of its own."""

COLLECTED, DRAWN = "collected results", "tables, figures, report"
"""Groups of kinds without a specification; they take seconds."""

Files = Mapping[str, str]
"""From the role that a manifest gives an input to its path."""


def _none(about: Any) -> Files:
    return {}


@dataclass(frozen=True)
class Kind:
    """One kind of artifact.

    Attributes
    ----------
    name, one : str
        What several and one of them are called.
    files : tuple of str
        What one job makes, below the results folder of the scale, with the wildcards of its rule. The first file stands
        for the job.
    rule : str or None
        Of Snakemake; None for what is made by the way, such as the training of a teacher.
    command : str
        Of ``elf``, which makes it.
    roots : function of a specification, or of the name of a table or figure, to tuple of str
        Modules that its code starts from. Those found by name at run time (method, objective, network family, source
        of images) are named here, so that an edit makes stale only what comes from them.
    group : str
        Under which name forecasts count it.
    manifest : str or None
        What manifests call it; None for drawings, which carry none.
    spec : type of Spec or None
        What determines it; None for results and drawings.
    collection : str or None
        Attribute of the grid that holds its specifications.
    path : function of a specification
        Its first file.
    inputs : function of a specification to dict of str to str
        Files of any kind that it is made from, by role.
    given : function of a specification to dict of str to str
        Files from elsewhere, by role; their paths start where the workflow runs.
    shows : tuple of str
        Patterns of the project's own files that are inputs of its rule.
    making : str
        What the report calls its jobs.
    is_brief : bool
        Whether it takes a moment, so that neither work nor speed is looked at.
    """

    name: str
    one: str
    files: tuple[str, ...]
    rule: str | None
    command: str
    roots: Callable[[Any], tuple[str, ...]]
    group: str
    manifest: str | None = None
    spec: type[Spec] | None = None
    collection: str | None = None
    path: Callable[[Any], str] = lambda spec: str(spec.path)
    inputs: Callable[[Any], Files] = _none
    given: Callable[[Any], Files] = _none
    shows: tuple[str, ...] = ()
    making: str = ""
    is_brief: bool = False

    def at(self, **wildcards: Any) -> str:
        """Return the first file of one of this kind, below the results folder."""
        return self.files[0].format(**wildcards)

    def made_with(self, path: str) -> tuple[str, ...]:
        """Return all files of the job that makes a (first) file, that one first."""
        if len(self.files) == 1:
            return (path,)
        wildcards = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.files[0].replace(".", r"\.")), path)
        return tuple(file.format(**wildcards.groupdict()) for file in self.files)

    @property
    def pattern(self) -> str:
        """Of the first files of all of this kind, for `pathlib.Path.glob`."""
        return re.sub(r"{\w+}", "*", self.files[0])


def _computed(name: str, one: str, files: tuple[str, ...], **others: Any) -> Kind:
    """Return a kind with a specification."""
    return Kind(name=name, one=one, files=files, **{"group": name, "manifest": one} | others)


def _dataset(spec: Any) -> Files:
    return {"dataset": DATASETS.at(dataset=spec.dataset)}


def _source_roots(spec: DatasetSpec) -> tuple[str, ...]:
    module = {"torchvision": "torchvision_cifar"}.get(spec.source, spec.source)
    return "elf.stages.prepare_dataset", f"elf.data.sources.{module}"


DATASETS = _computed(
    "datasets",
    "dataset",
    (f"datasets/{{dataset}}/{IMAGES}", "datasets/{dataset}/card.json"),
    rule="prepare_dataset",
    command="prepare-dataset",
    roots=_source_roots,
    spec=DatasetSpec,
    collection="datasets",
    path=lambda spec: f"{spec.folder}/{IMAGES}",
    making="preparing data",
)

EXPERTS = _computed(
    "experts",
    "expert",
    ("experts/{dataset}/{buffer}/expert{index}.safetensors",),
    rule="train_expert",
    command="train-expert",
    roots=lambda spec: ("elf.stages.train_expert", parse(spec.network).module),
    manifest="expert trajectory",
    spec=ExpertSpec,
    collection="experts",
    inputs=_dataset,
    making="training experts",
)


def experts_of(spec: SyntheticSpec) -> list[str]:
    """Return the trajectories that a synthetic set is made from, in the order of their index; most have none."""
    buffer = {"dataset": spec.dataset, "buffer": buffer_name(spec.network, spec.held_out_per_class)}
    return [EXPERTS.at(index=index, **buffer) for index in range(int(spec.recipe.get("experts", 0)))]


def _set_inputs(spec: SyntheticSpec) -> Files:
    return {**_dataset(spec), **{f"expert {index}": path for index, path in enumerate(experts_of(spec))}}


def _set_given(spec: SyntheticSpec) -> Files:
    return {"imported set": str(spec.recipe["file"])} if spec.module == "imported" else {}


def _method_roots(spec: SyntheticSpec) -> tuple[str, ...]:
    roots = ["elf.stages.distill", f"elf.distillation.{spec.module}"]
    roots += [parse(spec.network).module] if spec.network else []
    if "experts" in spec.recipe:
        roots.append("elf.artifacts.experts")
    if spec.module == "imported":
        roots.append("elf.importing.using")
    if spec.recipe.get("selection", "final") != "final":
        roots.append("elf.distillation.selection")
        if spec.module == "frepo":
            roots += ["elf.frepo_evaluation", "elf.objectives.frepo"]
    return tuple(roots)


SETS = _computed(
    "synthetic sets",
    "synthetic set",
    (f"synthetic/{{dataset}}/{{synthetic_set}}/{IMAGES}",),
    rule="distill",
    command="distill",
    roots=_method_roots,
    spec=SyntheticSpec,
    collection="synthetic_sets",
    path=lambda spec: f"{spec.folder}/{IMAGES}",
    inputs=_set_inputs,
    given=_set_given,
    making="making synthetic sets",
)


def _set_of(spec: FeaturesSpec | EvaluationSpec) -> Files:
    return {"synthetic set": SETS.at(dataset=spec.dataset, synthetic_set=spec.synthetic_set)}


def _teacher_roots(spec: TeacherSpec) -> tuple[str, ...]:
    return "elf.stages.train_teacher", parse(spec.network).module


TRAININGS = _computed(
    "teacher trainings",
    "teacher training",
    ("teachers/{dataset}/{network}/training.safetensors",),
    # Its checkpoints are jobs, of which the first trains for all; rules/teachers.smk says why.
    rule=None,
    command="train-teacher",
    roots=_teacher_roots,
    spec=TeacherSpec,
    collection="teachers",
    path=lambda spec: f"{spec.folder}/training.safetensors",
    inputs=_dataset,
)
CHECKPOINTS = _computed(
    "teacher checkpoints",
    "teacher",
    ("teachers/{dataset}/{network}/epoch{epoch}.safetensors",),
    rule="train_teacher",
    command="keep-checkpoint",
    roots=_teacher_roots,
    manifest="teacher checkpoint",
    spec=TeacherSpec,
    # One for each epoch that the grid asks for.
    collection=None,
    inputs=_dataset,
    making="training teachers",
    is_brief=True,
)


def checkpoint_of(spec: FeaturesSpec | EvaluationSpec) -> str:
    """Return the state of the teacher whose view of a synthetic set is asked for."""
    return CHECKPOINTS.at(dataset=spec.dataset, network=spec.teacher_network, epoch=spec.teacher_epoch)


FEATURES = _computed(
    "features",
    "features",
    ("features/{dataset}/{synthetic_set}/{network}-epoch{epoch}.safetensors",),
    rule="extract_features",
    command="extract-features",
    roots=lambda spec: ("elf.stages.extract_features", parse(spec.teacher_network).module),
    spec=FeaturesSpec,
    collection="features",
    inputs=lambda spec: {**_set_of(spec), "teacher": checkpoint_of(spec)},
    making="extracting features",
)


def _evaluation_inputs(spec: EvaluationSpec) -> Files:
    inputs = {**_dataset(spec), **_set_of(spec)}
    if not spec.objective.needs_teacher:
        return inputs
    teacher = {"network": spec.teacher_network, "epoch": spec.teacher_epoch}
    return inputs | {"features": FEATURES.at(dataset=spec.dataset, synthetic_set=spec.synthetic_set, **teacher)}


def _evaluation_roots(spec: EvaluationSpec) -> tuple[str, ...]:
    roots = "elf.stages.evaluate", f"elf.objectives.{spec.objective.name}", parse(spec.network).module
    return (*roots, "elf.frepo_evaluation") if spec.objective.name == "frepo" else roots


EVALUATIONS = _computed(
    "evaluations",
    "evaluation",
    ("evaluations/{dataset}/{synthetic_set}/{network}/{cell}/{shard}.parquet",),
    rule="evaluate",
    command="evaluate",
    roots=_evaluation_roots,
    manifest="evaluation shard",
    spec=EvaluationSpec,
    collection="evaluations",
    inputs=_evaluation_inputs,
    making="evaluations",
)


def _shown(name: str, files: tuple[str, ...], rule: str, stage: str, **others: Any) -> Kind:
    """Return a kind that takes seconds, made by one command whose module has its name."""
    roots = {"roots": lambda about: (f"elf.stages.{stage}",), "group": DRAWN, "is_brief": True}
    return Kind(name, name, files, rule, stage.replace("_", "-"), **roots | others)


def _four(folder: str, wildcard: str, endings: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{{{wildcard}}}.{ending}" for ending in endings.split())


PRINTED = "elf/results/paper/*.csv"
"""The numbers that the paper prints."""

SHEETS = _shown(
    "contact sheets", ("synthetic/{dataset}/{synthetic_set}/contact_sheet.png",), "draw_contact_sheet", "contact_sheet"
)
RESULTS = _shown("results", ("results.parquet",), "collect_results", "collect", group=COLLECTED, manifest="results")
OF_EXPERIMENTS = _shown(
    "results of an experiment",
    ("collected/{experiment}.parquet",),
    "collect_experiment",
    "collect",
    group=COLLECTED,
    manifest="results",
)
TABLES = _shown(
    "tables",
    _four("tables", "table", "md tex csv html"),
    "draw_table",
    "table",
    shows=("elf/results/templates/table.html.j2",),
)
FIGURES = _shown(
    "figures",
    _four("figures", "figure", "pdf png svg csv"),
    "draw_figure",
    "figure",
    roots=lambda name: ("elf.stages.figure", f"elf.results.{name}"),
)
VERDICTS = _shown(
    "verdicts",
    ("verdicts/comparison.csv", "verdicts/comparison.md", "verdicts/claims.md", "verdicts/audit.md"),
    "compare_with_paper",
    "verdicts",
    shows=(PRINTED,),
)
REPORT = _shown(
    "report", ("report/index.html",), "write_report", "report", shows=(PRINTED, "elf/results/templates/*.j2")
)

KINDS = {
    kind.name: kind
    for kind in (
        *(DATASETS, EXPERTS, SETS, TRAININGS, CHECKPOINTS, FEATURES, EVALUATIONS),
        *(OF_EXPERIMENTS, RESULTS, SHEETS, TABLES, FIGURES, VERDICTS, REPORT),
    )
}
"""By name."""
