"""What determines features: a synthetic set seen by a teacher checkpoint."""

from pathlib import PurePosixPath

from pydantic import Field

from elf.specs.base import Spec


class FeaturesSpec(Spec):
    """The last feature map and the logits of a teacher for each clean synthetic image.

    Attributes
    ----------
    dataset, synthetic_set : str
        The synthetic set, by dataset and name.
    teacher_network : str
        Architecture of the teacher.
    teacher_epoch : int
        Epochs that the teacher was trained for.
    """

    dataset: str
    synthetic_set: str
    teacher_network: str
    teacher_epoch: int = Field(ge=0)

    @property
    def path(self) -> PurePosixPath:
        """Where the features lie below the results folder."""
        name = f"{self.teacher_network}-epoch{self.teacher_epoch}.safetensors"
        return PurePosixPath("features", self.dataset, self.synthetic_set, name)
