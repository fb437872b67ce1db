"""What counts as code of each kind of file; the rules and the jobs themselves ask here, and nobody else says it.

A kind's code is what its command reaches by name from its ``main``. Two things are declared here, because no syntax
tree tells them: what a command finds by a name that it computes (method, objective, network family, data source,
figure), so that an edit makes stale only what uses it; and what it reaches by name and never calls for a certain
specification, or calls only to tell people something.
"""

from elf.fingerprint import fingerprint
from elf.networks.names import parse
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec

READ_BY_PEOPLE = ("elf.stages.images_distilled:images_distilled", "elf.stages.images_seen:images_trained")
"""Numbers that a manifest shows and nothing is computed from."""

ONLY_PARTIAL = ("elf.stages.collect:rows_of", "elf.stages.results_so_far:results_so_far")
"""What draws from evaluations that are not collected yet, which the workflow never does."""


def prepare_dataset_code(spec: DatasetSpec) -> str:
    """Return the fingerprint of what prepares this dataset."""
    module = {"torchvision": "torchvision_cifar"}.get(spec.source, spec.source)
    return fingerprint("elf.stages.prepare_dataset:main", f"elf.data.sources.{module}:read")


def distill_code(spec: SyntheticSpec) -> str:
    """Return the fingerprint of what makes this synthetic set."""
    without = [*READ_BY_PEOPLE]
    if "experts" not in spec.recipe:
        without.append("elf.artifacts.experts:ExpertBuffer")
    if spec.module != "imported":
        without.append("elf.importing.using:read_imported")
    if spec.recipe.get("selection", "final") == "final":
        without.append("elf.stages.distill:_selection")
    without.append(f"elf.distillation.selection:{'_by_evaluation' if spec.module == 'frepo' else '_by_frepo'}")
    method = f"elf.distillation.{spec.module}:distill"
    return fingerprint("elf.stages.distill:main", method, *_family(spec.network), without=tuple(without))


def train_expert_code(spec: ExpertSpec) -> str:
    """Return the fingerprint of what trains this expert."""
    return fingerprint("elf.stages.train_expert:main", *_family(spec.network), without=READ_BY_PEOPLE)


def train_teacher_code(spec: TeacherSpec) -> str:
    """Return the fingerprint of what trains this teacher and keeps its checkpoints."""
    mains = ("elf.stages.train_teacher:main", "elf.stages.train_teacher:main_keep")
    return fingerprint(*mains, *_family(spec.network), without=READ_BY_PEOPLE)


def extract_features_code(spec: FeaturesSpec) -> str:
    """Return the fingerprint of what extracts these features."""
    return fingerprint("elf.stages.extract_features:main", *_family(spec.teacher_network), without=READ_BY_PEOPLE)


def evaluate_code(spec: EvaluationSpec) -> str:
    """Return the fingerprint of what makes this evaluation."""
    objective = f"elf.objectives.{spec.objective.name}:loss"
    without = READ_BY_PEOPLE if spec.objective.name == "frepo" else (*READ_BY_PEOPLE, "elf.frepo_evaluation:train")
    return fingerprint("elf.stages.evaluate:main", objective, *_family(spec.network), without=without)


def collect_code() -> str:
    """Return the fingerprint of what collects evaluations."""
    return fingerprint("elf.stages.collect:main")


def contact_sheet_code() -> str:
    """Return the fingerprint of what draws the images of a synthetic set."""
    return fingerprint("elf.stages.contact_sheet:main")


def table_code() -> str:
    """Return the fingerprint of what draws a table."""
    return fingerprint("elf.stages.table:main", without=ONLY_PARTIAL)


def figure_code(name: str) -> str:
    """Return the fingerprint of what draws this figure."""
    return fingerprint("elf.stages.figure:main", f"elf.results.{name}:render", without=ONLY_PARTIAL)


def verdicts_code() -> str:
    """Return the fingerprint of what holds results against the paper."""
    return fingerprint("elf.stages.verdicts:main", without=ONLY_PARTIAL)


def report_code() -> str:
    """Return the fingerprint of what writes the report."""
    return fingerprint("elf.stages.report:main", without=ONLY_PARTIAL)


def export_code() -> str:
    """Return the fingerprint of what writes a set for other code."""
    return fingerprint("elf.stages.export:main")


def import_code() -> str:
    """Return the fingerprint of what takes in files of other code."""
    return fingerprint("elf.stages.import_files:main")


def _family(network: str | None) -> tuple[str, ...]:
    """Return what builds a network; methods that choose real images have none."""
    return (f"{parse(network).module}:build",) if network else ()
