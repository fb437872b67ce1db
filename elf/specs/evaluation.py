"""What determines an evaluation: a network trained on a synthetic set, tested on real images."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from elf.specs.base import Spec
from elf.specs.objective import Objective
from elf.specs.training import FrepoRecipe, TrainingRecipe


def _recipe_kind(recipe) -> str:
    steps = "steps" in recipe if isinstance(recipe, dict) else isinstance(recipe, FrepoRecipe)
    return "FrepoRecipe" if steps else "TrainingRecipe"


FEW_IMAGES = 16
"""Largest batch that does not fill a GPU: an H100 took half the time for five ConvNets at once on 10 images, 0.85 of it
on 20, and more on 50."""


class EvaluationSpec(Spec):
    """One cell of a table, for the seeds of one shard.

    Attributes
    ----------
    dataset, synthetic_set : str
        The synthetic set, by dataset and name.
    network : str
        Evaluation network.
    objective : Objective
        What is minimised.
    teacher_network, teacher_epoch : str and int, or None
        The teacher checkpoint that the features come from.
    recipe : TrainingRecipe or FrepoRecipe
        Protocol of the paper's evaluations; for an objective that says so that of FrePo.
    changed : tuple of str
        Hyper-parameters of it that an experiment has changed from what the scale has.
    seeds : tuple of int
        One network is trained and tested for each.
    seeds_at_once : {"auto", "always", "never"}
        Whether the networks of all seeds are trained at once; ``auto``: on a GPU, where a batch has few images.
        Results differ by rounding.
    """

    dataset: str
    synthetic_set: str
    network: str
    objective: Objective
    teacher_network: str | None = None
    teacher_epoch: int | None = None
    recipe: Annotated[
        Annotated[TrainingRecipe, Tag("TrainingRecipe")] | Annotated[FrepoRecipe, Tag("FrepoRecipe")],
        Discriminator(_recipe_kind),
    ]
    changed: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field(min_length=1)
    seeds_at_once: Literal["auto", "always", "never"] = "auto"

    @model_validator(mode="after")
    def _check_protocol(self) -> Self:
        if (self.objective.about.RECIPE == "frepo-evaluation") != isinstance(self.recipe, FrepoRecipe):
            raise ValueError(
                f"the objective {self.objective.name} cannot be trained with a {type(self.recipe).__name__}"
            )
        return self

    def wants_seeds_at_once(self, images: int, *, on_gpu: bool) -> bool:
        """Return whether the networks of all seeds are to be trained at once on so many synthetic images."""
        if len(self.seeds) == 1 or self.seeds_at_once == "never":
            return False
        few = min(images, self.recipe.batch_size) <= FEW_IMAGES
        return self.seeds_at_once == "always" or (on_gpu and few)

    @property
    def training_variant(self) -> str | None:
        """What tells the training from that of the scale, but for its learning rate, which every path and row has."""
        values = {key: getattr(self.recipe, key) for key in self.changed if key != "lr"}
        marks = (f"{key}-{value}" if isinstance(value, str) else f"{key}{value:g}" for key, value in values.items())
        return "-".join(marks) or None

    @property
    def path(self) -> PurePosixPath:
        """Where the shard lies below the results folder."""
        parts = [self.objective.slug]
        if self.objective.needs_teacher:
            parts.append(f"{self.teacher_network}-epoch{self.teacher_epoch}")
        parts.append(f"lr{self.recipe.lr:g}")
        if self.recipe.precision != "float32" and "precision" not in self.changed:
            parts.append(self.recipe.precision)
        if self.training_variant is not None:
            parts.append(self.training_variant)
        shard = f"seeds{self.seeds[0]}-{self.seeds[-1]}.parquet"
        # ':' of torchvision's names would be awkward in file names.
        network = self.network.replace(":", "-")
        return PurePosixPath("evaluations", self.dataset, self.synthetic_set, network, "-".join(parts), shard)
