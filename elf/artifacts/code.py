"""Which code an artifact depends on; the rules, the jobs themselves and `elf plan` ask here."""

from functools import partial

from elf.artifacts.fingerprint import fingerprint
from elf.specs.base import Spec
from elf.specs.kinds import CHECKPOINTS, DATASETS, EVALUATIONS, EXPERTS, FEATURES, OF_EXPERIMENTS, SETS, Kind


def code_of(kind: Kind, about: Spec | str | None = None) -> str:
    """Return the fingerprint of what makes an artifact.

    Parameters
    ----------
    kind : Kind
        Says from which definitions its code starts, and what of them is never called.
    about : Spec, str or None
        Its specification, or the name of the table or figure.
    """
    return fingerprint(*kind.roots(about), without=kind.without(about))


prepare_dataset_code = partial(code_of, DATASETS)
distill_code = partial(code_of, SETS)
train_expert_code = partial(code_of, EXPERTS)
train_teacher_code = partial(code_of, CHECKPOINTS)
extract_features_code = partial(code_of, FEATURES)
evaluate_code = partial(code_of, EVALUATIONS)
collect_code = partial(code_of, OF_EXPERIMENTS)


def export_code() -> str:
    """Return the fingerprint of what writes a set for other code."""
    return fingerprint("elf.stages.export:main")


def import_code() -> str:
    """Return the fingerprint of what takes in files of other code."""
    return fingerprint("elf.stages.import_files:main")
