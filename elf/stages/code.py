"""Which code an artifact depends on; the rules, the jobs themselves and `elf plan` ask here."""

from functools import partial

from elf.fingerprint import fingerprint
from elf.specs.base import Spec
from elf.specs.kinds import CHECKPOINTS, DATASETS, EVALUATIONS, EXPERTS, FEATURES, SETS, Kind


def code_of(kind: Kind, about: Spec | str | None = None) -> str:
    """Return the fingerprint of what makes an artifact.

    Parameters
    ----------
    kind : Kind
        Says from which modules its code starts.
    about : Spec, str or None
        Its specification, or the name of the table or figure.
    """
    return fingerprint(*kind.roots(about))


prepare_dataset_code = partial(code_of, DATASETS)
distill_code = partial(code_of, SETS)
train_expert_code = partial(code_of, EXPERTS)
train_teacher_code = partial(code_of, CHECKPOINTS)
extract_features_code = partial(code_of, FEATURES)
evaluate_code = partial(code_of, EVALUATIONS)
