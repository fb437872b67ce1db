"""What determines a teacher: a network trained on the full real data."""

from pathlib import PurePosixPath

from pydantic import Field

from elf.specs.base import Spec
from elf.specs.training import TrainingRecipe

FULL_DATA = "full-data"
"""What stands in the column of the methods where a network was trained on all real images."""


class TeacherSpec(Spec):
    """One training run on a dataset, of which the grid asks for some checkpoints.

    Attributes
    ----------
    dataset, network : str
        Training data and architecture.
    seed : int
        Seed of initialisation, order and augmentation.
    recipe : TrainingRecipe
        Protocol of the paper's section on feature models. Training stops after the last checkpoint
        that is asked for, which changes none of those before it.
    """

    dataset: str
    network: str
    seed: int = Field(ge=0)
    recipe: TrainingRecipe

    @property
    def folder(self) -> PurePosixPath:
        """Where the checkpoints lie below the results folder."""
        return PurePosixPath("teachers", self.dataset, self.network)

    def checkpoint(self, epoch: int) -> PurePosixPath:
        """Path of the state after ``epoch`` completed epochs."""
        return self.folder / f"epoch{epoch}.safetensors"
