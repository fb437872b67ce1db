"""From the labels of a synthetic set to what enters a loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from elf.errors import ElfError
from elf.specs.labels import EARLIER, SOFTMAX, kind_of_recipe
from elf.specs.objective import Objective


def label_kind(path: Path, manifest: Mapping[str, Any], labels: Tensor) -> str:
    """Return the kind of the labels of a set, see `elf.specs.labels.KINDS`, by its manifest.

    Parameters
    ----------
    path : Path
        Of the set, for messages.
    manifest : dict
        Of kind "synthetic set", "imported set" or "exported set"; where it does not say the kind, the method does.
    labels : Tensor of shape (n,) or (n, classes)

    Raises
    ------
    ElfError
        If the manifest and the shape of the labels do not agree, or an earlier import did not tell the kind.
    """
    spec = manifest["spec"]
    said = spec.get("labels") or kind_of_recipe(spec.get("module"), spec.get("recipe"))
    kind = EARLIER.get(said, said)
    if (kind == "hard") != (labels.dim() == 1) or kind is None:
        raise ElfError(
            f"{path}: its labels have the shape {tuple(labels.shape)} and are said to be {said}; import or make it "
            "again, with 'elf import --labels' if it is of other code"
        )
    return kind


def entering(labels: Tensor, objective: Objective, kind: str) -> Tensor:
    """Return labels as they enter the loss of an objective.

    Parameters
    ----------
    labels : Tensor, int64 of shape (n,) or floating point of shape (n, classes)
    objective : Objective
    kind : str
        Of the labels.

    Raises
    ------
    ElfError
        If the objective does not take labels of the kind.
    """
    if (refusal := objective.refusal(kind)) is not None:
        raise ElfError(refusal)
    if objective.use_of(kind) == SOFTMAX:
        return labels.double().softmax(dim=1).to(labels.dtype)
    return labels
