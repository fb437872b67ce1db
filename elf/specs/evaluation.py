"""What determines an evaluation: a network trained on a synthetic set, tested on real images."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from elf.specs.base import Spec
from elf.specs.labels import TAKES, UNCHANGED, refusal
from elf.specs.training import FrepoRecipe, TrainingRecipe

ELF_TERMS = ("front+rear+task", "rear+task", "front+task", "front+rear")


class Objective(Spec):
    """What is minimised while the evaluation network is trained; a module of ``elf/objectives``.

    Attributes
    ----------
    name : {"task", "elf", "kd", "frepo", "squared"}
        ``task`` is the baseline, ``elf`` the method of the paper, ``kd`` plain logit distillation, ``frepo`` the
        squared loss of FrePo, which comes with a training protocol of its own, ``squared`` the same loss in the
        protocol of the paper.
    terms : str or None
        Loss terms of ``elf`` (Table 9 of the paper); ``front+rear+task`` is ELF itself.
    distance : str or None
        Distance between feature maps in ``elf`` (Table 12).
    lambda_front, lambda_rear : float or None
        Weights of Equation 9.
    temperature, weight : float or None
        Of ``kd``.
    labels : {"unchanged"} or None
        Whether learned labels enter the loss as they are, whatever their kind: so the official evaluator of ELF feeds
        FrePo's regression targets to the cross-entropy, which has no lowest value then. None: as
        `elf.specs.labels.TAKES` says, which refuses kinds that the loss is not made for.
    """

    name: Literal["task", "elf", "kd", "frepo", "squared"]
    terms: Literal[ELF_TERMS] | None = None
    distance: Literal["ce", "mae", "mse", "cos"] | None = None
    lambda_front: float | None = Field(default=None, ge=0)
    lambda_rear: float | None = Field(default=None, ge=0)
    variant: Literal["official", "paper"] | None = None
    temperature: float | None = Field(default=None, gt=0)
    weight: float | None = Field(default=None, ge=0)
    # Left out where it says nothing, so that what was made before it could be said stays what it is.
    labels: Literal["unchanged"] | None = Field(default=None, exclude_if=lambda value: value is None)

    def refusal(self, kind: str) -> str | None:
        """Return why labels of a kind of `elf.specs.labels.KINDS` are not taken, and what to do; None if they are."""
        return None if self.labels == "unchanged" and kind != "hard" else refusal(self.name, kind)

    def use_of(self, kind: str) -> str:
        """Return as what labels of a kind that is taken enter the loss."""
        return "unchanged" if self.labels == "unchanged" and kind != "hard" else TAKES[self.name][kind]

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher's features or logits enter the loss."""
        return self.name in ("elf", "kd")

    @property
    def label(self) -> str:
        """Name in results and tables: ``task``, ``elf``, ``elf[rear+task]``, ``kd``, ``task, labels unchanged``."""
        name = self.name if self.terms in (None, "front+rear+task") else f"{self.name}[{self.terms}]"
        return name + (UNCHANGED if self.labels == "unchanged" else "")

    @property
    def settings(self) -> dict[str, float | str]:
        """Keyword arguments of the loss function."""
        return self.model_dump(exclude={"name", "labels"}, exclude_none=True)

    @property
    def slug(self) -> str:
        """Part of a path that tells this objective from every other."""
        return self._own_slug + ("-labels-unchanged" if self.labels == "unchanged" else "")

    @property
    def _own_slug(self) -> str:
        if self.name in ("task", "frepo", "squared"):
            return self.name
        if self.name == "kd":
            return f"kd-temperature{self.temperature:g}-weight{self.weight:g}"
        terms = "" if self.terms == "front+rear+task" else f"-{self.terms}"
        variant = "" if self.variant == "official" else f"-{self.variant}"
        return f"elf{terms}-{self.distance}-front{self.lambda_front:g}-rear{self.lambda_rear:g}{variant}"


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
        Protocol of the paper's evaluations; for the objective ``frepo`` that of FrePo.
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
        if (self.objective.name == "frepo") != isinstance(self.recipe, FrepoRecipe):
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
