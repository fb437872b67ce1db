"""What determines a synthetic set."""

from pathlib import PurePosixPath

from pydantic import Field

from elf.specs.base import Spec
from elf.specs.labels import kind_of_recipe

RecipeValue = bool | int | float | str


class SyntheticSpec(Spec):
    """A few images per class, made by a distillation method.

    Attributes
    ----------
    dataset : str
        Name of the dataset that is distilled.
    method : str
        Name of the recipe.
    module : str
        Module in ``elf/distillation`` that makes the set.
    variant : str or None
        What tells the set from one of the method as its recipe stands: part of the name, and shown in tables.
    network : str or None
        Distillation network; None for methods that use none, such as ``random``.
    ipc : int
        Images per class.
    seed : int
        Seed of the distillation.
    recipe : dict
        Hyper-parameters of the method, from ``config/recipes/<method>.yaml``.
    """

    dataset: str
    method: str
    module: str = Field(pattern="^[a-z][a-z0-9_]*$")
    variant: str | None = None
    network: str | None
    ipc: int = Field(ge=1)
    seed: int = Field(ge=0)
    recipe: dict[str, RecipeValue]

    @property
    def name(self) -> str:
        """Name of the set among those of its dataset."""
        parts = [self.method, self.network, f"ipc{self.ipc}", self.variant, f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    @property
    def label_kind(self) -> str:
        """Kind of the labels, see `elf.specs.labels.KINDS`."""
        return kind_of_recipe(self.module, self.recipe)

    @property
    def held_out_per_class(self) -> int:
        """Training images of each class that the method does not see, because candidates are scored on them."""
        return int(self.recipe["validation_per_class"]) if self.recipe.get("selection") == "validation" else 0

    @property
    def folder(self) -> PurePosixPath:
        """Where the set lies below the results folder."""
        return PurePosixPath("synthetic", self.dataset, self.name)
