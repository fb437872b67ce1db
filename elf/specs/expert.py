"""What determines an expert trajectory."""

from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from elf.specs.base import Spec
from elf.specs.training import TrainingRecipe


class ExpertRecipe(TrainingRecipe):
    """How an expert is trained, and how its snapshots are stored.

    Attributes
    ----------
    storage : {"float32", "bfloat16"}
        Number format of the stored parameters; bfloat16 halves the space and keeps 8 bits of the mantissa.
    """

    storage: Literal["float32", "bfloat16"]


class ExpertSpec(Spec):
    """One training on the real images, whose parameters after some epochs are a trajectory to be matched.

    Attributes
    ----------
    dataset, network : str
        Training data and architecture.
    index : int
        Which of the experts; it is the seed of initialisation, order and augmentation.
    epochs : tuple of int
        Completed epochs at which the parameters are kept; 0 is the initial state. Training stops after the last.
    held_out_per_class : int
        Last images of each class that the expert does not see, because synthetic sets are selected on them.
    recipe : ExpertRecipe
    """

    dataset: str
    network: str
    index: int = Field(ge=0)
    epochs: tuple[int, ...] = Field(min_length=1)
    held_out_per_class: int = Field(default=0, ge=0)
    recipe: ExpertRecipe

    @property
    def folder(self) -> PurePosixPath:
        """Where the experts of one buffer lie below the results folder."""
        return PurePosixPath("experts", self.dataset, buffer_name(self.network, self.held_out_per_class))

    @property
    def path(self) -> PurePosixPath:
        """Where the trajectory lies below the results folder."""
        return self.folder / f"expert{self.index}.safetensors"


def buffer_name(network: str | None, held_out_per_class: int) -> str:
    """Return what the experts of one network that see the same images are called together."""
    return f"{network}-without{held_out_per_class}" if held_out_per_class else f"{network}"


def snapshots(max_start_epoch: int, expert_epochs: int) -> tuple[int, ...]:
    """Return the epochs that trajectory matching can read: every start, and what lies ``expert_epochs`` after it."""
    starts = range(max_start_epoch)
    return tuple(sorted({*starts, *(start + expert_epochs for start in starts)}))
