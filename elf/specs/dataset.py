"""What determines a dataset: its source and how pixels become model inputs."""

from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from elf.specs.base import Spec


class DatasetSpec(Spec):
    """Real images with labels, split into a training and a test set.

    Attributes
    ----------
    name : str
        Name in the configuration, for example ``cifar10``; with ``-zca`` or ``-frepo`` behind it when whitened.
    source : str
        How the images are stored; one reader in ``elf/data/sources`` each.
    location : str or None
        Folder below the data folder (``ELF_DATA_DIR``); None for images that come with a library.
    side : int
        Height and width of the images in pixels; other sizes are resized.
    normalisation : str
        Name of the constants (mean and standard deviation per channel), or of a whitening, which ends with
        ``zca``.
    train_per_class, test_per_class : int or None
        Keep only the first images of each class; None keeps all.
    """

    name: str
    source: Literal["digits", "torchvision", "parquet", "folder", "downsampled"]
    location: str | None = None
    side: int = Field(ge=4)
    normalisation: str
    train_per_class: int | None = Field(default=None, ge=1)
    test_per_class: int | None = Field(default=None, ge=1)

    @property
    def folder(self) -> PurePosixPath:
        """Where the dataset lies below the results folder."""
        return PurePosixPath("datasets", self.name)
