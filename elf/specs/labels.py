"""Kinds of labels, and what losses do with them; read by the Snakefile, so without PyTorch."""

from collections.abc import Mapping
from typing import Literal, get_args

LabelKind = Literal["hard", "probabilities", "logits", "regression"]
KINDS: tuple[str, ...] = get_args(LabelKind)
"""``hard``: classes. ``probabilities``: rows from 0 on that sum to 1. ``logits``: rows whose softmax these are.
``regression``: rows that the output of a network comes near to by its squared distance."""

SOFTMAX, AS_THEY_ARE = "their softmax", "as they are"

CROSS_ENTROPY = {"hard": AS_THEY_ARE, "probabilities": AS_THEY_ARE, "logits": SOFTMAX}
SQUARED = {"hard": "centred, 1 - 1/K for the class and -1/K for each other", "regression": AS_THEY_ARE}
"""For the usual losses the kinds of labels that they take, and as what these enter."""

UNCHANGED = ", labels unchanged"
"""What the name of an objective ends in where labels enter its loss that it is not made for."""

EARLIER = {"soft": "probabilities", "centred": "regression", "real-valued": None}
"""What imports called the kinds before; ``real-valued`` may have been any."""


def kind_of_recipe(module: str | None, recipe: Mapping[str, object] | None) -> str:
    """Return the kind of labels of a synthetic set, which its method and its recipe determine.

    Parameters
    ----------
    module : str or None
        Module in ``elf/distillation``.
    recipe : dict or None
        For the module ``imported``, ``labels`` names the kind of labels that are not hard.
    """
    recipe = recipe or {}
    if module == "frepo":
        return "regression"
    if module == "tesla":
        return "probabilities" if recipe.get("soft_labels") else "hard"
    return str(recipe.get("labels", "hard"))
