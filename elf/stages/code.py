"""Which code each stage depends on; the rules and the jobs themselves ask here.

Modules that a stage imports by name at run time (method, objective, network family, data source) are named
as roots of their own, so that an edit makes stale only the results of that method, objective, family or source.
"""

from elf.fingerprint import fingerprint
from elf.networks.names import parse
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec


def prepare_dataset_code(spec: DatasetSpec) -> str:
    """Return the fingerprint of what prepares this dataset."""
    module = {"torchvision": "torchvision_cifar"}.get(spec.source, spec.source)
    return fingerprint("elf.stages.prepare_dataset", f"elf.data.sources.{module}")


def distill_code(spec: SyntheticSpec) -> str:
    """Return the fingerprint of what makes this synthetic set."""
    roots = [parse(spec.network).module] if spec.network else []
    if "experts" in spec.recipe:
        roots.append("elf.artifacts.experts")
    if spec.module == "imported":
        roots += ["elf.importing.using", "elf.objectives.labels"]
    if spec.recipe.get("selection", "final") != "final":
        roots.append("elf.distillation.selection")
        if spec.module == "frepo":
            roots += ["elf.frepo_evaluation", "elf.objectives.frepo"]
    return fingerprint("elf.stages.distill", f"elf.distillation.{spec.module}", *roots)


def train_expert_code(spec: ExpertSpec) -> str:
    """Return the fingerprint of what trains this expert."""
    return fingerprint("elf.stages.train_expert", parse(spec.network).module)


def train_teacher_code(spec: TeacherSpec) -> str:
    """Return the fingerprint of what trains this teacher."""
    return fingerprint("elf.stages.train_teacher", parse(spec.network).module)


def extract_features_code(spec: FeaturesSpec) -> str:
    """Return the fingerprint of what extracts these features."""
    return fingerprint("elf.stages.extract_features", parse(spec.teacher_network).module)


def evaluate_code(spec: EvaluationSpec) -> str:
    """Return the fingerprint of what makes this evaluation."""
    roots = [f"elf.objectives.{spec.objective.name}", parse(spec.network).module]
    if spec.objective.name == "frepo":
        roots.append("elf.frepo_evaluation")
    return fingerprint("elf.stages.evaluate", *roots)
